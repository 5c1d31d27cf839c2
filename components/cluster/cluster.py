"""What every kind of cluster gives the rest of a site."""

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as kubernetes

from components.cluster.kubeconfig import NOWHERE
from components.cluster.pools import NodePool
from components.stageout import Container


class Cluster(pulumi.ComponentResource):
    """A Kubernetes cluster, whoever made it.

    Attributes:
        kubeconfig: secret; the text of a kubeconfig file with this cluster alone.
        provider: deploys into this cluster and into no other.
        needs: without which nothing can be made in it: whatever is to be depends on them.
        region: of the cloud; None for a cluster that is none of ours.
        pools: on which startds may run, as an autoscaler may fill them; None if nobody knows.
        container: for what payloads make, where one was made with the cluster.
    """

    kubeconfig: pulumi.Output[str]
    provider: kubernetes.Provider
    needs: Sequence[pulumi.Resource]
    region: str | None
    pools: Sequence[NodePool] | None
    container: Container | None = None

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
        self.needs = needs
        self.kubeconfig = _in_any_case(kubeconfig)
        self.provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig,
            # Without a literal identifier a renewed credential looks like another cluster: every object is replaced.
            cluster_identifier=identifier,
            # Configuration changes in place: replacing an object under a fixed name would delete it first.
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def on_it(self, parent: pulumi.Resource) -> pulumi.ResourceOptions:
        """The options of a component in the cluster: its objects are made by the cluster's provider, and after it.

        Not the component itself: the engine ends the update over the outputs of a component that it left out.
        """
        return pulumi.ResourceOptions(parent=parent, providers=[self.provider], transformations=[self._after_it])

    def _after_it(self, made: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not self.needs or not isinstance(made.resource, pulumi.CustomResource):
            return None
        needs = pulumi.ResourceOptions(depends_on=list(self.needs))
        return pulumi.ResourceTransformationResult(made.props, pulumi.ResourceOptions.merge(made.opts, needs))


def _in_any_case(kubeconfig: pulumi.Input[str]) -> pulumi.Output[str]:
    """The kubeconfig as a secret, or one that leads nowhere where the cluster could not be made.

    It depends on no resource: the engine leaves out whatever depends on one that failed, and over the first object of a
    provider that it left out it ends the update of all sites. So the provider is always there, and what is to be in the
    cluster depends on the cluster itself.
    """
    given = pulumi.Output.from_input(kubeconfig)

    async def text() -> str:
        return await given.future() or NOWHERE.content

    async def known() -> bool:
        return not pulumi.runtime.is_dry_run() or await given.is_known()

    return pulumi.Output.secret(pulumi.Output(set(), text(), known()))
