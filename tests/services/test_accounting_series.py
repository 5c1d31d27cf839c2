"""Time series of the books: what is written, when, and what happens when the database is not there."""

import asyncio
import base64
import gzip
import threading
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from services.accounting import lines
from services.accounting.influx import Influx
from services.accounting.ledger import Ledger
from services.accounting.main import Accounting, main
from services.accounting.money import Refused
from services.accounting.options import options
from services.accounting.projection import Away, Unwritable, points, project
from services.accounting.rows import Basis, Reading, Row, start_of
from tests.services.stand_in import Server as ApiServer, StandInApi

pytestmark = pytest.mark.fast

FIRST, LAST = date(2026, 11, 1), date(2026, 11, 3)
NOW = float(start_of(date(2026, 11, 3)) + 3600)
ENVIRONMENT = {"SITE": "a", "CURRENCY": "EUR", "VO": "atlas"}


class Killed(BaseException):
    """As if the process were no more."""


class Database:
    """It overwrites what has the same series and time, as InfluxDB does.

    Attributes:
        held: fields by series and time.
        sizes: of what it was given.
        failures: what becomes of the next writes: the exception, and whether the points are there nevertheless.
    """

    def __init__(self) -> None:
        self.target = "one"
        self.held: dict[tuple[str, str], str] = {}
        self.sizes: list[int] = []
        self.failures: list[tuple[BaseException, bool]] = []

    def write(self, lines: Sequence[str]) -> None:
        failure, taken = self.failures.pop(0) if self.failures else (None, True)
        self.sizes.append(len(lines))
        if taken:
            for line in lines:
                series, fields, time = line.rsplit(" ", 2)
                self.held[series, time] = fields
        if failure is not None:
            raise failure

    def lost(self, site: str) -> bool:
        assert site == "a"
        return not self.held

    @property
    def shown(self) -> dict[tuple[str, str], str]:
        """All that is not 0."""
        return {key: fields for key, fields in self.held.items() if fields != lines.nought(fields)}


def take(ledger: Ledger, as_of: int, *rows: Row, basis: Basis = Basis.ACTUAL) -> None:
    ledger.take(Reading(source="azure", site="a", basis=basis, first=FIRST, last=LAST, as_of=as_of, pages=[rows]))


def row(day: int = 1, micros: int = 1_000_000, service: str = "s", pool: str = "jobs") -> Row:
    return Row(
        day=date(2026, 11, day), meter=f"{pool} {service}", currency="EUR", micros=micros, pool=pool, service=service
    )


def said(ledger: Ledger) -> dict[tuple[str, str], str]:
    """What the database should show."""
    return {
        (series, str(start_of(day))): fields
        for day in (FIRST, date(2026, 11, 2), LAST)
        for series, fields in points(ledger, "a", day, "").items()
        if fields != lines.nought(fields)
    }


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


@pytest.mark.parametrize(
    ("tags", "written"),
    [
        ({"b": "1", "a": "2"}, "m,a=2,b=1"),
        ({"a": "", "b": "x"}, "m,b=x"),
        ({"a": "x, y=z"}, r"m,a=x\,\ y\=z"),
        ({"a": "x\\"}, "m,a=x%5C"),
        ({"a": "x\ny"}, "m,a=x%0Ay"),
        ({}, "m"),
    ],
)
def test_a_series_is_named_so_that_its_tags_can_be_told_apart(tags: dict[str, str], written: str) -> None:
    assert lines.series("m", tags) == written


def test_amounts_are_written_to_the_last_millionth_and_overwritten_with_nothing() -> None:
    fields = lines.fields({"n": 3, "amount": Decimal(-1_234_567_890_123_456_789) / 1_000_000})
    assert fields == "amount=-1234567890123.456789,n=3i"
    assert lines.nought(fields) == "amount=0,n=0i"
    assert lines.line("m", fields, 7) == f"m {fields} 7"
    assert lines.fields({"amount": Decimal(1) / 1_000_000}) == "amount=0.000001"


