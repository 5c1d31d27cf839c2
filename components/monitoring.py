"""What the cluster's own Prometheus and Grafana are given: alert rules, dashboards, and the way to what a site tells.

Both read them from objects with labels, as their charts do by default. Nothing is installed, and no kind is needed that
a cluster may not have: those of the Prometheus operator are declared only where the stack says that it is there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from components import metrics, naming, peers
from components.labels import INSTANCE, PART, PART_OF, labels

NAME = "monitoring"
ALERTS = "alerts"
# By which a sidecar beside Prometheus finds rules.
RULES_LABEL = "prometheus_rules"
DASHBOARDS = "dashboards"
# By which the sidecar of Grafana's chart finds dashboards, unless it was told otherwise.
DASHBOARDS_LABEL = "grafana_dashboard"
FILES = Path(__file__).parents[1] / "dashboards"
OPERATOR = "monitoring.coreos.com/v1"


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """Who looks at the site.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        asker: the namespace of Prometheus.
        operator: whether its operator is in the cluster.
        labels: beside ours, by which it picks its objects.
    """

    site: str
    namespace: pulumi.Input[str]
    asker: str
    operator: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


class Monitoring(pulumi.ComponentResource):
    """The site's alert rules and dashboards, where the cluster's Prometheus and Grafana look for them."""

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Monitoring", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        networking.NetworkPolicy(
            f"{name}-policy",
            metadata=_metadata("metrics", args),
            spec=metrics.asked_by(peers.namespace(args.asker)),
            opts=own,
        )
        if args.operator:
            CustomResource(
                f"{name}-alerts",
                api_version=OPERATOR,
                kind="PrometheusRule",
                metadata=_metadata(ALERTS, args),
                spec={"groups": groups()},
                opts=own,
            )
            CustomResource(
                f"{name}-services",
                api_version=OPERATOR,
                kind="ServiceMonitor",
                metadata=_metadata(NAME, args),
                spec=services(args.site),
                opts=own,
            )
        else:
            core.ConfigMap(
                f"{name}-alerts",
                metadata=_metadata(ALERTS, args, {RULES_LABEL: "1"}),
                data={f"atlas-sites-{file.name}": file.read_text() for file in rule_files()},
                opts=own,
            )
        core.ConfigMap(
            f"{name}-dashboards",
            metadata=_metadata(DASHBOARDS, args, {DASHBOARDS_LABEL: "1"}),
            # Without the white space that makes a change readable in the repository.
            data={file.name: json.dumps(json.loads(file.read_text()), separators=(",", ":")) for file in boards()},
            opts=own,
        )
        self.register_outputs({"alerts": ALERTS, "dashboards": DASHBOARDS})


def boards() -> list[Path]:
    """The dashboards, which `make docs` wrote: no preview waits for Grafana's library."""
    return sorted((FILES / "grafana").glob("*.json"))


def rule_files() -> list[Path]:
    """The alert rules, a file for each part of a site."""
    return sorted((FILES / "alerts").glob("*.yaml"))


def groups() -> list[dict[str, Any]]:
    """All of them, as the operator takes them."""
    return [group for file in rule_files() for group in yaml.safe_load(file.read_text())["groups"]]


def services(site: str) -> dict[str, Any]:
    """What the operator has Prometheus ask: each Service of the site that tells metrics, by the name of the port."""
    return {
        "selector": {"matchLabels": {PART: PART_OF, INSTANCE: site}},
        "namespaceSelector": {"matchNames": [naming.namespace(site), naming.system_namespace(site)]},
        "endpoints": [{"port": "http"}, {"port": "metrics"}],
    }


def _metadata(name: str, args: MonitoringArgs, more: Mapping[str, str] | None = None) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(
        name=name, namespace=args.namespace, labels={**labels(args.site, NAME), **args.labels, **(more or {})}
    )
