"""A service of ours as Kubernetes runs it: an unprivileged pod that tells its health, and where its metrics are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.rbac import v1 as rbac

from components import naming, pods
from components.labels import labels, selector

# From nothing to ready takes seconds; what is wrong should not take the engine's ten minutes to be told.
READY_TIMEOUT = "3m"
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, kw_only=True)
class ServiceArgs:
    """One service.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        priority: the priority class of what startds depend on.
        image: of the services.
        name: of the service: its package below services/, its Deployment, its Service and its account.
        strategy: how a new version takes over.
        replicas: of which all but one only wait to take over.
        environment: what it is told, beside its own namespace.
        files: ConfigMaps to mount, by the directory in which their keys appear as files; they need not be there.
        volumes: others, by the directory in which they may be written to.
        account_annotations: of the service's account.
        pod_labels: beside those that every pod has.
        ports: that it listens on beside the one for its health, by name.
        api: whether it speaks to the API server, and so holds a token for it.
        cores: that the scheduler reserves, as a quantity.
        memory: as a quantity.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    name: str
    strategy: apps.DeploymentStrategyArgs
    replicas: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, core.VolumeArgs] = field(default_factory=dict)
    account_annotations: Mapping[str, str] = field(default_factory=dict)
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    api: bool = True
    cores: str
    memory: str


def metrics_address(site: str, name: str) -> str:
    """Where Prometheus may ask, from within the cluster."""
    return f"http://{naming.service_host(name, naming.namespace(site))}:{pods.HTTP_PORT}/metrics"


def account(resource: str, args: ServiceArgs, own: pulumi.ResourceOptions) -> core.ServiceAccount:
    """What the service is known as to the API server."""
    return core.ServiceAccount(resource, metadata=metadata(args, args.account_annotations), opts=own)


def allowed(
    name: str, args: ServiceArgs, rules: Sequence[rbac.PolicyRuleArgs], of: pulumi.Resource, own: pulumi.ResourceOptions
) -> rbac.RoleBinding:
    """What the service may do in its own namespace.

    Args:
        name: of the component.
        args: the service.
        rules: all of it.
        of: the account.
        own: options of each resource.
    """
    role = rbac.Role(f"{name}-role", metadata=metadata(args), rules=list(rules), opts=own)
    return bound(f"{name}-binding", metadata(args), args.name, (args.name, args.namespace), [role, of], own)


def bound(
    resource: str,
    called: meta.ObjectMetaArgs,
    role: str,
    account: tuple[str, pulumi.Input[str]],
    needs: list[pulumi.Resource],
    own: pulumi.ResourceOptions,
) -> rbac.RoleBinding:
    """Lets an account do what a role says of one namespace.

    Args:
        resource: the binding's.
        called: what it is called, and the namespace.
        role: the Role's name.
        account: its name and its namespace.
        needs: what must be there first.
        own: options of each resource.
    """
    return rbac.RoleBinding(
        resource,
        metadata=called,
        role_ref=rbac.RoleRefArgs(api_group=_RBAC, kind="Role", name=role),
        subjects=[rbac.SubjectArgs(kind="ServiceAccount", name=account[0], namespace=account[1])],
        opts=pulumi.ResourceOptions(parent=own.parent, depends_on=needs),
    )


def bound_everywhere(
    resource: str,
    called: meta.ObjectMetaArgs,
    role: str,
    account: tuple[str, pulumi.Input[str]],
    needs: list[pulumi.Resource],
    own: pulumi.ResourceOptions,
) -> rbac.ClusterRoleBinding:
    """Lets an account do what a role says of things that belong to no namespace, as nodes do.

    Args:
        resource: the binding's.
        called: what it is called.
        role: the ClusterRole's name.
        account: its name and its namespace.
        needs: what must be there first.
        own: options of each resource.
    """
    return rbac.ClusterRoleBinding(
        resource,
        metadata=called,
        role_ref=rbac.RoleRefArgs(api_group=_RBAC, kind="ClusterRole", name=role),
        subjects=[rbac.SubjectArgs(kind="ServiceAccount", name=account[0], namespace=account[1])],
        opts=pulumi.ResourceOptions(parent=own.parent, depends_on=needs),
    )


