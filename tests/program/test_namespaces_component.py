"""The namespaces: which pods are admitted, how much they may take, and whom they can talk to."""

import ipaddress
from collections.abc import Mapping
from typing import Any

import pytest

from components import labels
from components.namespaces import ENFORCE, Namespaces, NamespacesArgs
from tests.program import tree
from tests.program.monitor import Monitor, Resource, deploy

pytestmark = pytest.mark.fast

NAMESPACE = "kubernetes:core/v1:Namespace"
QUOTA = "kubernetes:core/v1:ResourceQuota"
POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
OUTSIDE = "192.0.2.10"  # stands for any public address
METADATA = ["169.254.169.254", "169.254.170.2", "fe80::a9fe:a9fe"]
PRIVATE = ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "fd00::1"]


def declared(**changes: Any) -> Monitor:
    given = {"site": "here", "quota": {"pods": "10"}, "collector": "pool.example.org:9618", **changes}
    return deploy(lambda: Namespaces("here-namespaces", NamespacesArgs(**given)))


def named(monitor: Monitor, kind: str, name: str) -> Resource:
    (found,) = [each for each in monitor.all(kind) if each.inputs["metadata"]["name"] == name]
    return found


def reaches(monitor: Monitor, component: str, address: str, port: int, *, namespace: str | None = None) -> bool:
    """Whether a pod of that component may open a TCP connection, as a network that enforces policies decides.

    Args:
        monitor: what was declared.
        component: of the pod that asks.
        address: of whom it asks.
        port: there.
        namespace: of whom it asks, when that is a pod of the cluster.
    """
    selected = [
        policy.inputs["spec"]
        for policy in monitor.all(POLICY)
        if policy.inputs["spec"]["podSelector"].get("matchLabels", {}).items() <= {labels.NAME: component}.items()
        and "Egress" in policy.inputs["spec"]["policyTypes"]
    ]
    assert selected, f"nothing holds {component} back"
    return any(_allows(rule, address, port, namespace) for spec in selected for rule in spec.get("egress", ()))


def _allows(rule: Mapping[str, Any], address: str, port: int, namespace: str | None) -> bool:
    ports = rule.get("ports")
    if ports is not None and not any(each["port"] == port and each["protocol"] == "TCP" for each in ports):
        return False
    return "to" not in rule or any(_is(peer, address, namespace) for peer in rule["to"])


def _is(peer: Mapping[str, Any], address: str, namespace: str | None) -> bool:
    if "namespaceSelector" in peer:
        return bool(peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace})
    if "ipBlock" not in peer:
        return False
    where = ipaddress.ip_address(address)
    inside = where in ipaddress.ip_network(peer["ipBlock"]["cidr"])
    return inside and not any(where in ipaddress.ip_network(closed) for closed in peer["ipBlock"].get("except", ()))


def test_every_part_hangs_on_the_component_and_keeps_to_the_policies() -> None:
    monitor = declared()
    tree.check(monitor)
    assert monitor.one("atlas-sites:index:Namespaces").outputs == {
        "site": "here",
        "system": "here-system",
        "priority": "here-service",
    }


def test_only_the_system_namespace_admits_privilege() -> None:
    monitor = declared()
    levels = {
        each.inputs["metadata"]["name"]: each.inputs["metadata"]["labels"][ENFORCE] for each in monitor.all(NAMESPACE)
    }
    assert levels == {"here": "baseline", "here-system": "privileged"}


def test_the_site_has_a_quota_and_no_door_to_the_outside() -> None:
    quota = named(declared(quota={"pods": "7", "limits.cpu": "8"}), QUOTA, "site").inputs
    assert quota["metadata"]["namespace"] == "here"
    assert quota["spec"]["hard"] == {
        "pods": "7",
        "limits.cpu": "8",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }


def test_the_node_agents_may_have_the_priority_they_need() -> None:
    quota = named(declared(), QUOTA, "critical").inputs
    assert quota["metadata"]["namespace"] == "here-system"
    (expression,) = quota["spec"]["scopeSelector"]["matchExpressions"]
    assert expression == {"operator": "In", "scopeName": "PriorityClass", "values": ["system-node-critical"]}


def test_what_startds_depend_on_comes_before_them_and_after_the_cluster_s_own() -> None:
    priority = declared().one("kubernetes:scheduling.k8s.io/v1:PriorityClass").inputs
    assert priority["metadata"]["name"] == "here-service"
    assert 0 < priority["value"] < 1_000_000_000
    assert not priority.get("globalDefault")


