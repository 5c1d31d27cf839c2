"""Alert rules are what Prometheus takes, and each has a page that says what to do about it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

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
        used = set(re.findall(r"\b[a-z]+_\w+", re.sub(r"\{.*?\}", "", rule["expr"])))
        assert used
        assert {metric for metric in used if f"`{metric}`" not in page} == set()
