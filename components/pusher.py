"""What tells the hub of a site: it looks at the site, calls out, and is called by nobody.

The site's write token is made here, once, and told to nobody but the hub, which gets a digest of it: whoever reads the
hub's Secrets can push for no site.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking
from pulumi_kubernetes.rbac import v1 as rbac

from components import naming, peers, pods, portal, secret, service, squid, vacuum
from components.labels import NAME as LABEL, labels

NAME = "pusher"
TOKEN = "portal-token"  # noqa: S105  the Secret's name
TOKEN_DIRECTORY = "/etc/atlas-sites/portal-token"  # noqa: S105
# Whose metrics it reads; the squids' anybody in the namespace may.
ASKED = ("accounting", "credentials")


@dataclass(frozen=True, kw_only=True)
class PusherArgs:
    """Who tells what to whom.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        priority: the priority class of what startds depend on.
        image: of the services.
        atlas_site: by which the experiment knows the site.
        address: of the hub.
        authority: who signs its certificate, in PEM form; None if that is one whom everybody knows.
        seconds: between two reports.
        squids: how many there are.
        credentials, accounting: where they tell their metrics; the second is None if the site keeps no books.
        hub: namespace on the hub's cluster.
        hub_site: the hub's name.
        on_hub: options of what is made on the hub's cluster.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    atlas_site: str
    address: str
    authority: str | None = None
    seconds: int
    squids: int
    credentials: str
    accounting: str | None
    hub: pulumi.Input[str]
    hub_site: str
    on_hub: pulumi.ResourceOptions


class Pusher(pulumi.ComponentResource):
    """One site's voice, and its place at the hub.

    Attributes:
        metrics: where Prometheus may ask.
    """

    metrics: str

    def __init__(self, name: str, args: PusherArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Pusher", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        described = service.ServiceArgs(
            site=args.site,
            namespace=args.namespace,
            priority=args.priority,
            image=args.image,
            name=NAME,
            # Two would only say the same twice.
            strategy=apps.DeploymentStrategyArgs(type="Recreate"),
            environment=environment(args),
            volumes={
                TOKEN_DIRECTORY: core.VolumeArgs(name="token", secret=core.SecretVolumeSourceArgs(secret_name=TOKEN))
            },
            cores="20m",
            # A site of 10,000 startds takes 121 MiB at most: benchmarks/pusher.py.
            memory="256Mi",
        )
        token = secret.made_once(
            f"{name}-token",
            meta.ObjectMetaArgs(
                name=TOKEN, namespace=args.namespace, labels=labels(args.site, NAME), annotations=secret.ANEW
            ),
            "token",
            own,
        )
        core.Secret(
            f"{name}-admission",
            metadata=meta.ObjectMetaArgs(
                name=portal.admission(args.site),
                namespace=args.hub,
                labels=labels(args.hub_site, portal.NAME),
                annotations=secret.ANEW,
            ),
            data={portal.DIGEST: token.data.apply(digest)},
            opts=pulumi.ResourceOptions(
                parent=self, provider=args.on_hub.provider, depends_on=args.on_hub.depends_on or []
            ),
        )
        networking.NetworkPolicy(
            f"{name}-policy",
            metadata=service.metadata(described),
            spec=networking.NetworkPolicySpecArgs(
                pod_selector=meta.LabelSelectorArgs(
                    match_expressions=[meta.LabelSelectorRequirementArgs(key=LABEL, operator="In", values=list(ASKED))]
                ),
                policy_types=["Ingress"],
                ingress=[
                    networking.NetworkPolicyIngressRuleArgs(
                        from_=[peers.component(NAME)], ports=[peers.tcp(pods.HTTP_PORT)]
                    )
                ],
            ),
            opts=own,
        )
        account = service.account(f"{name}-account", described, own)
        allowed = service.allowed(name, described, rules(), account, own)
        service.deployment(f"{name}-service", described, self, [account, allowed, token])
        service.metrics(f"{name}-metrics", described, own)
        self.metrics = service.metrics_address(args.site, NAME)
        self.register_outputs({"metrics": self.metrics})


def environment(args: PusherArgs) -> dict[str, str]:
    """What the service is told; services/pusher/options.py reads it."""
    squids = {naming.squid(index): squid.metrics_address(args.site, index) for index in range(args.squids)}
    return {
        "SITE": args.site,
        "ATLAS_SITE": args.atlas_site,
        "HUB": args.address,
        **({"AUTHORITY": args.authority} if args.authority else {}),
        "TOKEN": f"{TOKEN_DIRECTORY}/token",
        "CREDENTIALS": args.credentials,
        "ACCOUNTING": args.accounting or "",
        "SQUIDS": ",".join(f"{name}={address}" for name, address in squids.items()),
        "SECONDS": str(args.seconds),
    }


def rules() -> list[rbac.PolicyRuleArgs]:
    """All that the pusher may do, in its own namespace: look."""
    return [
        rbac.PolicyRuleArgs(api_groups=[""], resources=["pods"], verbs=["list", "watch"]),
        rbac.PolicyRuleArgs(api_groups=[""], resources=["events"], verbs=["list"]),
        rbac.PolicyRuleArgs(api_groups=[vacuum.GROUP], resources=["startdsets"], verbs=["list", "watch"]),
    ]


def digest(data: Mapping[str, str]) -> str:
    """What the hub holds of a token, as the data of a Secret; of both Secrets, values are in base64."""
    return secret.encoded(hashlib.sha256(base64.b64decode(data["token"])).hexdigest())
