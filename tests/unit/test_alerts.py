"""Alert rules are what Prometheus takes, and each has a page that says what to do about it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.queries import asked

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
FILES = sorted((CHECKOUT / "dashboards/alerts").glob("*.yaml"))


def rules(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_alert_says_how_bad_it_is_and_its_page_tells_of_it(file: Path) -> None:
    assert rules(file)
    for rule in rules(file):
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        assert rule["annotations"]["summary"]
        page = CHECKOUT / rule["annotations"]["runbook"]
        assert f"| {rule['alert']} |" in page.read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_page_lists_each_metric_that_its_alerts_use(file: Path) -> None:
    for rule in rules(file):
        page = (CHECKOUT / rule["annotations"]["runbook"]).read_text()
        used = {each.metric for each in asked(rule["expr"])}
        assert used
        assert {metric for metric in used if f"`{metric}`" not in page} == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_alert_is_tried_both_where_it_should_fire_and_where_it_should_not(file: Path) -> None:
    tried = yaml.safe_load((CHECKOUT / "tests/alerts" / file.name).read_text())
    assert tried["rule_files"] == [f"../../dashboards/alerts/{file.name}"]
    asked = [(each["alertname"], "exp_alerts" in each) for test in tried["tests"] for each in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules(file)}
    assert {name for name, fires in asked if fires} == names
    assert {name for name, fires in asked if not fires} == names
