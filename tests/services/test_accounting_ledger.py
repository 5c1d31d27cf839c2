"""The ledger: each row once, the newest reading, and sums that agree whatever they are grouped by."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from services.accounting.ledger import GROUPINGS, Ledger
from services.accounting.money import Refused
from services.accounting.rows import Basis, Reading, Row, day_of, final, start_of

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)


def row(day: int = 1, meter: str = "cpu", micros: int = 5, *, currency: str = "EUR", pool: str = "") -> Row:
    return Row(day=date(2026, 11, day), meter=meter, currency=currency, micros=micros, pool=pool, service="s")


def reading(
    *pages: Sequence[Row], as_of: int = 100, basis: Basis = Basis.ACTUAL, site: str = "a", first: date = FIRST
) -> Reading:
    return Reading(source="azure", site=site, basis=basis, first=first, last=LAST, as_of=as_of, pages=pages)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


def test_a_reading_that_is_repeated_changes_nothing(ledger: Ledger) -> None:
    same = [row(1), row(2), row(2, "disk")]
    ledger.take(reading(same))
    before = list(ledger.rows())
    ledger.take(reading(same))
    assert list(ledger.rows()) == before
    assert ledger.sums() == {("actual", "EUR"): 15}


def test_a_correction_takes_the_place_of_what_was_said_and_an_older_reading_does_not(ledger: Ledger) -> None:
    ledger.take(reading([row(1, micros=7)], as_of=200))
    ledger.take(reading([row(1, micros=4)], as_of=300))
    assert ledger.take(reading([row(1, micros=9)], as_of=250)).outdated
    assert ledger.sums() == {("actual", "EUR"): 4}


def test_what_a_later_bill_no_longer_holds_becomes_nought_and_says_so(ledger: Ledger) -> None:
    ledger.take(reading([row(1), row(1, "disk")], as_of=1))
    assert ledger.take(reading([row(1)], as_of=2)).withdrawn == 1
    assert {each["meter"]: (each["micros"], each["flag"], each["as_of"]) for each in ledger.rows()} == {
        "cpu": (5, "", 1 + 1),
        "disk": (0, "withdrawn", 2),
    }
    ledger.take(reading([row(1), row(1, "disk", 3)], as_of=3))
    assert ledger.sums() == {("actual", "EUR"): 8}


def test_a_refund_is_flagged_and_counts_as_it_should(ledger: Ledger) -> None:
    ledger.take(reading([row(1, micros=7), row(1, "refund", -9)]))
    assert ledger.sums("flag") == {("", "actual", "EUR"): 7, ("negative", "actual", "EUR"): -9}
    assert ledger.sums() == {("actual", "EUR"): -2}


def test_actual_and_amortised_and_currencies_are_never_added_up(ledger: Ledger) -> None:
    ledger.take(reading([row(1), row(1, currency="USD")]))
    ledger.take(reading([row(1)], basis=Basis.AMORTISED))
    assert ledger.sums("site") == {
        ("a", "actual", "EUR"): 5,
        ("a", "actual", "USD"): 5,
        ("a", "amortised", "EUR"): 5,
    }


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        (([row(1), row(2)], [row(1), row(2)]), "RowRepeated"),
        (([row(1), row(2), row(1)],), "RowRepeated"),
        (([row(1)], [row(2), row(1)]), "RowRepeated"),
        (([Row(day=date(2026, 12, 1), meter="cpu", currency="EUR", micros=1)],), "DayNotAskedFor"),
        (([row(1, currency="EURO")],), "CurrencyUnknown"),
        (([],), "BillEmpty"),
    ],
)
def test_of_what_is_wrong_nothing_is_taken(ledger: Ledger, pages: tuple[list[Row], ...], reason: str) -> None:
    ledger.take(reading([row(3, micros=1)], as_of=1))
    before = list(ledger.rows())
    with pytest.raises(Refused) as refused:
        ledger.take(reading(*pages, as_of=2))
    assert refused.value.reason == reason
    assert "\n" not in str(refused.value)
    assert list(ledger.rows()) == before
    ledger.take(reading([row(3, micros=2)], as_of=3))
    assert ledger.sums() == {("actual", "EUR"): 2}


def test_a_day_is_read_again_until_it_is_final(ledger: Ledger) -> None:
    def open_on(now: date) -> date:
        return ledger.first_open("a", "azure", Basis.ACTUAL, FIRST, now)

    assert open_on(date(2026, 11, 20)) == FIRST
    ledger.take(reading([row(1)], as_of=start_of(date(2026, 12, 5))))
    assert open_on(date(2026, 12, 5)) == FIRST
    ledger.take(reading([row(1)], as_of=start_of(date(2026, 12, 6))))
    assert open_on(date(2026, 12, 6)) == date(2026, 12, 1)
    assert open_on(date(2026, 11, 10)) == date(2026, 11, 10)


def test_days_are_those_of_utc_through_every_change_of_clocks() -> None:
    for day in (date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 1), date(2028, 2, 29)):
        assert day_of(start_of(day)) == day == day_of(start_of(day) + 86_399)
        assert day_of(start_of(day) - 1) < day
    east = datetime.fromisoformat("2026-11-25T01:30:00+02:00")
    assert day_of(east.timestamp()) == date(2026, 11, 24)
    assert not final(date(2026, 12, 31), datetime(2027, 1, 5, 23, 59, tzinfo=UTC).timestamp())
    assert final(date(2026, 12, 31), datetime(2027, 1, 6, tzinfo=UTC).timestamp())


def test_a_day_without_a_row_between_others_is_a_gap(ledger: Ledger) -> None:
    ledger.take(reading([row(3), row(6)]))
    assert ledger.gaps("a", "azure", Basis.ACTUAL) == [date(2026, 11, 4), date(2026, 11, 5)]


def test_a_file_that_is_no_ledger_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not a database, and long enough to be looked at" * 100)
    with pytest.raises(Refused, match="cannot be used as a ledger"):
        Ledger(tmp_path / "x")


ROWS = st.lists(
    st.builds(
        Row,
        day=st.dates(FIRST, LAST),
        meter=st.sampled_from("abcd"),
        currency=st.sampled_from(["EUR", "USD"]),
        micros=st.integers(-(10**12), 10**12),
        pool=st.sampled_from(["", "jobs", "cheap"]),
        service=st.sampled_from(["", "vm"]),
    ),
    max_size=30,
    unique_by=lambda each: (each.day, each.meter, each.currency),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), readings=st.lists(st.tuples(ROWS, st.sampled_from(Basis), st.sampled_from("ab")), max_size=6))
def test_sums_by_any_grouping_equal_the_total(
    data: st.DataObject, readings: list[tuple[list[Row], Basis, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    last: dict[tuple[Basis, str], list[Row]] = {}
    with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
        for number, (rows, basis, site) in enumerate(readings):
            middle = data.draw(st.integers(0, len(rows)))
            if rows or not any(each.micros for each in last.get((basis, site), ())):
                ledger.take(reading(rows[:middle], rows[middle:], as_of=number, basis=basis, site=site))
                last[basis, site] = rows
        expected: Counter[tuple[str, ...]] = Counter()
        for (basis, _), rows in last.items():
            for each in rows:
                expected[str(basis), each.currency] += each.micros
        for size in range(3):
            for by in combinations(GROUPINGS, size):
                total: Counter[tuple[str, ...]] = Counter()
                columns = [*dict.fromkeys([*by, "basis", "currency"])]
                for key, micros in ledger.sums(*by).items():
                    named = dict(zip(columns, key, strict=True))
                    total[named["basis"], named["currency"]] += micros
                assert {key: value for key, value in total.items() if value} == {
                    key: value for key, value in expected.items() if value
                }


WRITER = """
import sys
from datetime import date, timedelta
from pathlib import Path
from services.accounting.ledger import Ledger
from services.accounting.rows import Basis, Reading, Row

