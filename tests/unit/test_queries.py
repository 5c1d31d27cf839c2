"""What alerts and dashboards ask Prometheus for is there: each metric, each label that is picked, kept or shown."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.unit.exposed import SCRAPED, SQUID, exposed
from tests.unit.queries import Asked, asked

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
ALERTS = {
    rule["alert"]: rule["expr"]
    for file in (CHECKOUT / "dashboards/alerts").glob("*.yaml")
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
}
# As the stack hands them over, with what Grafana puts in their place.
TARGETS = {
    f"{file.stem}: {panel['title']}, {target['refId']}": (
        target["expr"].replace("$site", "dev").replace("$__rate_interval", "5m"),
        target["legendFormat"],
    )
    for file in (CHECKOUT / "dashboards/grafana").glob("*.json")
    for panel in json.loads(file.read_text())["panels"]
    for target in panel["targets"]
}


def missing(query: str) -> list[str]:
    """What a query asks for in vain; of squids, only labels."""
    there = exposed()
    found = []
    for each in asked(query):
        if each.metric.startswith(SQUID):
            found += [f"{each.metric}{{{label}}}" for label in each.labels - SCRAPED]
        elif each.metric not in there:
            found.append(each.metric)
        else:
            found += [f"{each.metric}{{{label}}}" for label in each.labels - SCRAPED - there[each.metric]]
    return found


@pytest.mark.parametrize("query", ALERTS.values(), ids=ALERTS)
def test_what_an_alert_asks_for_is_told_by_a_service(query: str) -> None:
    assert asked(query)
    assert missing(query) == []


@pytest.mark.parametrize(("query", "legend"), TARGETS.values(), ids=TARGETS)
def test_what_a_dashboard_asks_for_is_told_by_a_service(query: str, legend: str) -> None:
    assert "$" not in query
    assert asked(query)
    assert missing(query) == []
    there = exposed()
    known = frozenset().union(*(there.get(each.metric, frozenset()) for each in asked(query)))
    assert set(re.findall(r"{{(\w+)}}", legend)) <= known | SCRAPED


def test_a_metric_or_label_that_nobody_tells_is_found_wherever_it_stands() -> None:
    assert missing('rate(vacuum_outcomes{class="Worked"}[5m])') == ["vacuum_outcomes"]
    assert missing("sum by (node) (vacuum_limit)") == ["vacuum_limit{node}"]
    assert missing("vacuum_limit / on (set, pool) vacuum_window") == ["vacuum_limit{pool}", "vacuum_window{pool}"]
    assert missing('-(max_over_time(vacuum_limit{pool="x"}[1h:5m]))') == ["vacuum_limit{pool}"]
    assert missing('squid_up{pool="x"}') == ["squid_up{pool}"]


def test_a_query_is_taken_apart() -> None:
    assert asked('a{x="1"} unless on (y) sum by (z) (rate(b_total[5m]))') == [
        Asked(metric="a", labels=frozenset({"x", "y"})),
        Asked(metric="b_total", labels=frozenset({"y", "z"})),
    ]