CHANGES = st.lists(
    st.tuples(
        st.dictionaries(
            st.tuples(st.integers(1, 3), st.sampled_from(["vm", "disk"]), st.sampled_from(["", "jobs"])),
            st.integers(-5, 5),
            min_size=1,
        ),
        # What becomes of the writes that follow.
        st.lists(
            st.tuples(
                st.sampled_from([Killed(), Away("away"), Unwritable("never")]),
                st.booleans(),
            ),
            max_size=3,
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(changes=CHANGES, batch=st.integers(1, 7))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_and_what_the_ledger_says_agree_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Any], batch: int
) -> None:
    database = Database()
    with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
        for as_of, (amounts, failures) in enumerate(changes, start=1):
            rows = (row(day, 1_000_000 * n, service, pool) for (day, service, pool), n in amounts.items())
            # A bill that holds nothing of what it held is refused; it is another test's.
            take(ledger, as_of, row(3, 1, "always"), *rows)
            database.failures = list(failures)
            try:
                project(ledger, "a", "", database, batch=batch)
            except (Killed, Refused):
                assert ledger.changed("a")
            else:
                assert database.shown == said(ledger)
        database.failures = []
        project(ledger, "a", "", database, batch=batch)
        assert database.shown == said(ledger)
        assert ledger.changed("a") == []
        assert max(database.sizes) <= batch
        assert project(ledger, "a", "", database) == 0


def test_a_day_that_changes_while_it_is_written_is_looked_at_again(ledger: Ledger, tmp_path: Path) -> None:
    take(ledger, 1, row())

    class Slow(Database):
        def write(self, lines: Sequence[str]) -> None:
            super().write(lines)
            with Ledger(tmp_path / "ledger.db") as other:
                take(other, 2, row(micros=7))

    project(ledger, "a", "", Slow())
    assert [day for day, _ in ledger.changed("a")] == ["2026-11-03", "2026-11-02", "2026-11-01"]


def test_a_ledger_that_was_there_before_and_another_database_are_written_from_the_beginning(ledger: Ledger) -> None:
    take(ledger, 1, row())
    for day, mark in ledger.changed("a"):
        ledger.note_projected("a", [], [(day, mark)])
    first, second = Database(), Database()
    assert project(ledger, "a", "", first) == 2
    second.target = "two"
    assert project(ledger, "a", "", second) == 2
    assert first.held == second.held


def test_a_database_that_lost_all_is_noticed_though_the_ledger_has_not_changed(ledger: Ledger) -> None:
    take(ledger, 1, row())
    database = Database()
    assert project(ledger, "a", "", database) == 2
    held = dict(database.held)
    assert project(ledger, "a", "", database) == 0
    database.held.clear()
    assert project(ledger, "a", "", database) == 2
    assert database.held == held


def test_usage_is_told_by_set_and_by_what_became_of_startds(ledger: Ledger) -> None:
    ledger.write(
        "INSERT INTO counters VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            ("a", "uid", "2026-11-01", counter, "startds", "atlas", value, 1)
            for counter, value in (
                ("held/Worked", 7200),
                ("ended/Worked", 2),
                ("busy", 3600),
                ("lost", 10),
                ("cpu", 3000),
            )
        ],
    )
    assert points(ledger, "a", FIRST, "12.5") == {
        "atlas_usage,set=startds,site=a,vo=atlas": (
            "busy_core_seconds=3600i,cpu_core_seconds=3000i,hs23_hours=25.000000,lost_core_seconds=10i,"
            "wall_core_seconds=7200i"
        ),
        "atlas_outcomes,class=Worked,set=startds,site=a,vo=atlas": "core_seconds=7200i,startds=2i",
    }
    assert "hs23_hours" not in points(ledger, "a", FIRST, "")["atlas_usage,set=startds,site=a,vo=atlas"]