def pages(micros):
    for page in range(20):
        yield [Row(day=date(2026, 11, 1) + timedelta(days=n % 30), meter=f"{page}-{n}", currency="EUR", micros=micros)
               for n in range(250)]

ledger = Ledger(Path(sys.argv[1]))
print("open", flush=True)
for as_of in range(1, int(sys.argv[2]) + 1):
    ledger.take(Reading(source="x", site="a", basis=Basis.ACTUAL, first=date(2026, 11, 1), last=date(2026, 11, 30),
                        as_of=as_of, pages=pages(as_of)))
    print(as_of, flush=True)
"""


def test_a_collector_that_is_killed_at_any_point_loses_and_doubles_no_row(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    told = 0  # the last reading of which a writer heard that it was taken
    for pause in (0.0, 0.05, 0.12, 0.2, 0.31, 1.0):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), "1000"], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
        )
        assert writer.stdout
        writer.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(pause)
        writer.send_signal(signal.SIGKILL)
        done = writer.stdout.read().split()
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        told = max([told, *map(int, done)])
        with Ledger(path) as ledger:
            rows = list(ledger.rows())
            # Whole readings alone: none, or all rows of one of them, not older than the last that was told.
            assert len(rows) in ({5_000} if told else {0, 5_000})
            assert len({each["micros"] for each in rows}) <= 1
            assert all(each["micros"] >= told for each in rows)
    subprocess.run(
        [sys.executable, "-c", WRITER, str(path), str(told + 2)], check=True, stdout=subprocess.DEVNULL, cwd=CHECKOUT
    )
    with Ledger(path) as ledger:
        assert len(list(ledger.rows())) == 5_000
        assert ledger.sums() == {("actual", "EUR"): 5_000 * (told + 2)}


def test_readings_side_by_side_leave_the_newest_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(last)], stdout=subprocess.DEVNULL, cwd=CHECKOUT)
        for last in (2, 3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with Ledger(path) as ledger:
        assert ledger.sums() == {("actual", "EUR"): 3 * 5_000}
