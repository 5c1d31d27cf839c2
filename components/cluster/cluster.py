"""What every kind of cluster gives the rest of a site."""

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as kubernetes

from components.cluster.pools import NodePool


class Cluster(pulumi.ComponentResource):
    """A Kubernetes cluster, whoever made it.

    Attributes:
        kubeconfig: secret; the text of a kubeconfig file with this cluster alone.
        provider: deploys into this cluster and into no other.
        region: of the cloud; None for a cluster that is none of ours.
        pools: on which startds may run, as an autoscaler may fill them; None if nobody knows.
    """

    kubeconfig: pulumi.Output[str]
    provider: kubernetes.Provider
    region: str | None
    pools: Sequence[NodePool] | None

    def reach(
        self, name: str, kubeconfig: pulumi.Input[str], identifier: str, needs: Sequence[pulumi.Resource]
    ) -> None:
        """Declares the provider.

        Args:
            name: of the component.
            kubeconfig: the text of a kubeconfig file with this cluster alone.
            identifier: what tells this cluster from others, for good.
            needs: without which the cluster cannot be worked with: its nodes, and the network to them.
        """
        self.kubeconfig = pulumi.Output.secret(kubeconfig)
        self.provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig,
            # Without a literal identifier a renewed credential looks like another cluster: every object is replaced.
            cluster_identifier=identifier,
            # Configuration changes in place: replacing an object under a fixed name would delete it first.
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(needs)),
        )