def metrics(resource: str, args: ServiceArgs, own: pulumi.ResourceOptions) -> core.Service:
    """The address of the service."""
    return core.Service(
        resource,
        # The engine would wait here for ready pods too, and for longer than it waits for the pods themselves.
        metadata=metadata(args, {"pulumi.com/skipAwait": "true", **pods.scraped(pods.HTTP_PORT)}),
        spec=core.ServiceSpecArgs(
            # Without an address of its own where there are several: each is asked for itself.
            cluster_ip="None" if args.replicas > 1 else None,
            selector=selector(args.site, args.name),
            ports=[
                core.ServicePortArgs(name=name, port=port)
                for name, port in {"http": pods.HTTP_PORT, **args.ports}.items()
            ],
        ),
        opts=own,
    )


def deployment(
    resource: str, args: ServiceArgs, parent: pulumi.Resource, needs: list[pulumi.Resource]
) -> apps.Deployment:
    """The pod of the service, made after what it needs."""
    return apps.Deployment(
        resource,
        metadata=metadata(args),
        spec=apps.DeploymentSpecArgs(
            replicas=args.replicas,
            selector=meta.LabelSelectorArgs(match_labels=selector(args.site, args.name)),
            strategy=args.strategy,
            template=core.PodTemplateSpecArgs(
                metadata=meta.ObjectMetaArgs(labels={**labels(args.site, args.name), **args.pod_labels}),
                spec=core.PodSpecArgs(
                    service_account_name=args.name,
                    automount_service_account_token=None if args.api else False,
                    enable_service_links=False,
                    priority_class_name=args.priority,
                    security_context=pods.running_as(pods.SERVICE_UID),
                    topology_spread_constraints=_apart(args) if args.replicas > 1 else None,
                    termination_grace_period_seconds=30,
                    containers=[_container(args)],
                    volumes=[
                        core.VolumeArgs(name=name, config_map=core.ConfigMapVolumeSourceArgs(name=name, optional=True))
                        for name in args.files.values()
                    ]
                    + list(args.volumes.values())
                    or None,
                ),
            ),
        ),
        opts=pulumi.ResourceOptions(
            parent=parent,
            depends_on=needs,
            custom_timeouts=pulumi.CustomTimeouts(create=READY_TIMEOUT, update=READY_TIMEOUT),
        ),
    )


def metadata(args: ServiceArgs, annotations: Mapping[str, str] | None = None) -> meta.ObjectMetaArgs:
    """Of all that bears the name of the service."""
    return meta.ObjectMetaArgs(
        name=args.name,
        namespace=args.namespace,
        labels=labels(args.site, args.name),
        annotations=dict(annotations or {}) or None,
    )


def _apart(args: ServiceArgs) -> list[core.TopologySpreadConstraintArgs]:
    """On nodes of their own, where there are so many."""
    return [
        core.TopologySpreadConstraintArgs(
            max_skew=1,
            topology_key="kubernetes.io/hostname",
            when_unsatisfiable="ScheduleAnyway",
            label_selector=meta.LabelSelectorArgs(match_labels=selector(args.site, args.name)),
        )
    ]


def _container(args: ServiceArgs) -> core.ContainerArgs:
    return core.ContainerArgs(
        name=args.name,
        image=args.image,
        args=["python3", "-m", f"services.{args.name}"],
        env=[
            pods.from_field("NAMESPACE", "metadata.namespace"),
            *(core.EnvVarArgs(name=key, value=value) for key, value in args.environment.items()),
        ],
        ports=[
            core.ContainerPortArgs(name=name, container_port=port)
            for name, port in {"http": pods.HTTP_PORT, **args.ports}.items()
        ],
        volume_mounts=[
            core.VolumeMountArgs(name=name, mount_path=directory, read_only=True)
            for directory, name in args.files.items()
        ]
        + [core.VolumeMountArgs(name=volume.name, mount_path=directory) for directory, volume in args.volumes.items()]
        or None,
        security_context=pods.unprivileged(),
        resources=pods.resources(cores=args.cores, most_cores="1", memory=args.memory),
        startup_probe=pods.http_probe("/healthz", period=1, failures=60),
        readiness_probe=pods.http_probe("/readyz", period=5, failures=3),
        liveness_probe=pods.http_probe("/healthz", period=20, failures=3),
    )
