"""A database of the site's own as Kubernetes runs it: one pod without rights, a volume, and a door for who is named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath as Path

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from components import naming, peers, pods, secret
from components.labels import labels, selector

UID = 1000
SECRETS = "/run/secrets/atlas-sites"
# So that the pod is made anew with other passwords: they are read at the start.
PASSWORDS = "atlas-sites.io/passwords"
# From nothing to ready takes seconds, and longer where a volume has to be made.
READY_TIMEOUT = "5m"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a database is, whichever it is.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        priority: the priority class of what startds depend on.
        image: of the databases.
        mib: of the volume.
        claim: whether the volume outlives the pod.
        storage_class: of the claim; None for the cluster's own choice.
        readers: a namespace of others who may ask it; None for nobody.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    mib: int
    claim: bool
    storage_class: str | None = None
    readers: str | None = None


@dataclass(frozen=True, kw_only=True)
class DatabaseArgs:
    """One database.

    Attributes:
        place: where it is.
        name: of its Deployment, its Service, its account and its claim.
        command: that is the server.
        preparation: a command that comes before it, with the same volumes; empty for none.
        users: names by what they are for; each has a password in a Secret, mounted below `SECRETS`.
        port: that it listens on.
        health: path that it answers to anybody when it is well.
        directory: where its volume is.
        clients: components of the site that may ask it.
        calls: rules about whom it may call itself.
        files: ConfigMaps by the directory in which their keys are files.
        memory: as a quantity.
    """

    place: Place
    name: str
    command: Sequence[str]
    preparation: Sequence[str] = ()
    users: Mapping[str, str] = field(default_factory=dict)
    port: int
    health: str
    directory: str
    clients: Sequence[str] = ()
    calls: Sequence[networking.NetworkPolicyEgressRuleArgs] = ()
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    memory: str


def address(site: str, name: str, port: int) -> str:
    """Where it is, from within the cluster."""
    return f"http://{naming.service_host(name, naming.namespace(site))}:{port}"


def password(name: str, what: str) -> str:
    """The Secret with the name and the password of a user, by what the user is for."""
    return f"{name}-{what}"


def declare(name: str, args: DatabaseArgs, own: pulumi.ResourceOptions) -> Mapping[str, core.Secret]:
    """Declares it; the Secrets of its users, by what they are for.

    Args:
        name: of the component.
        args: what it is made of.
        own: options of each resource.
    """
    passwords = {
        what: secret.made_once(
            f"{name}-{what}",
            metadata(args, password(args.name, what), secret.ANEW),
            "password",
            own,
            beside={"username": user},
        )
        for what, user in args.users.items()
    }
    networking.NetworkPolicy(f"{name}-policy", metadata=metadata(args), spec=network_policy(args), opts=own)
    account = core.ServiceAccount(
        f"{name}-account", metadata=metadata(args), automount_service_account_token=False, opts=own
    )
    first: list[pulumi.Resource] = [account, *passwords.values()]
    if args.place.claim:
        first.append(
            pods.claim(
                f"{name}-store",
                metadata(args, None, pods.WAITS_FOR_ITS_POD),
                args.place.mib,
                args.place.storage_class,
                own,
            )
        )
    _deployment(name, args, passwords, first, own)
    core.Service(
        f"{name}-address",
        # The engine would wait here for ready pods too, after it has waited for the Deployment.
        metadata=metadata(args, None, {"pulumi.com/skipAwait": "true"}),
        spec=core.ServiceSpecArgs(
            selector=selector(args.place.site, args.name), ports=[core.ServicePortArgs(name="api", port=args.port)]
        ),
        opts=own,
    )
    return passwords


def network_policy(args: DatabaseArgs) -> networking.NetworkPolicySpecArgs:
    """Who may ask it, and whom it may call."""
    askers = [
        *map(peers.component, args.clients),
        *([] if args.place.readers is None else [peers.namespace(args.place.readers)]),
    ]
    return networking.NetworkPolicySpecArgs(
        pod_selector=peers.pods(args.name),
        policy_types=["Ingress", "Egress"],
        # A rule that names nobody would let everybody in.
        ingress=(
            [networking.NetworkPolicyIngressRuleArgs(from_=askers, ports=[peers.tcp(args.port)])] if askers else []
        ),
        egress=list(args.calls),
    )


def metadata(
    args: DatabaseArgs, name: str | None = None, annotations: Mapping[str, str] | None = None
) -> meta.ObjectMetaArgs:
    """Of all that is the database's."""
    return meta.ObjectMetaArgs(
        name=name or args.name,
        namespace=args.place.namespace,
        labels=labels(args.place.site, args.name),
        annotations=dict(annotations or {}) or None,
    )


