"""What startds prove themselves with to the pool: a Secret, and the service that fills it and keeps it fresh.

The refresher makes the Secret itself: of what a stack declares, a refresh brings all that is in it into the state. Only
the refresher may read the certificate's key; startds see no more than the short-lived proxy that it makes.
"""

from collections.abc import Iterator, Sequence
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
    """A host's or a robot's certificate and its key, in PEM form."""

    certificate: pulumi.Input[str]
    key: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class Voms:
    """What a virtual organisation shall say of the site.

    Attributes:
        organisation: its name.
        attributes: groups and roles, the one that counts first.
        trust: the ConfigMap (keys vomses, ca.pem, HOST.lsc) that tells its servers and who is believed.
    """

    organisation: str
    attributes: Sequence[str]
    trust: Reference


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Lifetimes of proxies, in hours.

    Attributes:
        proxy: that a proxy lasts.
        refresh: between two proxies.
        alarm: with less left, something is wrong.
        critical: with less left, a proxy is of no use to pilots.
    """

    proxy: int
    refresh: int
    alarm: int
    critical: int


@dataclass(frozen=True, kw_only=True)
class CredentialsArgs:
    """What credentials are made from, and how long they last.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        priority: the priority class of what startds depend on.
        image: of the services.
        host_certificate: or the Secret (keys hostcert, hostkey) that holds it; a robot's will do.
        voms: None if a proxy of the certificate alone will do.
        token: the Secret (key token) with a token, the pool's own or a SciToken, if the pool takes one.
        authority: who signed the pool's certificates, in PEM form, or the ConfigMap (key ca.pem) that says so; None if
            it is one that HTCondor trusts anyway.
        terms: of proxies.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    host_certificate: Reference | HostCertificate
    token: Reference | None = None
    authority: Reference | str | None = None
    voms: Voms | None = None
    terms: Terms


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
            # The programs that speak to VOMS read the key from a file.
            volumes={"/tmp": _memory()} if args.voms is not None else {},  # noqa: S108  of this pod alone
            cores="20m",
            memory="128Mi",
        )
        account = service.account(f"{name}-account", described, own)
        needs = [
            account,
            *_given(name, args, own),
            *_permissions(name, args, account, own),
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
        "PROXY_HOURS": str(args.terms.proxy),
        "REFRESH_HOURS": str(args.terms.refresh),
        "ALARM_HOURS": str(args.terms.alarm),
        "CRITICAL_HOURS": str(args.terms.critical),
    }
    if args.voms is not None:
        told["VOMS"] = f"{args.voms.organisation}:{','.join(args.voms.attributes)}"
        told["VOMS_TRUST"] = str(args.voms.trust)
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
            # To make it by name takes a patch, so that nothing else can be made.
            _rule("secrets", SECRET, "create", "get", "patch"),
            rbac.PolicyRuleArgs(api_groups=[""], resources=["events"], verbs=["create"]),
        ]
    }
    told = environment(args)
    for variable, resource in (
        ("HOST_CERTIFICATE", "secrets"),
        ("TOKEN", "secrets"),
        ("AUTHORITY", "configmaps"),
        ("VOMS_TRUST", "configmaps"),
    ):
        if variable in told:
            namespace, _, name = told[variable].partition("/")
            found.setdefault(namespace, []).append(_rule(resource, name, "get"))
    return found


def _rule(resource: str, name: str, *verbs: str) -> rbac.PolicyRuleArgs:
    return rbac.PolicyRuleArgs(api_groups=[""], resources=[resource], resource_names=[name], verbs=list(verbs))


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
    name: str, args: CredentialsArgs, account: core.ServiceAccount, own: pulumi.ResourceOptions
) -> Iterator[pulumi.Resource]:
    at_home = naming.namespace(args.site)
    for namespace, allowed in rules(args).items():
        role_name = NAME if namespace == at_home else f"{args.site}-{NAME}"  # elsewhere the name tells whose it is
        metadata = meta.ObjectMetaArgs(
            name=role_name,
            namespace=args.namespace if namespace == at_home else namespace,
            labels=labels(args.site, NAME),
        )
        role = rbac.Role(f"{name}-role-{namespace}", metadata=metadata, rules=allowed, opts=own)
        yield service.bound(
            f"{name}-binding-{namespace}", metadata, role_name, (NAME, args.namespace), [role, account], own
        )


def _memory() -> core.VolumeArgs:
    return core.VolumeArgs(name="scratch", empty_dir=core.EmptyDirVolumeSourceArgs(medium="Memory", size_limit="16Mi"))


def _metadata(name: str, args: CredentialsArgs) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(name=name, namespace=args.namespace, labels=labels(args.site, NAME))
