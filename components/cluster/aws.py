"""EKS with node groups of ours: a cluster in a network of its own, with images and emptyDir on nodes' local disks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi_aws import eks

from components import naming
from components.after import id_of
from components.cluster import aws_autoscaler, aws_nodes, aws_pools, aws_roles
from components.cluster.aws_kubeconfig import kubeconfig
from components.cluster.aws_network import NodeNetwork, node_network
from components.cluster.aws_pools import AmazonJobPool
from components.cluster.aws_roles import Role
from components.cluster.cluster import Cluster
from components.cluster.plan import ClusterArgs
from components.labels import cost_tags

__all__ = ["AmazonCluster", "AmazonClusterArgs", "AmazonJobPool"]

# What makes a machine a node of the cluster, and so must be there before nodes are.
BEFORE_NODES: Mapping[str, str | None] = {
    "vpc-cni": json.dumps(
        {
            "enableNetworkPolicy": "true",
            # Else a node takes twice as many addresses as it has pods.
            "env": {"MINIMUM_IP_TARGET": "10", "WARM_IP_TARGET": str(aws_nodes.SPARE_ADDRESSES)},
        },
        sort_keys=True,
    ),
    "kube-proxy": None,
    "eks-pod-identity-agent": None,
}
# What is not well before there are nodes to run it.
ON_NODES = "coredns"
# All rights on the cluster, and none on anything else.
ADMINISTRATOR = "eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


@dataclass(frozen=True, kw_only=True)
class AmazonClusterArgs(ClusterArgs):
    """An EKS cluster.

    Attributes:
        account: its number, of 12 digits.
        zone: in which all nodes are.
        second_zone: EKS makes no cluster in one zone.
        admins: ARNs of the roles and users who administer the cluster.
        autoscaler_image: of the cluster-autoscaler, by digest.
        job_pools: for startds.
    """

    account: str
    zone: str
    second_zone: str
    admins: Sequence[str]
    autoscaler_image: str
    job_pools: Sequence[AmazonJobPool]


class AmazonCluster(Cluster):
    """An EKS cluster."""

    def __init__(self, name: str, args: AmazonClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:cluster:AmazonCluster", name, None, opts)
        amazon = aws.Provider(
            f"{name}-aws",
            region=args.region,
            allowed_account_ids=[args.account],
            default_tags=aws.ProviderDefaultTagsArgs(tags=cost_tags(args.site)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        own = pulumi.ResourceOptions(parent=self, provider=amazon)
        network = node_network(name, args.site, args.region, args.network, (args.zone, args.second_zone), own)
        own_cluster, own_nodes, own_autoscaler = (
            aws_roles.role(name, args.site, args.account, args.region, part, own)
            for part in (aws_roles.CLUSTER, aws_roles.NODES, aws_roles.AUTOSCALER)
        )
        cluster = _cluster(name, args, network, own_cluster, own)
        admins = [_admin(name, args, admin, _after(own, cluster)) for admin in args.admins]
        before = [_addon(name, args.site, addon, _after(own, cluster)) for addon in BEFORE_NODES]
        home = aws_pools.Home(
            site=args.site, role=own_nodes.arn, subnet=id_of(network.nodes), version=args.kubernetes_version
        )
        # Nodes cannot register before their role may, nor without addresses for pods, nor pull images with no way out.
        ready = _after(own, cluster, *own_nodes.needs, *before, *network.way_out)
        system = aws_pools.system_pool(name, home, args.system_pool, ready)
        on_nodes = _addon(name, args.site, ON_NODES, _after(own, system))
        pools = [aws_pools.job_pool(name, home, pool, ready) for pool in args.job_pools]
        self.region = args.region
        self.pools = [aws_pools.facts(pool) for pool in args.job_pools]
        needs = [cluster, system, on_nodes, *pools, *admins, *network.way_out]
        self.reach(name, _access(args, cluster), f"{args.site}-cluster", needs=needs)
        groups = [aws_pools.group_of(pool) for pool in pools]
        hints = [
            hint
            for pool, made, group in zip(args.job_pools, pools, groups, strict=True)
            for hint in aws_pools.hints(name, pool, group, _after(own, made))
        ]
        identity = eks.PodIdentityAssociation(
            f"{name}-autoscaler-identity",
            cluster_name=naming.amazon(args.site),
            namespace=aws_autoscaler.NAMESPACE,
            service_account=aws_autoscaler.NAME,
            role_arn=own_autoscaler.arn,
            opts=_after(own, cluster, *own_autoscaler.needs),
        )
        aws_autoscaler.Autoscaler(
            f"{name}-autoscaler",
            aws_autoscaler.AutoscalerArgs(
                site=args.site,
                region=args.region,
                image=args.autoscaler_image,
                pools=list(zip(args.job_pools, groups, strict=True)),
                drain_seconds=args.drain_seconds,
            ),
            self.on_it(self),
            needs=[identity, *hints],
        )
        self.register_outputs({"kubeconfig": self.kubeconfig, "region": self.region})


def _cluster(
    name: str, args: AmazonClusterArgs, network: NodeNetwork, role: Role, own: pulumi.ResourceOptions
) -> eks.Cluster:
    options = pulumi.ResourceOptions(protect=True, depends_on=list(role.needs), delete_before_replace=True)
    return eks.Cluster(
        f"{name}-eks",
        name=naming.amazon(args.site),
        role_arn=role.arn,
        version=args.kubernetes_version,
        vpc_config=eks.ClusterVpcConfigArgs(
            subnet_ids=[id_of(network.nodes), id_of(network.second)],
            endpoint_public_access=True,
            public_access_cidrs=list(args.authorized_networks),
            # Nodes come from within, and need not be among the networks.
            endpoint_private_access=True,
        ),
        # Whoever makes the cluster is no administrator for that alone: those are whom the stack names.
        access_config=eks.ClusterAccessConfigArgs(
            authentication_mode="API", bootstrap_cluster_creator_admin_permissions=False
        ),
        kubernetes_network_config=eks.ClusterKubernetesNetworkConfigArgs(
            ip_family="ipv4", service_ipv4_cidr=aws_nodes.SERVICES_NETWORK
        ),
        # The add-ons are ours to name.
        bootstrap_self_managed_addons=False,
        # EKS's own choice is extended support, whose control plane costs six times as much.
        upgrade_policy=eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
        deletion_protection=True,
        tags=cost_tags(args.site),
        opts=pulumi.ResourceOptions.merge(own, options),
    )


def _admin(name: str, args: AmazonClusterArgs, admin: str, own: pulumi.ResourceOptions) -> eks.AccessPolicyAssociation:
    label = naming.checksum(admin)
    entry = eks.AccessEntry(
        f"{name}-admin-{label}",
        cluster_name=naming.amazon(args.site),
        principal_arn=admin,
        type="STANDARD",
        opts=own,
    )
    return eks.AccessPolicyAssociation(
        f"{name}-admin-{label}-rights",
        cluster_name=naming.amazon(args.site),
        principal_arn=admin,
        policy_arn=f"arn:{aws_roles.partition(args.region)}:{ADMINISTRATOR}",
        access_scope=eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
        opts=_after(own, entry),
    )


def _addon(name: str, site: str, addon: str, own: pulumi.ResourceOptions) -> eks.Addon:
    return eks.Addon(
        f"{name}-addon-{addon}",
        cluster_name=naming.amazon(site),
        addon_name=addon,
        configuration_values=BEFORE_NODES.get(addon),
        resolve_conflicts_on_create="OVERWRITE",
        resolve_conflicts_on_update="OVERWRITE",
        opts=own,
    )


def _access(args: AmazonClusterArgs, cluster: eks.Cluster) -> pulumi.Output[str]:
    """How it is reached; an empty text of a cluster that could not be made, and so tells nothing of itself."""
    authority = cluster.certificate_authority.apply(lambda told: told.data if told else None)
    return pulumi.Output.all(cluster.endpoint, authority).apply(
        lambda told: kubeconfig(naming.amazon(args.site), args.region, *told) if all(told) else ""
    )


def _after(own: pulumi.ResourceOptions, *needs: pulumi.Resource) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=list(needs)))
