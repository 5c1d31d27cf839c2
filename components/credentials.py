"""What startds prove themselves with to the pool: a Secret, and the service that fills it and keeps it fresh.

The Secret is declared without data: what is in it belongs to the refresher alone. Only the refresher may read the host
certificate's key; startds see no more than the short-lived proxy that it makes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.rbac import v1 as rbac

from components import naming, service
from components.after import after
from components.labels import labels

NAME = "credentials"
SECRET = "proxy"  # noqa: S105  the name of an object
HOST_CERTIFICATE = "host-certificate"
AUTHORITY = "pool-ca"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An object that is in the cluster already."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class HostCertificate:
    """A host certificate and its key, in PEM form."""

    certificate: pulumi.Input[str]
    key: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class CredentialsArgs:
    """What credentials are made from, and how long they last.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        priority: the priority class of what startds depend on.
        image: of the services.
        host_certificate: or the Secret (keys hostcert, hostkey) that holds it.
        token: the Secret (key token) with a pool token, if the pool takes one.
        authority: who signed the pool's certificates, in PEM form, or the ConfigMap (key ca.pem) that says so; None if
            it is one that HTCondor trusts anyway.
        proxy_hours: that a proxy lasts.
        refresh_hours: between two proxies.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    host_certificate: Reference | HostCertificate
    token: Reference | None = None
    authority: Reference | str | None = None
    proxy_hours: int
    refresh_hours: int


class Credentials(pulumi.ComponentResource):
    """A Secret that always holds a good proxy.

    Attributes:
        secret: its name, known once there is a good proxy in it.
        metrics: where Prometheus may ask the refresher.
    """

    secret: pulumi.Output[str]
    metrics: str

    def __init__(self, name: str, args: CredentialsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Credentials", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        described = service.ServiceArgs(
            site=args.site,
            namespace=args.namespace,
            priority=args.priority,
            image=args.image,
            name=NAME,
            # Two may run side by side, and a new one that finds no good proxy must not end the old one.
            strategy=apps.DeploymentStrategyArgs(
                type="RollingUpdate",
                rolling_update=apps.RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
            ),
            environment=environment(args),
            cores="20m",
            memory="128Mi",
        )
        account = service.account(f"{name}-account", described, own)
        needs = [
            account,
            _secret(name, args, self),
            *_given(name, args, own),
            *_permissions(name, args, account, self),
        ]
        refresher = service.deployment(f"{name}-refresher", described, self, needs)
        service.metrics(f"{name}-metrics", described, own)
        self.secret = after(refresher, SECRET)
        self.metrics = service.metrics_address(args.site, NAME)
        self.register_outputs({"secret": self.secret, "metrics": self.metrics})


def environment(args: CredentialsArgs) -> dict[str, str]:
    """What the refresher is told; services/credentials/main.py reads it."""
    own = naming.namespace(args.site)
    host, authority = args.host_certificate, args.authority
    told = {
        "SECRET": SECRET,
        "HOST_CERTIFICATE": str(host) if isinstance(host, Reference) else f"{own}/{HOST_CERTIFICATE}",
        "PROXY_HOURS": str(args.proxy_hours),
        "REFRESH_HOURS": str(args.refresh_hours),
    }
    if args.token is not None:
        told["TOKEN"] = str(args.token)
    if authority is not None:
        told["AUTHORITY"] = str(authority) if isinstance(authority, Reference) else f"{own}/{AUTHORITY}"
    return told


def rules(args: CredentialsArgs) -> dict[str, list[rbac.PolicyRuleArgs]]:
    """All that the refresher may do, by namespace."""
    own = naming.namespace(args.site)
    found = {
        own: [
            _rule("secrets", SECRET, "get", "patch"),
            rbac.PolicyRuleArgs(api_groups=[""], resources=["events"], verbs=["create"]),
        ]
    }
    told = environment(args)
    for variable, resource in (("HOST_CERTIFICATE", "secrets"), ("TOKEN", "secrets"), ("AUTHORITY", "configmaps")):
        if variable in told:
            namespace, _, name = told[variable].partition("/")
            found.setdefault(namespace, []).append(_rule(resource, name, "get"))
    return found


def _rule(resource: str, name: str, *verbs: str) -> rbac.PolicyRuleArgs:
    return rbac.PolicyRuleArgs(api_groups=[""], resources=[resource], resource_names=[name], verbs=list(verbs))


def _secret(name: str, args: CredentialsArgs, parent: pulumi.Resource) -> core.Secret:
    return core.Secret(
        f"{name}-secret",
        metadata=_metadata(SECRET, args),
        type="Opaque",
        opts=pulumi.ResourceOptions(
            parent=parent,
            # Written by the refresher. Even after a refresh of the state they are nobody else's to change.
            ignore_changes=["data", "metadata.annotations"],
        ),
    )


def _given(name: str, args: CredentialsArgs, own: pulumi.ResourceOptions) -> Iterator[pulumi.Resource]:
    """What the stack itself holds, brought to where the refresher can read it."""
    if isinstance(args.host_certificate, HostCertificate):
        yield core.Secret(
            f"{name}-host-certificate",
            metadata=_metadata(HOST_CERTIFICATE, args),
            string_data={
                "hostcert": args.host_certificate.certificate,
                "hostkey": pulumi.Output.secret(args.host_certificate.key),
            },
            opts=own,
        )
    if isinstance(args.authority, str):
        yield core.ConfigMap(
            f"{name}-pool-ca", metadata=_metadata(AUTHORITY, args), data={"ca.pem": args.authority}, opts=own
        )


def _permissions(
    name: str, args: CredentialsArgs, account: core.ServiceAccount, parent: pulumi.Resource
) -> Iterator[pulumi.Resource]:
    own = naming.namespace(args.site)
    for namespace, allowed in rules(args).items():
        role_name = NAME if namespace == own else f"{args.site}-{NAME}"  # elsewhere the name tells whose it is
        metadata = meta.ObjectMetaArgs(
            name=role_name,
            namespace=args.namespace if namespace == own else namespace,
            labels=labels(args.site, NAME),
        )
        role = rbac.Role(
            f"{name}-role-{namespace}", metadata=metadata, rules=allowed, opts=pulumi.ResourceOptions(parent=parent)
        )
        yield rbac.RoleBinding(
            f"{name}-binding-{namespace}",
            metadata=metadata,
            role_ref=rbac.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=role_name),
            subjects=[rbac.SubjectArgs(kind="ServiceAccount", name=NAME, namespace=args.namespace)],
            opts=pulumi.ResourceOptions(parent=parent, depends_on=[role, account]),
        )


def _metadata(name: str, args: CredentialsArgs) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(name=name, namespace=args.namespace, labels=labels(args.site, NAME))
