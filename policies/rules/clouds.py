"""The clouds' clusters and node pools: their types, their taints, their tags, and the machines of their nodes."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pulumi_policy import ResourceValidationArgs

from rules.rule import at, items

AZURE_CLUSTER = "azure-native:containerservice:ManagedCluster"
AZURE_POOL = "azure-native:containerservice:AgentPool"
AZURE_GATEWAY = "azure-native:network:NatGateway"
AZURE_GROUP = "azure-native:resources:ResourceGroup"
AZURE_STORAGE = "azure-native:storage:StorageAccount"
AZURE_CONTAINER = "azure-native:storage:BlobContainer"
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

UNSAID = "the cloud's own choice"
# Where tags stand that do not stand under that name.
_TAGS: Mapping[str, tuple[str, ...]] = {
    GOOGLE_POOL: ("nodeConfig", "resourceLabels"),
    GOOGLE_CLUSTER: ("resourceLabels",),
    AMAZON_PROVIDER: ("defaultTags", "tags"),
}


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
    place = _TAGS.get(args.resource_type, ("tags",))
    if args.resource_type == AMAZON_PROVIDER:
        return at(_plain(args.props, place[0]), *place[1:])
    return at(args.props, *place)


def _plain(props: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A block of a provider's configuration: to a provider all that is no text goes as JSON."""
    block = props.get(name) or {}
    return json.loads(block) if isinstance(block, str) else block


def sizes(args: ResourceValidationArgs) -> Iterable[str]:
    """The machine types of a pool, or of the pool that is made with a cluster."""
    if args.resource_type == AZURE_CLUSTER:
        return [profile.get("vmSize") for profile in items(args.props, "agentPoolProfiles")]
    if args.resource_type == AMAZON_POOL:
        return items(args.props, "instanceTypes") or [UNSAID]
    key = "vmSize" if args.resource_type == AZURE_POOL else "machineType"
    return [node_config(args).get(key) or UNSAID]