class Answer:
    """A server that answers as it is told, and keeps what it was sent."""

    def __init__(self, status: int, headers: dict[str, str], body: str) -> None:
        self.asked: list[tuple[str, dict[str, str], str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                content = gzip.decompress(sent).decode() if sent else ""
                outer.asked.append((self.path, dict(self.headers), content))
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize(
    ("status", "headers", "reason", "pause"),
    [
        (429, {"Retry-After": "30"}, "SeriesUnreachable", 30),
        (503, {"Retry-After": "99999"}, "SeriesUnreachable", 900),
        (500, {}, "SeriesUnreachable", 0),
        (301, {"Location": "http://192.0.2.1/"}, "SeriesRefused", None),
        (413, {}, "SeriesRefused", None),
        (403, {}, "SeriesForbidden", None),
    ],
)
def test_an_answer_is_what_it_means(status: int, headers: dict[str, str], reason: str, pause: float | None) -> None:
    server = Answer(status, headers, "no")
    try:
        with pytest.raises(Refused, match=f"answers {status}: no") as refused:
            Influx(server.url, "atlas", None).write(["m a=1 1"])
        assert refused.value.reason == reason
        assert getattr(refused.value, "pause", None) == pause
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("status", "body", "lost"),
    [
        (200, '{"results":[{"statement_id":0}]}\n', True),
        (200, '{"results":[{"statement_id":0,"series":[{"columns":["key"],"values":[["m,site=a"]]}]}]}', False),
        (200, '{"results":[{"statement_id":0,"error":"database not found: atlas"}]}', False),
        (403, '{"error":"not authorized to execute statement"}', False),
        (404, "404 page not found", False),
    ],
)
def test_a_database_is_lost_only_if_it_says_that_it_has_nothing_of_the_site(
    status: int, body: str, *, lost: bool
) -> None:
    server = Answer(status, {}, body)
    try:
        assert Influx(server.url, "atlas", None).lost("a") is lost
    finally:
        server.stop()
    ((path, _, _),) = server.asked
    assert path == "/query?db=atlas&q=SHOW+SERIES+WHERE+%22site%22+%3D+%27a%27+LIMIT+1"


def test_a_token_or_a_user_proves_who_writes_and_neither_is_told(tmp_path: Path) -> None:
    server = Answer(204, {}, "")
    try:
        influx = Influx(f"{server.url}/", "at las", tmp_path)
        (tmp_path / "username").write_text("me")
        (tmp_path / "password").write_text("secret\n")
        influx.write(["m a=1 1", "m a=2 2"])
        for each in tmp_path.iterdir():
            each.unlink()
        (tmp_path / "token").write_text("abc\n")
        influx.write(["m a=1 1"])
    finally:
        server.stop()
    (path, first, content), (_, second, _) = server.asked
    assert (path, content) == ("/write?db=at+las&precision=s", "m a=1 1\nm a=2 2")
    assert base64.b64decode(first["Authorization"].removeprefix("Basic ")) == b"me:secret"
    assert second["Authorization"] == "Token abc"
    assert "secret" not in influx.target


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"SERIES_URL": "influxdb:8086", "SERIES_DATABASE": "x"}, "SERIES_URL is 'influxdb:8086'"),
        ({"SERIES_URL": "http://influxdb/write", "SERIES_DATABASE": "x"}, "SERIES_URL is"),
        ({"SERIES_URL": "http://influxdb"}, "SERIES_DATABASE is empty"),
    ],
)
def test_a_mistake_in_where_series_go_is_one_sentence(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        options({**ENVIRONMENT, "LEDGER": "/x", **variables})


def test_the_service_goes_on_while_the_database_is_away_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**ENVIRONMENT, "LEDGER": str(tmp_path / "ledger.db"), "CORE_HOUR_PRICE": "1"}
    clock = [NOW]
    books = Accounting(StandInApi(ApiServer(now=NOW)), options(environment), None, clock=lambda: clock[0])

    def told(name: str) -> float | None:
        return books.metrics.registry.get_sample_value(name)

    with Ledger(tmp_path / "ledger.db") as ledger:
        take(ledger, 1, row())
    assert told("accounting_series_behind_seconds") is None
    database = Database()
    database.failures = [(Away("nobody answers", 30), False)]
    clock[0] += 100
    assert not books.project(database, whole=True)
    assert books.metrics.problems["series"] == "SeriesUnreachable"
    # All that is compared anew after a start: two months.
    assert told("accounting_series_days_waiting") == 63
    assert told("accounting_series_behind_seconds") == 100
    assert "nobody answers" in capsys.readouterr().out
    assert books.project(database)
    assert "series" not in books.metrics.problems
    assert told("accounting_series_days_waiting") == told("accounting_series_behind_seconds") == 0
    assert told("accounting_series_points_total") == 2
    # The books' own turn marks the days of which it may have changed something.
    asyncio.run(books.look())
    asyncio.run(books.turn())
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert [day for day, _ in ledger.changed("a")] == ["2026-11-03", "2026-11-02", "2026-11-01"]
        assert ledger.target("a") == "one"
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    main(["rebuild"])
    assert books.project(database)
    assert told("accounting_series_points_total") == 4
