"""GKE Standard: a cluster in a network of its own, with images, logs and emptyDir on each node's local SSDs."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.cluster.cluster import Cluster
from components.cluster.plan import ClusterArgs, JobPool


@dataclass(frozen=True, kw_only=True)
class GoogleJobPool(JobPool):
    """A pool of GKE.

    Attributes:
        local_ssds: their number where the machine type leaves the choice, else None.
    """

    local_ssds: int | None


@dataclass(frozen=True, kw_only=True)
class GoogleClusterArgs(ClusterArgs):
    """A GKE cluster.

    Attributes:
        project: its ID.
        zone: in which all nodes are.
        nat_idle_seconds: until the NAT forgets an idle connection.
        job_pools: for startds.
    """

    project: str
    zone: str
    nat_idle_seconds: int
    job_pools: Sequence[GoogleJobPool]


class GoogleCluster(Cluster):
    """A GKE cluster."""

    def __init__(self, name: str, args: GoogleClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:cluster:GoogleCluster", name, None, opts)
        raise pulumi.RunError(f"{args.site}: this kind of cluster cannot be made yet.")
