"""A VictoriaMetrics of the site's own, which asks each service for its metrics and keeps them for some weeks.

It needs no rights in the cluster: whom to ask is known when the stack is made. A service of several pods is found by
its name in DNS, which has an address for each of them. Time series of the books are not for it: it keeps a point that
was corrected beside the one that corrects it (docs/adr/0012).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import yaml
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from components import database, naming, peers, pods
from components.after import after
from components.labels import NAME as LABEL, PART, PART_OF, labels
from components.namespaces import METRICS_PORT

NAME = "victoria-metrics"
PORT = 8428
USER = "user"
CONFIGURATION = "/etc/atlas-sites/scrape"
FILE = "scrape.yaml"
DIRECTORY = "/var/lib/victoria-metrics"
INTERVAL = "30s"
CACHES = "96MiB"  # of its memory; the rest is for queries and for what comes in
PORTS = (pods.HTTP_PORT, METRICS_PORT)


@dataclass(frozen=True, kw_only=True)
class MetricsArgs:
    """Whom to ask, and how long to remember.

    Attributes:
        place: where it is.
        addresses: where each service of one pod tells its metrics, by its name.
        hosts: of each service of several pods, by its name.
        days: that metrics are kept.
    """

    place: database.Place
    addresses: Mapping[str, str]
    hosts: Mapping[str, str]
    days: int


class Metrics(pulumi.ComponentResource):
    """The site's own VictoriaMetrics.

    Attributes:
        url: where it is queried, as a Prometheus.
        user: the Secret with username and password.
    """

    url: str
    user: str

    def __init__(self, name: str, args: MetricsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Metrics", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        text = configuration(args)
        scrape = f"{NAME}-{naming.checksum(text)}"
        self.user = database.password(NAME, USER)
        described = database.DatabaseArgs(
            place=args.place,
            name=NAME,
            command=[
                "/usr/bin/victoria-metrics",
                f"-storageDataPath={DIRECTORY}",
                f"-retentionPeriod={args.days}d",
                f"-memory.allowedBytes={CACHES}",
                f"-httpListenAddr=:{PORT}",
                "-httpAuth.username=metrics",
                f"-httpAuth.password=file://{database.SECRETS}/{USER}/password",
                f"-promscrape.config={CONFIGURATION}/{FILE}",
            ],
            users={USER: "metrics"},
            port=PORT,
            health="/health",
            directory=DIRECTORY,
            calls=calls(args.place.site),
            # Immutable under its name, so that a change of it makes the pod anew.
            files={CONFIGURATION: after(_scrape(name, scrape, text, args, own), scrape)},
            memory="256Mi",
        )
        database.declare(name, described, own)
        networking.NetworkPolicy(
            f"{name}-asked",
            metadata=database.metadata(described, f"{NAME}-asks"),
            spec=asked_by(peers.component(NAME)),
            opts=own,
        )
        self.url = database.address(args.place.site, NAME, PORT)
        self.register_outputs({"url": self.url, "user": self.user})


def configuration(args: MetricsArgs) -> str:
    """Whom it asks, as Prometheus is told."""
    where: dict[str, dict[str, object]] = {
        name: {"static_configs": [{"targets": [address]}]} for name, address in args.addresses.items()
    }
    where |= {
        name: {"dns_sd_configs": [{"names": [host], "type": "A", "port": pods.HTTP_PORT}]}
        for name, host in args.hosts.items()
    }
    told = {
        # By which alerts and dashboards tell sites apart.
        "global": {"scrape_interval": INTERVAL, "external_labels": {"namespace": naming.namespace(args.place.site)}},
        "scrape_configs": [{"job_name": name, **found} for name, found in sorted(where.items())],
    }
    return yaml.safe_dump(told, sort_keys=False)


def asked_by(peer: networking.NetworkPolicyPeerArgs) -> networking.NetworkPolicySpecArgs:
    """Lets somebody ask all that tells metrics; nobody has to ask a payload anything."""
    return networking.NetworkPolicySpecArgs(
        pod_selector=meta.LabelSelectorArgs(
            match_labels={PART: PART_OF},
            match_expressions=[meta.LabelSelectorRequirementArgs(key=LABEL, operator="NotIn", values=["startd"])],
        ),
        policy_types=["Ingress"],
        ingress=[networking.NetworkPolicyIngressRuleArgs(from_=[peer], ports=_ports())],
    )


def calls(site: str) -> Sequence[networking.NetworkPolicyEgressRuleArgs]:
    """Whom it calls: the site's pods, and DNS wherever that is."""
    namespaces = [peers.namespace(name) for name in (naming.namespace(site), naming.system_namespace(site))]
    return [networking.NetworkPolicyEgressRuleArgs(to=namespaces, ports=_ports()), peers.dns()]


def _ports() -> list[networking.NetworkPolicyPortArgs]:
    return [peers.tcp(port) for port in PORTS]


def _scrape(name: str, called: str, text: str, args: MetricsArgs, own: pulumi.ResourceOptions) -> core.ConfigMap:
    return core.ConfigMap(
        f"{name}-scrape",
        metadata=meta.ObjectMetaArgs(name=called, namespace=args.place.namespace, labels=labels(args.place.site, NAME)),
        data={FILE: text},
        immutable=True,
        opts=own,
    )
