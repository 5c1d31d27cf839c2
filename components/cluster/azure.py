"""AKS: a cluster in a resource group of its own, with images, logs and emptyDir on each node's local disk."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.cluster.cluster import Cluster
from components.cluster.plan import ClusterArgs, JobPool


@dataclass(frozen=True, kw_only=True)
class AzureOutbound:
    """How nodes reach the outside.

    Attributes:
        by: loadBalancer or natGateway.
        idle_minutes: until an idle connection is forgotten.
        ports_per_node: of the load balancer.
        addresses: public ones.
    """

    by: str
    idle_minutes: int
    ports_per_node: int
    addresses: int


@dataclass(frozen=True, kw_only=True)
class AzureJobPool(JobPool):
    """A pool of AKS.

    Attributes:
        os_disk_gib: of the local disk; None for all of it.
        kubelet_disk: OS or Temporary.
        zones: of the region; none for any.
    """

    os_disk_gib: int | None
    kubelet_disk: str
    zones: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class AzureClusterArgs(ClusterArgs):
    """An AKS cluster.

    Attributes:
        subscription: its UUID.
        tier: Free, Standard or Premium.
        admin_groups: UUIDs of the groups of Entra ID whose members administer the cluster.
        outbound: how nodes reach the outside.
        job_pools: for startds.
    """

    subscription: str
    tier: str
    admin_groups: Sequence[str]
    outbound: AzureOutbound
    job_pools: Sequence[AzureJobPool]


class AzureCluster(Cluster):
    """An AKS cluster."""

    def __init__(self, name: str, args: AzureClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:cluster:AzureCluster", name, None, opts)
        raise pulumi.RunError(f"{args.site}: this kind of cluster cannot be made yet.")
