"""The clouds' clusters and node pools: their types, their taints, their tags, and the machines of their nodes."""

from collections.abc import Iterable, Mapping
from typing import Any

from pulumi_policy import ResourceValidationArgs

from rules.rule import at, items

AZURE_CLUSTER = "azure-native:containerservice:ManagedCluster"
AZURE_POOL = "azure-native:containerservice:AgentPool"
AZURE_GATEWAY = "azure-native:network:NatGateway"
AZURE_GROUP = "azure-native:resources:ResourceGroup"
AZURE_PROVIDER = "pulumi:providers:azure-native"
GOOGLE_CLUSTER = "gcp:container/cluster:Cluster"
GOOGLE_POOL = "gcp:container/nodePool:NodePool"
GOOGLE_NAT = "gcp:compute/routerNat:RouterNat"
AMAZON_CLUSTER = "aws:eks/cluster:Cluster"
AMAZON_POOL = "aws:eks/nodeGroup:NodeGroup"
AMAZON_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
AMAZON_PROVIDER = "pulumi:providers:aws"

CLUSTERS = frozenset({AZURE_CLUSTER, GOOGLE_CLUSTER, AMAZON_CLUSTER})
POOLS = frozenset({AZURE_POOL, GOOGLE_POOL, AMAZON_POOL})

# On each node that is for startds alone.
JOBS_TAINT = "atlas-sites.io/jobs"
SITE_TAG = "atlas-sites-site"
POOL_TAG = "atlas-sites-pool"


SYSTEM = "system"


def for_jobs(args: ResourceValidationArgs) -> bool:
    """Whether a pool is one of startds: on AKS its mode says so, elsewhere the tag of the pool."""
    if args.resource_type == AZURE_POOL:
        return bool(args.props.get("mode") != "System")
    return tags(args).get(POOL_TAG) not in {None, SYSTEM}


def node_config(args: ResourceValidationArgs) -> Mapping[str, Any]:
    """Where a pool says what its nodes are: GKE has a block for it, the others have not."""
    return at(args.props, "nodeConfig") if args.resource_type == GOOGLE_POOL else args.props


def taints(args: ResourceValidationArgs) -> Iterable[str]:
    """The keys of the taints of a pool's nodes."""
    if args.resource_type == AZURE_POOL:
        return [str(taint).split("=", 1)[0] for taint in items(args.props, "nodeTaints")]
    return [str(taint["key"]) for taint in items(node_config(args), "taints")]


def tags(args: ResourceValidationArgs) -> Mapping[str, Any]:
    """By which the cloud's bill tells one resource from another."""
    match args.resource_type:
        case "gcp:container/nodePool:NodePool":
            return at(args.props, "nodeConfig", "resourceLabels")
        case "gcp:container/cluster:Cluster":
            return at(args.props, "resourceLabels")
        case "pulumi:providers:aws":
            return at(args.props, "defaultTags", "tags")
    return at(args.props, "tags")


def sizes(args: ResourceValidationArgs) -> Iterable[str]:
    """The machine types of a pool, or of the pool that is made with a cluster."""
    match args.resource_type:
        case "azure-native:containerservice:ManagedCluster":
            return [profile.get("vmSize") for profile in items(args.props, "agentPoolProfiles")]
        case "azure-native:containerservice:AgentPool":
            return [args.props.get("vmSize") or "the cloud's own choice"]
        case "gcp:container/nodePool:NodePool":
            return [at(args.props, "nodeConfig").get("machineType") or "the cloud's own choice"]
    return items(args.props, "instanceTypes") or ["the cloud's own choice"]
