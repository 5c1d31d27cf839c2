"""A site's own VictoriaMetrics, as the engine is told of it: whom it asks, who may query it, what it may."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import settings
from components.database import Place
from components.metrics import CONFIGURATION, DIRECTORY, PORT, Metrics, MetricsArgs
from tests.program import tree
from tests.program.monitor import Monitor, Resource, deploy
from tests.program.test_stacks import configuration, environment, run

__all__ = ["environment"]

pytestmark = pytest.mark.fast

DEPLOYMENT, SECRET = "kubernetes:apps/v1:Deployment", "kubernetes:core/v1:Secret"
CONFIG, SERVICE = "kubernetes:core/v1:ConfigMap", "kubernetes:core/v1:Service"
POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
METRICS_PORTS = {8080, 9301}


def declared(*, days: int = 30, hosts: Mapping[str, str] | None = None, **more: Any) -> Monitor:
    given: dict[str, Any] = {
        "site": "a",
        "namespace": "a",
        "priority": "a-service",
        "image": f"registry.example.org/atlas/timeseries@sha256:{'0' * 64}",
        "mib": 2048,
        "claim": True,
    }
    args = MetricsArgs(
        place=Place(**{**given, **more}),
        addresses={"credentials": "http://credentials.a.svc.cluster.local:8080/metrics"},
        hosts={"vacuum": "vacuum.a.svc.cluster.local"} if hosts is None else hosts,
        days=days,
    )
    return deploy(lambda: Metrics("a-metrics", args))


def template(monitor: Monitor) -> dict[str, Any]:
    return dict(monitor.one(DEPLOYMENT).inputs["spec"]["template"])


def scrape(config_map: Resource) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(config_map.inputs["data"]["scrape.yaml"])
    return told


def test_each_resource_has_its_place_and_breaks_no_rule() -> None:
    tree.check(declared(readers="monitoring"))
    tree.check(declared(claim=False))


def test_it_has_no_rights_in_the_cluster() -> None:
    monitor = declared()
    assert not [each for each in monitor.all() if "rbac" in each.type]
    assert template(monitor)["spec"]["automountServiceAccountToken"] is False


def test_a_change_of_whom_it_asks_makes_the_pod_anew() -> None:
    one, other = declared(), declared(hosts={})
    names = [each.one(CONFIG).inputs["metadata"]["name"] for each in (one, other)]
    assert names[0] != names[1]
    for monitor, name in zip((one, other), names, strict=True):
        assert monitor.one(CONFIG).inputs["immutable"] is True
        (volume,) = [each["configMap"] for each in template(monitor)["spec"]["volumes"] if "configMap" in each]
        assert volume["name"] == name
        (server,) = template(monitor)["spec"]["containers"]
        assert f"-promscrape.config={CONFIGURATION}/scrape.yaml" in server["args"]


def test_it_keeps_what_it_was_told_to_on_its_volume_behind_a_password() -> None:
    monitor = declared(days=7, claim=False)
    spec = template(monitor)["spec"]
    (server,) = spec["containers"]
    assert {"-retentionPeriod=7d", f"-storageDataPath={DIRECTORY}", f"-httpListenAddr=:{PORT}"} <= set(server["args"])
    (password,) = [each.partition("file://")[2] for each in server["args"] if each.startswith("-httpAuth.password=")]
    mounts = {each["mountPath"] for each in server["volumeMounts"]}
    assert {DIRECTORY, str(Path(password).parent)} <= mounts
    assert spec["volumes"][0]["emptyDir"] == {"sizeLimit": "2048Mi"}
    made = monitor.one(SECRET)
    assert made.ignore_changes == ["data"]
    assert made.inputs["data"]["password"] not in json.dumps(template(monitor))


def test_it_reaches_what_tells_metrics_and_only_a_named_namespace_reaches_it() -> None:
    monitor = declared()
    own = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "victoria-metrics"}}}
    asked = monitor.one(POLICY, "a-metrics-asked").inputs["spec"]
    ((rule,), selected) = asked["ingress"], asked["podSelector"]
    assert rule["from"] == [own]
    assert {each["port"] for each in rule["ports"]} == METRICS_PORTS
    assert selected["matchExpressions"] == [
        {"key": "app.kubernetes.io/name", "operator": "NotIn", "values": ["startd"]}
    ]
    itself = monitor.one(POLICY, "a-metrics-policy").inputs["spec"]
    assert itself["ingress"] == [], "a rule that names nobody would let everybody in"
    services, names = itself["egress"]
    assert [each["namespaceSelector"]["matchLabels"] for each in services["to"]] == [
        {"kubernetes.io/metadata.name": namespace} for namespace in ("a", "a-system")
    ]
    assert {each["port"] for each in services["ports"]} == METRICS_PORTS
    assert {each["port"] for each in names["ports"]} == {53}
    (rule,) = declared(readers="monitoring").one(POLICY, "a-metrics-policy").inputs["spec"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


@pytest.mark.usefixtures("environment")
def test_it_asks_each_service_of_the_site_that_tells_metrics_and_each_pod_where_there_are_several() -> None:
    """What a Prometheus would find by the annotations of Services is what this one was told of."""
    monitor = run(configuration("dev"))
    (config_map,) = [each for each in monitor.all(CONFIG) if each.name == "dev-metrics-scrape"]
    static, by_name = set(), set()
    for each in scrape(config_map)["scrape_configs"]:
        static |= {target.split("/")[2] for part in each.get("static_configs", ()) for target in part["targets"]}
        by_name |= {f"{name}:{part['port']}" for part in each.get("dns_sd_configs", ()) for name in part["names"]}
    telling: dict[bool, set[str]] = {True: set(), False: set()}
    for service in monitor.all(SERVICE):
        metadata, spec = service.inputs["metadata"], service.inputs["spec"]
        port = metadata.get("annotations", {}).get("prometheus.io/port")
        if port is not None:
            host = f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local:{port}"
            telling[spec.get("clusterIP") == "None"].add(host)
    assert (static, by_name) == (telling[False], telling[True])
    replicas = {
        each.inputs["metadata"]["name"]: each.inputs["spec"].get("replicas") for each in monitor.all(DEPLOYMENT)
    }
    assert {name for name, number in replicas.items() if number and number > 1} == {
        host.partition(".")[0] for host in by_name
    } - {"node-monitor"}


@pytest.mark.usefixtures("environment")
def test_without_portal_books_and_care_of_nodes_nobody_is_asked_in_vain() -> None:
    values = configuration("dev")
    del values["atlas-sites:portal"]
    [site] = values["atlas-sites:sites"]
    del site["accounting"]
    site["nodes"] = {"mode": "none"}
    told = scrape(run(values).one(CONFIG, "dev-metrics-scrape"))
    assert [each["job_name"] for each in told["scrape_configs"]] == ["credentials", "squid-0", "squid-1", "vacuum"]
    assert told["global"]["external_labels"] == {"namespace": "dev"}
    assert settings.Metrics().days == 30
