"""Alerts about nodes and CVMFS ask for what the services tell."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
FILES = [CHECKOUT / "dashboards" / "alerts" / f"{name}.yaml" for name in ("nodes", "cvmfs")]
RULES = [rule for file in FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_that_services_tell(rule: dict[str, Any]) -> None:
    code = "".join(file.read_text() for file in (CHECKOUT / "services").rglob("*.py"))
    metrics = set(re.findall(r"\b[a-z]+_\w+", re.sub(r"\{.*?\}", "", rule["expr"])))
    assert metrics
    assert {name for name in metrics if f'"{name.removesuffix("_total")}"' not in code} == set()
