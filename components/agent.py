"""A pod on every node of the cluster, for what startds there lean on: software, profiles, the node's health."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from components.after import after
from components.labels import labels, selector

# A tenth of the nodes at once: an update that goes wrong stops there.
BY_TENTHS = apps.DaemonSetUpdateStrategyArgs(
    type="RollingUpdate", rolling_update=apps.RollingUpdateDaemonSetArgs(max_unavailable="10%")
)
BY_HAND = apps.DaemonSetUpdateStrategyArgs(type="OnDelete")


@dataclass(frozen=True, kw_only=True)
class AgentArgs:
    """What runs on every node.

    Attributes:
        site: the site's name.
        namespace: the privileged one.
        name: of all its objects.
        api: whether it talks to the API server.
        update: how pods of a new template take the place of old ones.
        grace_seconds: between the first and the last signal to it.
        container: its only one.
        volumes: of the pod.
    """

    site: str
    namespace: pulumi.Input[str]
    name: str
    api: bool = False
    update: apps.DaemonSetUpdateStrategyArgs = BY_TENTHS
    grace_seconds: int = 10
    container: core.ContainerArgs
    volumes: Sequence[core.VolumeArgs]


def metadata(args: AgentArgs, annotations: dict[str, str] | None = None) -> meta.ObjectMetaArgs:
    """Of all that bears the name of the agent."""
    return meta.ObjectMetaArgs(
        name=args.name, namespace=args.namespace, labels=labels(args.site, args.name), annotations=annotations
    )


def account(resource: str, args: AgentArgs, own: pulumi.ResourceOptions) -> core.ServiceAccount:
    """What the agent is known as to the API server."""
    return core.ServiceAccount(
        resource,
        metadata=metadata(args),
        automount_service_account_token=None if args.api else False,
        opts=own,
    )


def daemon_set(
    resource: str,
    args: AgentArgs,
    account: core.ServiceAccount,
    needs: Sequence[pulumi.Resource],
    own: pulumi.ResourceOptions,
) -> apps.DaemonSet:
    """The pods, made after what they need.

    The engine does not wait for them: of a thousand nodes one is always away, and with `BY_HAND` an update waits for
    pods that nobody deletes.
    """
    return apps.DaemonSet(
        resource,
        metadata=metadata(args, {"pulumi.com/skipAwait": "true"}),
        spec=apps.DaemonSetSpecArgs(
            selector=meta.LabelSelectorArgs(match_labels=selector(args.site, args.name)),
            update_strategy=args.update,
            template=core.PodTemplateSpecArgs(
                metadata=meta.ObjectMetaArgs(labels=labels(args.site, args.name)),
                spec=core.PodSpecArgs(
                    service_account_name=after(account, args.name),
                    automount_service_account_token=None if args.api else False,
                    enable_service_links=False,
                    priority_class_name="system-node-critical",
                    # What makes a node unfit for startds does not make it unfit for what they lean on.
                    tolerations=[core.TolerationArgs(operator="Exists")],
                    termination_grace_period_seconds=args.grace_seconds,
                    containers=[args.container],
                    volumes=list(args.volumes),
                ),
            ),
        ),
        opts=pulumi.ResourceOptions(parent=own.parent, depends_on=list(needs)),
    )


def of_node(name: str, path: str, kind: str = "DirectoryOrCreate") -> core.VolumeArgs:
    """A path of the node, for an agent that works on it."""
    return core.VolumeArgs(name=name, host_path=core.HostPathVolumeSourceArgs(path=path, type=kind))
