"""Time series in a real InfluxDB: always what the ledger says, whatever has happened in between."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from services.accounting.influx import Influx
from services.accounting.ledger import Ledger
from services.accounting.money import MICROS, Refused
from services.accounting.projection import Away, project
from services.accounting.rows import Basis, Reading, Row, start_of
from tests.engine.influxd import Influxd, amounts, ensure

pytestmark = pytest.mark.engine

CHECKOUT = Path(__file__).parents[2]
FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)
SITE, DATABASE = "a", "atlas"
TAGS = ("time", "pool", "service", "source", "basis", "currency")
NAMES = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    directory = tmp_path_factory.mktemp("influxdb")
    ensure(directory / "apt.log")
    made = Influxd(directory)
    yield made
    made.kill()


@pytest.fixture
def influx(server: Influxd) -> Influx:
    """A database of one's own, which is empty."""
    database = f"{DATABASE}{next(NAMES)}"
    server.ask(f'CREATE DATABASE "{database}"')
    return Influx(server.url, database, None)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


def row(day: int, micros: int, *, service: str = "Virtual Machines", pool: str = "jobs", currency: str = "EUR") -> Row:
    return Row(
        day=date(2026, 11, day), meter=f"{pool}: {service}", currency=currency, micros=micros, pool=pool,
        service=service,
    )  # fmt: skip


def take(ledger: Ledger, as_of: int, *rows: Row, basis: Basis = Basis.ACTUAL) -> None:
    reading = Reading(source="azure", site=SITE, basis=basis, first=FIRST, last=LAST, as_of=as_of, pages=[rows])
    ledger.take(reading)


def written(server: Influxd, influx: Influx, measurement: str, *tags: str) -> object:
    database = influx.target.split()[1]
    rows = server.ask(f'SELECT amount FROM "{measurement}" GROUP BY *', database)  # noqa: S608  of ours
    return amounts(rows, *tags)


def same(server: Influxd, influx: Influx, ledger: Ledger) -> None:
    """All that is in the database is all that is in the ledger, by every tag; and so are the sums by pool and set."""
    sums: dict[tuple[object, ...], int] = {}
    totals: dict[tuple[object, ...], int] = {}
    for each in ledger.rows():
        time = start_of(date.fromisoformat(each["day"]))
        key = (time, each["pool"], each["service"], each["source"], each["basis"], each["currency"])
        sums[key] = sums.get(key, 0) + each["micros"]
        total = (time, each["pool"], each["basis"], each["currency"])
        totals[total] = totals.get(total, 0) + each["micros"]
    assert written(server, influx, "atlas_charges", *TAGS) == {key: n / MICROS for key, n in sums.items() if n}
    assert written(server, influx, "atlas_cost", "time", "pool", "basis", "currency") == {
        key: n / MICROS for key, n in totals.items() if n
    }


def test_the_database_says_what_the_ledger_says_by_every_tag(server: Influxd, influx: Influx, ledger: Ledger) -> None:
    odd = 'Bandwidth, "Inter-Region" = a\\b c\\'
    take(
        ledger, 100,
        *(row(day, 1_000_001 * day, pool=pool, service=f"s{number}")
          for day in range(1, 31) for pool in ("", "jobs", "big") for number in range(3)),
        row(3, 7, service=odd), row(3, -5_000_000, service="Refund"), row(3, 11, currency="USD", service="Übertragung"),
    )  # fmt: skip
    take(ledger, 100, row(4, 2_500_000), basis=Basis.AMORTISED)
    assert project(ledger, SITE, "", influx, batch=50) > 300
    totals = {(currency, basis): amount / MICROS for (_, basis, currency), amount in ledger.sums("site").items()}
    assert written(server, influx, "atlas_charges", "currency", "basis") == totals
    assert written(server, influx, "atlas_cost", "currency", "basis") == totals
    values = server.ask('SHOW TAG VALUES FROM "atlas_charges" WITH KEY = "service"', influx.target.split()[1])
    assert {odd.replace("\\", "%5C"), "Übertragung", "Refund"} <= {each["value"] for each in values}
    assert project(ledger, SITE, "", influx) == 0


def test_a_refund_a_withdrawal_and_another_name_take_the_place_of_what_was_written(
    server: Influxd, influx: Influx, ledger: Ledger
) -> None:
    take(ledger, 100, row(1, 9_000_000), row(1, 4_000_000, service="Disks"), row(2, 3_000_000))
    project(ledger, SITE, "", influx)
    same(server, influx, ledger)
    # Less than before, below nothing, no longer there, and called otherwise: each is a correction downward.
    take(ledger, 200, row(1, 2_000_000), row(1, -1_500_000, service="Refund"), row(2, 3_000_000))
    assert project(ledger, SITE, "", influx) > 0
    same(server, influx, ledger)
    assert written(server, influx, "atlas_cost", "time") == {
        (start_of(FIRST),): 0.5,
        (start_of(FIRST + timedelta(days=1)),): 3.0,
    }
    renamed = Row(
        day=date(2026, 11, 2), meter="jobs: Virtual Machines", currency="EUR", micros=3_000_000, pool="jobs",
        service="Compute",
    )  # fmt: skip
    take(ledger, 300, row(1, 2_000_000), row(1, -1_500_000, service="Refund"), renamed)
    project(ledger, SITE, "", influx)
    same(server, influx, ledger)


