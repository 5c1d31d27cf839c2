"""The two namespaces of a site, what may run in them, and who may talk to whom.

All that a payload can reach is decided here. Rules about who talks to whom hold where the cluster's network enforces
NetworkPolicy; nothing else relies on them alone: squids check addresses themselves, startds hold no API token.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking
from pulumi_kubernetes.scheduling import v1 as scheduling

from components import naming, peers
from components.after import after
from components.labels import labels

ENFORCE = "pod-security.kubernetes.io/enforce"
SQUID_PORT = 3128
METRICS_PORT = 9301  # of the squids' exporter: its own default
ORIGIN_PORTS = (80, 8000)  # CVMFS Stratum-1 and Frontier servers
SERVICE_PRIORITY = 1_000_000  # above startds, which have none, below the cluster's own
# Addresses that no payload has business with: private networks hold the cluster's nodes, pods, API server and whatever
# else is on site; link-local holds the clouds' metadata servers, which hand out credentials.
CLOSED_NETWORKS = (
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
    "fc00::/7", "fe80::/10",
)  # fmt: skip
METADATA_NETWORKS = ("169.254.0.0/16", "fe80::/10")


@dataclass(frozen=True, kw_only=True)
class NamespacesArgs:
    """What the site's namespaces hold at most, and the pool that its startds must reach.

    Attributes:
        site: the site's name.
        quota: hard limits of all pods of the site, as in a ResourceQuota.
        collector: host and port of the pool's collector.
        pool_networks: private networks that startds must reach besides.
        closed_networks: that startds reach as little as private ones, as public addresses of nodes and the API server.
    """

    site: str
    quota: Mapping[str, str]
    collector: str
    pool_networks: Sequence[str] = ()
    closed_networks: Sequence[str] = ()


class Namespaces(pulumi.ComponentResource):
    """Where a site lives.

    Attributes:
        site: the namespace of all that needs no privilege; its name, for whoever waits until it is there.
        system: the namespace of the privileged node agents.
        priority: the priority class of what startds depend on.
    """

    site: pulumi.Output[str]
    system: pulumi.Output[str]
    priority: pulumi.Output[str]

    def __init__(self, name: str, args: NamespacesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Namespaces", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        site = _namespace(f"{name}-site", naming.namespace(args.site), args.site, "baseline", own)
        system = _namespace(f"{name}-system", naming.system_namespace(args.site), args.site, "privileged", own)
        self.site = after(site, naming.namespace(args.site))
        self.system = after(system, naming.system_namespace(args.site))
        core.ResourceQuota(
            f"{name}-quota",
            metadata=_metadata("site", self.site, args.site),
            spec=core.ResourceQuotaSpecArgs(
                # A site has no door to the outside: startds and squids are reached from within, or reach out.
                hard={**args.quota, "services.loadbalancers": "0", "services.nodeports": "0"}
            ),
            opts=own,
        )
        # GKE admits system-node-critical outside kube-system only where a quota allows it.
        core.ResourceQuota(
            f"{name}-critical",
            metadata=_metadata("critical", self.system, args.site),
            spec=core.ResourceQuotaSpecArgs(
                hard={"pods": "10000"},
                scope_selector=core.ScopeSelectorArgs(
                    match_expressions=[
                        core.ScopedResourceSelectorRequirementArgs(
                            scope_name="PriorityClass", operator="In", values=["system-node-critical"]
                        )
                    ]
                ),
            ),
            opts=own,
        )
        priority = scheduling.PriorityClass(
            f"{name}-service",
            metadata=meta.ObjectMetaArgs(
                name=naming.service_priority(args.site), labels=labels(args.site, "namespaces")
            ),
            value=SERVICE_PRIORITY,
            description=f"What the startds of site {args.site} depend on: it preempts them when a node is full",
            opts=own,
        )
        self.priority = after(priority, naming.service_priority(args.site))
        for policy, spec in network_policies(args).items():
            networking.NetworkPolicy(
                f"{name}-{policy}",
                metadata=_metadata(policy, self.site, args.site),
                spec=spec,
                opts=own,
            )
        self.register_outputs({"site": self.site, "system": self.system, "priority": self.priority})


def network_policies(args: NamespacesArgs) -> dict[str, networking.NetworkPolicySpecArgs]:
    """Who may talk to whom in the site's namespace, one policy for each name."""
    return {
        "default-deny-ingress": networking.NetworkPolicySpecArgs(
            pod_selector=meta.LabelSelectorArgs(), policy_types=["Ingress"]
        ),
        "squid": networking.NetworkPolicySpecArgs(
            pod_selector=peers.pods("squid"),
            policy_types=["Ingress", "Egress"],
            ingress=[
                networking.NetworkPolicyIngressRuleArgs(
                    from_=[
                        networking.NetworkPolicyPeerArgs(pod_selector=meta.LabelSelectorArgs()),
                        peers.namespace(naming.system_namespace(args.site)),
                    ],
                    ports=[peers.tcp(SQUID_PORT), peers.tcp(METRICS_PORT)],
                )
            ],
            # Origins may be on site, so only the metadata servers are closed by address; squid.conf names the hosts.
            egress=[peers.dns(), _everywhere_but(METADATA_NETWORKS, [peers.tcp(port) for port in ORIGIN_PORTS])],
        ),
        "startd": networking.NetworkPolicySpecArgs(
            pod_selector=peers.pods("startd"),
            policy_types=["Egress"],
            egress=[
                peers.dns(),
                networking.NetworkPolicyEgressRuleArgs(to=[peers.component("squid")], ports=[peers.tcp(SQUID_PORT)]),
                *_pool(args),
                _everywhere_but((*CLOSED_NETWORKS, *args.closed_networks), None),
            ],
        ),
    }


def _pool(args: NamespacesArgs) -> list[networking.NetworkPolicyEgressRuleArgs]:
    """The way to a pool that the public addresses do not cover: in the cluster, or on a private network."""
    host, _, port = args.collector.rpartition(":")
    rules = []
    namespace = naming.namespace_of_host(host)
    if namespace is not None:
        rules.append(
            networking.NetworkPolicyEgressRuleArgs(to=[peers.namespace(namespace)], ports=[peers.tcp(int(port))])
        )
    if args.pool_networks:
        networks = [_network_peer(network, ()) for network in args.pool_networks]
        rules.append(networking.NetworkPolicyEgressRuleArgs(to=networks))
    return rules


def _everywhere_but(
    closed: Sequence[str], ports: list[networking.NetworkPolicyPortArgs] | None
) -> networking.NetworkPolicyEgressRuleArgs:
    networks = [_network_peer(everywhere, closed) for everywhere in ("0.0.0.0/0", "::/0")]
    return networking.NetworkPolicyEgressRuleArgs(to=networks, ports=ports)


def _network_peer(network: str, closed: Sequence[str]) -> networking.NetworkPolicyPeerArgs:
    whole = ipaddress.ip_network(network)
    excluded = [part for part in closed if ipaddress.ip_network(part).version == whole.version]
    return networking.NetworkPolicyPeerArgs(ip_block=networking.IPBlockArgs(cidr=network, except_=excluded or None))


def _namespace(resource: str, name: str, site: str, level: str, own: pulumi.ResourceOptions) -> core.Namespace:
    return core.Namespace(
        resource,
        metadata=meta.ObjectMetaArgs(name=name, labels={**labels(site, "namespaces"), ENFORCE: level}),
        opts=own,
    )


def _metadata(name: str, namespace: pulumi.Output[str], site: str) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(name=name, namespace=namespace, labels=labels(site, "namespaces"))
