"""What people and programs are told about a decision, and what Prometheus is."""

import json
from dataclasses import replace

import pytest
from prometheus_client import generate_latest

from services.vacuum.decide import decide
from services.vacuum.explain import facts, table
from services.vacuum.metrics import Metrics
from services.vacuum.model import Bound, Circuit, Message, Pod, Size, Snapshot, Spec, Status

pytestmark = pytest.mark.fast

NOW = 1_000_000.0
SPEC = Spec(template="t", size=Size(millicores=1000), pods=7, millicores=9000)
UNKNOWN = Bound(name="nodes", startds=None, because="nobody may read the nodes")
RUNS = Pod(
    name="s-1",
    uid="1",
    sequence=1,
    template="t",
    size=SPEC.size,
    created=NOW - 60,
    phase="Running",
    scheduled=NOW - 58,
    started=NOW - 50,
    ready=NOW - 10,
)
ENDED = replace(
    RUNS,
    name="s-2",
    uid="2",
    sequence=2,
    phase="Succeeded",
    ready=None,
    finished=NOW,
    node="n",
    message=Message(code=200, reason="Worked", busy_seconds=30, cpu_seconds=25),
)
SNAPSHOT = Snapshot(
    name="s",
    spec=SPEC,
    status=Status(template="t", window=4, sequence=2),
    pods=(RUNS, ENDED),
    bounds=(UNKNOWN,),
)


def test_the_table_has_the_term_that_rules_first_and_what_nobody_knows_last() -> None:
    lines = table("s", decide(SNAPSHOT, NOW, 0)).splitlines()
    start = lines.index("  room for   because") + 1
    assert [line.split()[:2] for line in lines[start : start + 4]] == [
        ["6", "pods:"],
        ["7", "window:"],
        ["8", "cores:"],
        ["unknown", "nodes:"],
    ]
    assert lines[-1] == "  s-2: Worked (Worked) after 50 s on n"


def test_programs_are_told_the_same_as_people() -> None:
    decision = decide(SNAPSHOT, NOW, 0)
    told = json.loads(json.dumps(facts("s", decision)))
    assert told["startds"] == {"total": 7, "running": 1, "proven": 1, "unproven": 6}
    assert [(term["name"], term["allows"]) for term in told["terms"]][-1] == ("nodes", None)
    assert told["terms"][0]["because"] in table("s", decision)
    assert told["circuit"] == {"state": "Closed", "level": 0, "until": None}


def test_a_set_that_backs_off_says_until_when() -> None:
    resting = replace(SNAPSHOT, status=Status(template="t", window=1, circuit=Circuit.OPEN, until=NOW + 90), pods=())
    told = facts("s", decide(resting, NOW, 0))
    assert (told["state"], told["circuit"]["until"], told["next"]) == (
        "BackingOff",
        "1970-01-12T13:48:10Z",
        "1970-01-12T13:48:10Z",
    )


def test_metrics_tell_what_the_statuses_hold_and_what_startds_took() -> None:
    metrics = Metrics(staleness=lambda: 3.0, leads=lambda: True)
    decision = decide(SNAPSHOT, NOW, 0)
    metrics.statuses = {"s": decision.status}
    metrics.observe(SNAPSHOT, decision)
    text = generate_latest(metrics.registry).decode()
    for line in (
        "vacuum_leader 1.0",
        'vacuum_core_seconds_total{class="Worked",set="s"} 50.0',
        'vacuum_busy_core_seconds_total{set="s"} 30.0',
        'vacuum_cpu_core_seconds_total{set="s"} 25.0',
        'vacuum_bound_startds{bound="pods",set="s"} 7.0',
        'vacuum_startd_step_seconds_sum{set="s",step="proof"} 50.0',
        'vacuum_startd_step_seconds_sum{set="s",step="schedule"} 2.0',
        'vacuum_startd_step_seconds_sum{set="s",step="start"} 8.0',
    ):
        assert line in text
    assert 'bound="nodes"' not in text