def test_while_the_database_is_away_for_a_day_nothing_is_lost_and_nothing_comes_twice(
    server: Influxd, influx: Influx, ledger: Ledger
) -> None:
    take(ledger, 0, *(row(day, 1_000_000) for day in range(1, 20)))
    project(ledger, SITE, "", influx)
    server.kill()
    # A turn each quarter of an hour, in which the books go on.
    for turn in range(1, 97):
        take(ledger, turn * 900, *(row(day, 1_000_000 + turn * day) for day in range(1, 21)))
        with pytest.raises(Away, match="no answer"):
            project(ledger, SITE, "", influx)
    assert len(ledger.changed(SITE)) == 30
    server.start()
    # One point a series and day, not one for each turn.
    assert project(ledger, SITE, "", influx) == 2 * 20
    assert ledger.changed(SITE) == []
    same(server, influx, ledger)


WRITER = """
import sys
from pathlib import Path
from services.accounting.influx import Influx
from services.accounting.ledger import Ledger
from services.accounting.projection import project
with Ledger(Path(sys.argv[1])) as ledger:
    print("begin", flush=True)
    project(ledger, "a", "", Influx(sys.argv[2], sys.argv[3], None), batch=20)
    print("end", flush=True)
"""


def test_a_writer_that_is_killed_at_any_point_loses_and_doubles_nothing(
    server: Influxd, influx: Influx, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.db"
    database = influx.target.split()[1]
    killed = 0
    with Ledger(path) as ledger:
        for number, pause in enumerate((0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.22, 0.3)):
            # Names change from turn to turn, so that what was half written must be overwritten with nothing.
            take(
                ledger, number,
                *(row(day, 1_000_000 * (9 - number) + day, service=f"s{number % 3}-{each}")
                  for day in range(1, 31) for each in range(8)),
            )  # fmt: skip
            writer = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), server.url, database],
                stdout=subprocess.PIPE,
                text=True,
                cwd=CHECKOUT,
            )
            assert writer.stdout
            assert writer.stdout.readline() == "begin\n"
            try:
                writer.wait(pause)
            except subprocess.TimeoutExpired:
                writer.send_signal(signal.SIGKILL)
                killed += writer.wait() == -signal.SIGKILL
            writer.stdout.close()
        assert killed >= 3
        project(ledger, SITE, "", influx)
        same(server, influx, ledger)
        assert project(ledger, SITE, "", influx) == 0


def test_all_of_it_is_written_again_to_a_database_that_is_new_or_was_lost(
    server: Influxd, influx: Influx, ledger: Ledger
) -> None:
    take(ledger, 100, *(row(day, 1_000_000) for day in range(1, 20)))
    project(ledger, SITE, "", influx)
    database = influx.target.split()[1]
    assert project(ledger, SITE, "", influx) == 0
    server.ask(f'DROP DATABASE "{database}"')
    server.ask(f'CREATE DATABASE "{database}"')
    assert project(ledger, SITE, "", influx) == 2 * 19
    same(server, influx, ledger)
    server.ask("DROP SERIES FROM atlas_cost", database)
    assert project(ledger, SITE, "", influx) == 0
    ledger.retarget(SITE, "")  # what the command rebuild does
    project(ledger, SITE, "", influx)
    same(server, influx, ledger)
    server.ask('CREATE DATABASE "elsewhere"')
    elsewhere = Influx(server.url, "elsewhere", None)
    project(ledger, SITE, "", elsewhere)
    same(server, elsewhere, ledger)


def test_points_that_the_database_will_never_take_keep_no_others_back(
    server: Influxd, influx: Influx, ledger: Ledger
) -> None:
    database = influx.target.split()[1]
    # Somebody else wrote the same series with another type.
    influx.write([f'atlas_charges amount="text" {start_of(FIRST)}'])
    take(ledger, 100, *(row(day, 1_000_000) for day in range(1, 20)))
    with pytest.raises(Refused, match=r"400.*type conflict") as refused:
        project(ledger, SITE, "", influx, batch=4)
    assert refused.value.reason == "SeriesRefused"
    assert len(server.ask("SELECT amount FROM atlas_cost", database)) == 19
    # It knows types by the week: the first one's are refused, and told of until somebody mends it.
    numbers = [each["amount"] for each in server.ask("SELECT amount FROM atlas_charges", database)]
    assert 12 <= len(numbers) < 19
    assert ledger.changed(SITE)
    server.ask("DROP MEASUREMENT atlas_charges", database)
    ledger.retarget(SITE, "")
    project(ledger, SITE, "", influx)
    same(server, influx, ledger)


def test_who_may_not_write_and_what_is_not_there_is_told_in_a_sentence(
    server: Influxd, ledger: Ledger, tmp_path: Path
) -> None:
    take(ledger, 100, row(1, 1_000_000))
    with pytest.raises(Refused, match="make the database nowhere") as refused:
        project(ledger, SITE, "", Influx(server.url, "nowhere", None))
    assert refused.value.reason == "SeriesDatabaseMissing"
    directory = tmp_path / "guarded"
    directory.mkdir()
    guarded = Influxd(directory, auth=True)
    try:
        guarded.ask("CREATE USER admin WITH PASSWORD 'one' WITH ALL PRIVILEGES")
        told = {"u": "admin", "p": "one"}
        guarded.ask("CREATE DATABASE atlas", **told)
        secret = tmp_path / "secret"
        influx = Influx(guarded.url, DATABASE, secret)
        with pytest.raises(Refused, match="neither token nor username and password"):
            project(ledger, SITE, "", influx)
        secret.mkdir()
        (secret / "username").write_text("admin\n")
        (secret / "password").write_text("two\n")
        with pytest.raises(Refused, match=r"401.*authorization failed") as refused:
            project(ledger, SITE, "", influx)
        assert refused.value.reason == "SeriesForbidden"
        # A Secret that is mended is read without a restart.
        (secret / "password").write_text("one\n")
        assert project(ledger, SITE, "", influx) == 2
        assert len(guarded.ask("SELECT amount FROM atlas_cost", DATABASE, **told)) == 1
    finally:
        guarded.kill()