@pytest.mark.parametrize("component", ["startd", "squid"])
@pytest.mark.parametrize("address", METADATA)
@pytest.mark.parametrize("port", [80, 8000, 443])
def test_no_pod_that_serves_payloads_reaches_a_cloud_s_metadata(component: str, address: str, port: int) -> None:
    assert not reaches(declared(), component, address, port)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_payload_reaches_no_private_address(address: str) -> None:
    assert not reaches(declared(), "startd", address, 443)


def test_a_payload_asks_the_squids_of_its_own_site() -> None:
    rules = named(declared(), POLICY, "startd").inputs["spec"]["egress"]
    squids = [rule for rule in rules if any("podSelector" in peer for peer in rule.get("to", ()))]
    assert squids == [
        {
            "to": [{"podSelector": {"matchLabels": {labels.NAME: "squid"}}}],
            "ports": [{"port": 3128, "protocol": "TCP"}],
        }
    ]


def test_a_payload_reaches_what_is_public() -> None:
    assert reaches(declared(), "startd", OUTSIDE, 9618)
    assert reaches(declared(), "startd", "2001:db8::1", 443)


def test_a_squid_asks_origins_on_their_ports_wherever_they_are_and_nothing_else() -> None:
    monitor = declared()
    for address in (OUTSIDE, *PRIVATE):
        assert reaches(monitor, "squid", address, 80)
        assert reaches(monitor, "squid", address, 8000)
        assert not reaches(monitor, "squid", address, 443)


@pytest.mark.parametrize("component", ["startd", "squid"])
def test_names_can_be_looked_up_wherever_the_cluster_s_dns_is(component: str) -> None:
    assert reaches(declared(), component, "10.96.0.10", 53)


def test_a_pool_in_the_cluster_is_reached_in_its_namespace_on_its_port_alone() -> None:
    monitor = declared(collector="cm.pool.svc.cluster.local:9618")
    assert reaches(monitor, "startd", "10.1.2.3", 9618, namespace="pool")
    assert not reaches(monitor, "startd", "10.1.2.3", 9619, namespace="pool")
    assert not reaches(monitor, "startd", "10.1.2.3", 9618, namespace="other")


def test_a_pool_on_a_private_network_is_reached_when_the_network_is_named() -> None:
    assert not reaches(declared(), "startd", "10.5.0.1", 20_000)
    monitor = declared(pool_networks=["10.5.0.0/16"])
    assert reaches(monitor, "startd", "10.5.0.1", 20_000)
    assert not reaches(monitor, "startd", "10.6.0.1", 20_000)


def test_a_network_that_the_site_closes_is_reached_by_no_startd() -> None:
    monitor = declared(closed_networks=["192.0.2.0/28", "2001:db8::/32"])
    for address in (OUTSIDE, "2001:db8::1"):
        assert reaches(declared(), "startd", address, 443)
        assert not reaches(monitor, "startd", address, 443)
    assert reaches(monitor, "startd", "192.0.2.16", 443)
    assert reaches(monitor, "startd", OUTSIDE, 53)


def test_nobody_asks_a_pod_of_the_site_but_for_squid() -> None:
    monitor = declared()
    everyone = named(monitor, POLICY, "default-deny-ingress").inputs["spec"]
    assert everyone == {"podSelector": {}, "policyTypes": ["Ingress"]}
    ingress = [spec["ingress"] for each in monitor.all(POLICY) if "ingress" in (spec := each.inputs["spec"])]
    ((rule,),) = ingress
    assert rule["ports"] == [{"port": port, "protocol": "TCP"} for port in (3128, 9301)]
    # The site's own pods, and CVMFS on each node.
    assert rule["from"] == [
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "here-system"}}},
    ]


def test_every_policy_is_about_the_site_s_own_namespace() -> None:
    assert {each.inputs["metadata"]["namespace"] for each in declared().all(POLICY)} == {"here"}


def test_two_sites_in_one_stack_do_not_collide() -> None:
    def both() -> None:
        for site in ("here", "there"):
            args = NamespacesArgs(site=site, quota={}, collector="pool.example.org:9618")
            Namespaces(f"{site}-namespaces", args)

    monitor = deploy(both)
    tree.check(monitor)
    names = [each.inputs["metadata"]["name"] for each in monitor.all(NAMESPACE)]
    assert sorted(names) == ["here", "here-system", "there", "there-system"]