def _deployment(
    name: str,
    args: DatabaseArgs,
    passwords: Mapping[str, core.Secret],
    needs: list[pulumi.Resource],
    own: pulumi.ResourceOptions,
) -> None:
    apps.Deployment(
        f"{name}-server",
        # Passwords that were made anew, as those of a stack whose state was lost, are another pod's.
        metadata=metadata(args, None, secret.ANEW),
        spec=apps.DeploymentSpecArgs(
            replicas=1,
            selector=meta.LabelSelectorArgs(match_labels=selector(args.place.site, args.name)),
            # The volume is one server's at a time.
            strategy=apps.DeploymentStrategyArgs(type="Recreate"),
            template=core.PodTemplateSpecArgs(
                metadata=meta.ObjectMetaArgs(
                    labels=labels(args.place.site, args.name),
                    annotations={PASSWORDS: _digest(list(passwords.values()))} if passwords else None,
                ),
                spec=core.PodSpecArgs(
                    service_account_name=args.name,
                    automount_service_account_token=False,
                    enable_service_links=False,
                    priority_class_name=args.place.priority,
                    security_context=pods.running_as(UID),
                    termination_grace_period_seconds=60,
                    init_containers=[_preparation(args)] if args.preparation else None,
                    containers=[_server(args)],
                    volumes=[
                        pods.store("store", f"{args.place.mib}Mi", args.name if args.place.claim else None),
                        *(
                            core.VolumeArgs(
                                name=what,
                                secret=core.SecretVolumeSourceArgs(secret_name=password(args.name, what)),
                            )
                            for what in args.users
                        ),
                        *(
                            core.VolumeArgs(
                                name=Path(directory).name, config_map=core.ConfigMapVolumeSourceArgs(name=config_map)
                            )
                            for directory, config_map in args.files.items()
                        ),
                    ],
                ),
            ),
        ),
        opts=pulumi.ResourceOptions(
            parent=own.parent,
            depends_on=needs,
            custom_timeouts=pulumi.CustomTimeouts(create=READY_TIMEOUT, update=READY_TIMEOUT),
        ),
    )


def _digest(passwords: Sequence[core.Secret]) -> pulumi.Output[str]:
    """Of words that nobody can guess, so that it tells nothing of them."""
    told = pulumi.Output.all(*(each.data for each in passwords)).apply(
        lambda found: naming.checksum(*(data["password"] for data in found))
    )
    return pulumi.Output.unsecret(told)


def _preparation(args: DatabaseArgs) -> core.ContainerArgs:
    return core.ContainerArgs(
        name="preparation",
        image=args.place.image,
        args=list(args.preparation),
        termination_message_policy="FallbackToLogsOnError",
        security_context=pods.unprivileged(),
        resources=pods.resources(cores="20m", most_cores="1", memory=args.memory),
        volume_mounts=_mounts(args),
    )


def _server(args: DatabaseArgs) -> core.ContainerArgs:
    return core.ContainerArgs(
        name=args.name,
        image=args.place.image,
        args=list(args.command),
        ports=[core.ContainerPortArgs(name="api", container_port=args.port)],
        termination_message_policy="FallbackToLogsOnError",
        security_context=pods.unprivileged(),
        resources=pods.resources(cores="20m", most_cores="1", memory=args.memory),
        volume_mounts=_mounts(args),
        # What a large volume holds is read at the start.
        startup_probe=pods.http_probe(args.health, period=1, failures=240, port=args.port),
        readiness_probe=pods.http_probe(args.health, period=5, failures=3, port=args.port),
        liveness_probe=pods.http_probe(args.health, period=20, failures=3, port=args.port),
    )


def _mounts(args: DatabaseArgs) -> list[core.VolumeMountArgs]:
    return [
        core.VolumeMountArgs(name="store", mount_path=args.directory),
        *(core.VolumeMountArgs(name=what, mount_path=f"{SECRETS}/{what}", read_only=True) for what in args.users),
        *(
            core.VolumeMountArgs(name=Path(directory).name, mount_path=directory, read_only=True)
            for directory in args.files
        ),
    ]
