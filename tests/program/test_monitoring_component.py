"""What the cluster's Prometheus is given, and who may ask what."""

import json
from typing import Any

import pytest
import yaml

from components.monitoring import Monitoring, MonitoringArgs, rule_files
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast

CONFIG = "kubernetes:core/v1:ConfigMap"
OPERATOR = "kubernetes:monitoring.coreos.com/v1:"


def declared(**more: Any) -> Monitor:
    given: dict[str, Any] = {"site": "a", "namespace": "a", "asker": "watch"}
    return deploy(lambda: Monitoring("a-monitoring", MonitoringArgs(**{**given, **more})))


def test_a_sidecar_finds_each_rule_by_a_label_and_no_kind_is_needed_that_may_not_be_there() -> None:
    monitor = declared()
    tree.check(monitor)
    rules = monitor.one(CONFIG, "a-monitoring-alerts").inputs
    assert rules["metadata"]["labels"]["prometheus_rules"] == "1"
    assert rules["data"] == {f"atlas-sites-{file.name}": file.read_text() for file in rule_files()}
    assert len(rules["data"]) >= 6
    assert not [resource for resource in monitor.resources if "coreos" in resource.type]


def test_grafana_finds_the_dashboards_by_its_own_label() -> None:
    made = declared().one(CONFIG, "a-monitoring-dashboards").inputs
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    titles = {name: json.loads(text)["title"] for name, text in made["data"].items()}
    assert len(set(titles.values())) == len(titles) == 7
    # The API server takes a MiB, and each site's share of the state is paid for in each preview.
    assert sum(len(text) for text in made["data"].values()) < 64 * 1024


def test_the_operator_gets_the_same_rules_and_is_told_whom_to_ask() -> None:
    monitor = declared(operator=True, labels={"release": "prometheus"})
    tree.check(monitor)
    rules = monitor.one(f"{OPERATOR}PrometheusRule").inputs
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    names = [rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    written = [yaml.safe_load(file.read_text())["groups"] for file in rule_files()]
    assert names == [rule["alert"] for groups in written for group in groups for rule in group["rules"]]
    asked = monitor.one(f"{OPERATOR}ServiceMonitor").inputs["spec"]
    assert asked["namespaceSelector"]["matchNames"] == ["a", "a-system"]
    assert [endpoint["port"] for endpoint in asked["endpoints"]] == ["http", "metrics"]
    assert asked["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "a"


def test_prometheus_reaches_what_tells_metrics_and_no_payload() -> None:
    spec = declared().one("kubernetes:networking.k8s.io/v1:NetworkPolicy").inputs["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    (rule,) = spec["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "watch"}}}]
    assert [port["port"] for port in rule["ports"]] == [8080, 9301]
    (excepted,) = spec["podSelector"]["matchExpressions"]
    assert excepted == {"key": "app.kubernetes.io/name", "operator": "NotIn", "values": ["startd"]}
