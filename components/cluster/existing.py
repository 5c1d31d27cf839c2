"""A cluster that is already there: on premises, in a cloud account of somebody else's, or on this machine.

Changes nothing of the cluster itself, and does not look for node pools: what may run there is the stack's to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.cluster.cluster import Cluster
from components.cluster.kubeconfig import Kubeconfig
from components.cluster.pools import NodePool


@dataclass(frozen=True, kw_only=True)
class ExistingClusterArgs:
    """How the cluster is reached, and what may run there.

    Attributes:
        identifier: what tells it from other clusters, for good.
        kubeconfig: access to it.
        pools: that an autoscaler may fill; None if nobody knows.
    """

    identifier: str
    kubeconfig: Kubeconfig
    pools: Sequence[NodePool] | None = None


class ExistingCluster(Cluster):
    """Access to one cluster."""

    def __init__(self, name: str, args: ExistingClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:cluster:ExistingCluster", name, None, opts)
        self.region = None
        self.pools = args.pools
        self.reach(name, args.kubeconfig.content, args.identifier, needs=[])
        self.register_outputs({"kubeconfig": self.kubeconfig, "context": args.kubeconfig.context})
