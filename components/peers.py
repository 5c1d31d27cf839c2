"""Who is meant in a NetworkPolicy, and at which ports."""

from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from components.labels import NAME

NAMESPACE_NAME = "kubernetes.io/metadata.name"
DNS_PORT = 53


def pods(component: str) -> meta.LabelSelectorArgs:
    """The pods of a component of the site."""
    return meta.LabelSelectorArgs(match_labels={NAME: component})


def component(name: str) -> networking.NetworkPolicyPeerArgs:
    """Whoever is a pod of that component, in the policy's own namespace."""
    return networking.NetworkPolicyPeerArgs(pod_selector=pods(name))


def namespace(name: str) -> networking.NetworkPolicyPeerArgs:
    """Whoever is in that namespace."""
    return networking.NetworkPolicyPeerArgs(
        namespace_selector=meta.LabelSelectorArgs(match_labels={NAMESPACE_NAME: name})
    )


def tcp(port: int) -> networking.NetworkPolicyPortArgs:
    """One port of TCP."""
    return networking.NetworkPolicyPortArgs(port=port, protocol="TCP")


def dns() -> networking.NetworkPolicyEgressRuleArgs:
    """Port 53 to anywhere: where a cluster's DNS runs, as pods, on nodes or outside, differs from cloud to cloud."""
    return networking.NetworkPolicyEgressRuleArgs(
        ports=[networking.NetworkPolicyPortArgs(port=DNS_PORT, protocol=protocol) for protocol in ("UDP", "TCP")]
    )
