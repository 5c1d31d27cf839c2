"""What startds did: seen in the API server, counted by the controller, priced by a table, told to others."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from services.accounting import focus
from services.accounting.attribution import attributed
from services.accounting.collectors.prices import Prices, PriceTable, priced
from services.accounting.ledger import Ledger
from services.accounting.money import Refused
from services.accounting.rows import Basis, Reading, Row, start_of
from services.accounting.startds import Startd, Time, auditor_records, end, pool_of, record, startd_of, times
from services.accounting.usage import note, table, usages
from services.times import timestamp
from services.vacuum.cluster import NodePool
from services.vacuum.model import Class

pytestmark = pytest.mark.fast

DAY, NEXT = date(2026, 11, 24), date(2026, 11, 25)
NOON = start_of(DAY) + 43_200
POOL = NodePool(
    name="jobs-1", selector={"pool": "jobs"}, maximum=9, holds={"cpu": 16.0, "memory": 64 * 2.0**30}, price=1.6
)
PRICES = Prices(currency="EUR", pools=[POOL], core_hour=Decimal("0.05"))
STARTD = Startd(
    uid="u1",
    name="s-1",
    startd_set="s",
    vo="atlas",
    node="n1",
    millicores=8000,
    memory_mib=1024,
    began=NOON,
    ended=None,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


def pod(phase: str = "Running", **status: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": "7500m", "memory": "2Gi"}, "limits": {"cpu": "8", "memory": "2Gi"}}
    return {
        "metadata": {
            "name": "s-1",
            "uid": "u1",
            "resourceVersion": "1",
            "creationTimestamp": timestamp(NOON),
            "labels": {"vacuum.atlas-sites.io/set": "s"},
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "startd", "resources": resources}]},
        "status": {
            "phase": phase,
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(NOON + 5)}],
            **status,
        },
    }


def test_a_pod_is_a_startd_from_its_node_on_with_what_the_scheduler_keeps_for_it() -> None:
    assert startd_of(pod(), "atlas") == Startd(
        uid="u1",
        name="s-1",
        startd_set="s",
        vo="atlas",
        node="n1",
        millicores=7500,
        memory_mib=2048,
        began=NOON + 5,
        ended=None,
    )
    waiting = pod("Pending", conditions=[])
    assert startd_of(waiting, "atlas") is None
    waiting["metadata"]["labels"]["accounting.atlas-sites.io/vo"] = "cms"
    state = {"terminated": {"exitCode": 0, "startedAt": timestamp(NOON), "finishedAt": timestamp(NOON + 60)}}
    over = pod("Succeeded", containerStatuses=[{"name": "startd", "state": state}])
    over["metadata"]["labels"]["accounting.atlas-sites.io/vo"] = "cms"
    found = startd_of(over, "atlas")
    assert found is not None
    assert (found.vo, found.ended) == ("cms", NOON + 60)


def test_a_startd_told_of_again_and_again_is_one_and_belongs_to_each_day_by_its_seconds(ledger: Ledger) -> None:
    for now in (NOON, NOON + 50_000, NOON + 20_000, NOON + 50_000):
        record(ledger, "a", [STARTD], {"n1": "jobs-1"}, now)
    assert [each.seconds for each in times(ledger, "a", DAY)] == [43_200]
    assert [each.seconds for each in times(ledger, "a", NEXT)] == [6_800]
    assert list(times(ledger, "b", DAY)) == []
    record(ledger, "a", [replace(STARTD, ended=NOON + 60_000)], {}, NOON + 90_000)
    record(ledger, "a", [STARTD], {}, NOON + 99_000)
    assert [(each.pool, each.seconds) for each in times(ledger, "a", NEXT)] == [("jobs-1", 16_800)]


def test_the_end_of_a_startd_that_nobody_saw_is_taken_from_its_outcome(ledger: Ledger) -> None:
    record(ledger, "a", [STARTD], {}, NOON)
    end(ledger, "a", [("s-1", NOON + 600), ("other", NOON + 1)])
    end(ledger, "a", [("s-1", NOON + 900)])
    assert [each.seconds for each in times(ledger, "a", DAY)] == [600]


def test_a_node_is_of_the_pool_whose_labels_it_bears() -> None:
    assert pool_of({"pool": "jobs", "x": "y"}, [POOL]) == "jobs-1"
    assert pool_of({"x": "y"}, [POOL]) == ""


def test_a_startd_costs_its_larger_part_of_a_node_and_elsewhere_its_cores() -> None:
    def kind(pool: str, millicores: int, memory_mib: int) -> Time:
        return Time(startd_set="s", vo="atlas", pool=pool, millicores=millicores, memory_mib=memory_mib, seconds=3600)

    rows = priced([kind("jobs-1", 8000, 1024), kind("jobs-1", 1000, 32 * 1024), kind("", 2000, 1)], DAY, PRICES)
    assert {row.meter: row.micros for row in rows} == {
        "jobs-1: startds of s": 800_000 + 800_000,
        "startds of s": 100_000,
    }
    with pytest.raises(Refused, match=r"accounting\.coreHourPrice"):
        priced([kind("", 2000, 1)], DAY, replace(PRICES, core_hour=None))


def test_what_is_estimated_grows_with_the_day_and_is_never_doubled(ledger: Ledger) -> None:
    for now in (NOON + 3600, NOON + 7200, NOON + 7200):
        record(ledger, "a", [STARTD], {"n1": "jobs-1"}, now)
        source = PriceTable(ledger, "a", PRICES)
        ledger.take(
            Reading(
                source=source.name,
                site="a",
                basis=Basis.ESTIMATED,
                first=DAY,
                last=DAY,
                as_of=now,
                pages=source.pages(Basis.ESTIMATED, DAY, DAY),
            )
        )
        assert ledger.sums() == {("estimated", "EUR"): (now - NOON) * 800_000 // 3600}


def startdset(uid: str, worked: int, failed: int, busy: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "s", "uid": uid},
        "status": {
            "outcomes": {"Worked": 2, "SiteFault": 1},
            "coreSeconds": {
                "held": {"Worked": worked, "SiteFault": failed},
                "busy": busy,
                "lost": 10,
                "cpu": busy // 2,
            },
        },
    }


def test_usage_is_what_the_counters_gained_and_a_set_made_anew_counts_anew(ledger: Ledger) -> None:
    note(ledger, "a", startdset("u1", 3600, 360, 3000), "atlas", NOON - 86_400)
    for _ in range(2):
        note(ledger, "a", startdset("u1", 7200, 720, 6600), "atlas", NOON)
    note(ledger, "a", startdset("u2", 400, 0, 400), "atlas", NOON + 60)
    (used,) = usages(ledger, "a", DAY, DAY)
    assert used.held == {Class.WORKED: 4000, Class.SITE_FAULT: 360}
    assert (used.wall, used.busy, used.lost) == (4360, 4000, 10)
    assert used.efficiency == pytest.approx(3990 / 4360)
    assert used.cpu_efficiency == pytest.approx(2000 / 4360)
    assert used.wasted == {Class.SITE_FAULT: 360}
    assert used.hs23_hours("12.5") == Decimal(4360) / 3600 * Decimal("12.5")
    (whole,) = usages(ledger, "a", date(2026, 11, 1), NEXT)
    assert whole.wall == 7200 + 720 + 400
    assert usages(ledger, "a", NEXT, NEXT) == []
    assert "SiteFault 0.1" in table([used], "12.5").splitlines()[1]
    assert "unknown" in table([used], "")


def test_startds_that_ended_are_told_as_auditor_takes_them(ledger: Ledger) -> None:
    record(ledger, "a", [replace(STARTD, ended=NOON + 60), replace(STARTD, uid="u2", name="s-2")], {}, NOON + 90)
    (told,) = auditor_records(ledger, "a", DAY, DAY, "12.5")
    assert told["record_id"] == "a-u1"
    assert (told["start_time"], told["stop_time"]) == (timestamp(NOON), timestamp(NOON + 60))
    assert told["meta"]["group_id"] == ["atlas"]
    assert told["components"][0] == {
        "name": "Millicores",
        "amount": 8000,
        "scores": [{"name": "HEPscore23", "value": 12.5}],
    }
    assert not set(json.dumps([told["record_id"], *told["meta"]["node"]])) & set("/()<>\\{}")


def test_the_ledger_is_told_in_the_columns_of_focus(ledger: Ledger) -> None:
    rows = [Row(day=DAY, meter="cpu", currency="EUR", micros=-1_500_001, pool="jobs")]
    ledger.take(reading(rows, 1))
    out = io.StringIO()
    focus.write(ledger.rows(), DAY, DAY, out)
    header, line = out.getvalue().splitlines()
    told = dict(zip(header.split(","), next(csv.reader([line])), strict=True))
    assert told["BilledCost"] == "-1.500001"
    assert (told["EffectiveCost"], told["ChargeCategory"], told["x_Flag"]) == ("", "Credit", "negative")
    assert (told["ChargePeriodStart"], told["ChargePeriodEnd"]) == ("2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z")


def reading(rows: list[Row], as_of: int) -> Reading:
    return Reading(source="x", site="a", basis=Basis.ACTUAL, first=DAY, last=NEXT, as_of=as_of, pages=[rows])


@settings(max_examples=30, deadline=None)
@given(
    bills=st.dictionaries(
        st.tuples(st.sampled_from([DAY, NEXT]), st.sampled_from(["", "jobs-1", "cheap"])),
        st.integers(-(10**9), 10**9),
        min_size=1,
    ),
    spans=st.lists(
        st.tuples(
            st.sampled_from(["s", "t", "u"]),
            st.sampled_from(["jobs-1", "cheap"]),
            st.integers(0, 100_000),
            st.integers(0, 50_000),
        ),
        max_size=8,
    ),
)
def test_what_is_attributed_adds_up_to_the_bill(
    bills: dict[tuple[date, str], int],
    spans: list[tuple[str, str, int, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
        for number, (startd_set, pool, began, lasted) in enumerate(spans):
            each = replace(
                STARTD, uid=str(number), startd_set=startd_set, node=pool, began=start_of(DAY) + began, ended=None
            )
            record(ledger, "a", [each], {pool: pool}, each.began + lasted)
        rows = [Row(day=day, meter=pool, currency="EUR", micros=m, pool=pool) for (day, pool), m in bills.items()]
        ledger.take(reading(rows, 1))
        parts = attributed(ledger, "a", DAY, NEXT)
        for (day, pool), amount in bills.items():
            of_it = {key[2]: part for key, part in parts.items() if key[:2] == (day.isoformat(), pool)}
            assert sum(of_it.values()) == amount
            assert not pool or set(of_it) <= {"", *(s for s, where, _, _ in spans if where == pool)}
