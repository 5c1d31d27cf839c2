"""A cluster that is already there: on premises, in a cloud account of somebody else's, or on this machine.

Changes nothing of the cluster itself, and does not look for node pools: what may run there is the stack's to say.
"""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.cluster.kubeconfig import Kubeconfig


@dataclass(frozen=True, kw_only=True)
class ExistingClusterArgs:
    """How the cluster is reached."""

    kubeconfig: Kubeconfig


class ExistingCluster(pulumi.ComponentResource):
    """Access to one cluster.

    Attributes:
        kubeconfig: secret; the text of a kubeconfig file with this cluster alone.
        provider: deploys into this cluster and into no other.
    """

    kubeconfig: pulumi.Output[str]
    provider: kubernetes.Provider

    def __init__(self, name: str, args: ExistingClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:cluster:ExistingCluster", name, None, opts)
        self.kubeconfig = pulumi.Output.secret(args.kubeconfig.content)
        self.provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig,
            # Without a literal identifier a renewed credential looks like another cluster: every object is replaced.
            cluster_identifier=name,
            # Configuration changes in place: replacing an object under a fixed name would delete it first.
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"kubeconfig": self.kubeconfig, "context": args.kubeconfig.context})
