"""Where sites push to: a real server on the loopback, a real file, and whatever a site may send."""

import asyncio
import gzip
import io
import json
import multiprocessing
import os
import signal
import sqlite3
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from prometheus_client import generate_latest

from services.portal.gate import Gate, digest
from services.portal.metrics import Metrics
from services.portal.push import application
from services.portal.report import Report, read
from services.portal.store import Heard, Store, Unusable
from tests.services.portal import NOW, OTHER, TOKEN, report, whole

pytestmark = pytest.mark.fast

SITES = ("hall", "cern")


class Hub:
    """A hub that runs, and a site that speaks to it."""

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self.directory = directory
        self.now = NOW
        self.store = Store(directory / "portal.db")
        self.known = self.store.all(SITES)
        self.metrics = Metrics(SITES, self.known, lambda: self.now)
        tokens = directory / "tokens"
        tokens.mkdir(exist_ok=True)
        (tokens / "hall").write_text(digest(TOKEN) + "\n")
        (tokens / "cern").write_text(digest(OTHER))
        made = application(
            Gate(tokens), self.store, self.known, self.metrics, most_bytes=most_bytes, clock=lambda: self.now
        )
        self.server = TestServer(made)

    async def put(
        self, content: object, *, site: str = "hall", token: str | None = TOKEN, **headers: str
    ) -> tuple[int, str]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.put(
                self.server.make_url(f"/api/v1/sites/{site}"),
                data=io.BytesIO(body),
                headers={**bearer, **{key.replace("_", "-"): value for key, value in headers.items()}},
            ) as response,
        ):
            return response.status, await response.text()

    def kept(self) -> dict[str, Heard]:
        """What another process finds in the file."""
        store = Store(self.directory / "portal.db")
        try:
            return store.all(SITES)
        finally:
            store.close()


Told = Callable[[Hub], Awaitable[Any]]


def hub(directory: Path, told: Told, *, most_bytes: int = 2**20) -> Any:
    async def run() -> Any:
        made = Hub(directory, most_bytes)
        async with made.server:
            try:
                return await told(made)
            finally:
                made.store.close()

    return asyncio.run(run())


def test_a_report_is_kept_with_the_time_it_was_heard(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        made.now = NOW + 5
        assert await made.put(whole()) == (204, "")
        assert made.known["hall"] == made.kept()["hall"] == Heard(at=NOW + 5, report=report())
        assert "cern" not in made.known

    hub(tmp_path, told)


def test_a_report_may_be_packed(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        packed = gzip.compress(json.dumps(whole()).encode())
        assert (await made.put(packed, Content_Encoding="gzip"))[0] == 204
        status, sentence = await made.put(packed[:-20], Content_Encoding="gzip")
        assert status in {400, 422}
        assert sentence.count("\n") <= 1
        assert made.kept()["hall"].report == report()

    hub(tmp_path, told)


def wrong(**more: Any) -> Any:
    return {**whole(), **more}


BAD = {
    "no token": (whole(), {"token": None}, 401, "the token is nobody's"),
    "a token of nobody": (whole(), {"token": "x" * 43}, 401, "the token is nobody's"),
    "a digest for a token": (whole(), {"token": digest(TOKEN)}, 401, "the token is nobody's"),
    "an empty token": (whole(), {"token": ""}, 401, "the token is nobody's"),
    "another site's token": (whole(), {"token": OTHER}, 403, "the token is of another site than hall"),
    "another site's report": (whole("cern"), {}, 403, "the report is of cern and the token of hall"),
    "too large": (b" " * (2**20 + 1), {}, 413, "larger than 1 MiB"),
    "no JSON": (b"{", {}, 422, "this is no report: the body: Invalid JSON"),
    "nothing": (b"", {}, 422, "this is no report: the body: Invalid JSON"),
    "a list": ([], {}, 422, "this is no report: the body:"),
    "another version": (wrong(version=2), {}, 422, "this is no report: version: "),
    "a name that is a path": (wrong(site="../x"), {}, 422, "this is no report: site: "),
    "no time": (wrong(time=None), {}, 422, "this is no report: time: "),
    "a time without end": (b'{"version":1,"site":"hall","atlasSite":"A","time":1e999}', {}, 422, "time: "),
    "fewer than no startds": (
        wrong(sets=[{"name": "s", "limits": {"pods": 1}, "status": {"startds": {"running": -1}}}]),
        {},
        422,
        "sets.0.status.startds.running: ",
    ),
    "a currency that is none": (
        wrong(cost={"currency": "<b>", "today": 1, "month": 1}),
        {},
        422,
        "cost.currency: ",
    ),
}


@pytest.mark.parametrize(("content", "how", "status", "sentence"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_one_sentence_and_what_was_known_stays(
    content: Any, how: dict[str, Any], status: int, sentence: str, tmp_path: Path
) -> None:
    async def told(made: Hub) -> None:
        assert (await made.put(whole()))[0] == 204
        found, text = await made.put(content, **how)
        assert (found, text.count("\n")) == (status, 1)
        assert sentence in text
        assert made.known["hall"] == made.kept()["hall"] == Heard(at=NOW, report=report())
        metrics = generate_latest(made.metrics.registry).decode()
        assert f'portal_pushes_total{{result="{status}"}} 1.0' in metrics
        assert 'portal_pushes_total{result="taken"} 1.0' in metrics

    hub(tmp_path, told)


def test_a_small_packet_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        packed = gzip.compress(b" " * 64 * 2**20)
        assert (await made.put(packed, Content_Encoding="gzip"))[0] == 413

    hub(tmp_path, told)


def test_keys_of_a_later_release_are_passed_over(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        sets, startds = ([{**each, "colour": "blue"} for each in whole()[key]] for key in ("sets", "startds"))
        assert (await made.put(wrong(weather="fine", sets=sets, startds=startds)))[0] == 204
        assert made.known["hall"].report == report()

    hub(tmp_path, told)


def test_a_token_that_is_replaced_counts_at_once(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        (tmp_path / "tokens/hall").write_text(digest("n" * 43))
        assert (await made.put(whole()))[0] == 401
        assert (await made.put(whole(), token="n" * 43))[0] == 204

    hub(tmp_path, told)


def test_a_site_without_a_digest_is_nobody(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        (tmp_path / "tokens/hall").write_text("")
        assert (await made.put(whole(), token=""))[0] == 401
        assert (await made.put(whole(), token=None))[0] == 401

    hub(tmp_path, told)


def test_nothing_can_be_read_where_sites_push_to(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        async with aiohttp.ClientSession() as session:
            for path in ("/", "/api/v1/sites/hall", "/sites/hall"):
                headers = {"Authorization": f"Bearer {TOKEN}"}
                async with session.get(made.server.make_url(path), headers=headers) as response:
                    assert response.status in {404, 405}

    hub(tmp_path, told)


def test_a_hub_that_cannot_write_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        assert (await made.put(whole()))[0] == 204
        made.store._db.execute("PRAGMA query_only = ON")
        made.now += 60
        status, sentence = await made.put(whole(problems=["new"]))
        assert (status, sentence) == (503, "the hub cannot write now: push again later\n")
        assert made.known["hall"] == made.kept()["hall"] == Heard(at=NOW, report=report())

    hub(tmp_path, told)


def test_many_sites_push_at_once_and_each_is_kept(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        turns = [("hall", TOKEN), ("cern", OTHER)] * 20
        found = await asyncio.gather(*(made.put(whole(site), site=site, token=token) for site, token in turns))
        assert {status for status, _ in found} == {204}
        assert set(made.kept()) == {"hall", "cern"}

    hub(tmp_path, told)


def test_a_hub_that_starts_again_knows_what_it_knew_and_forgets_who_left_the_stack(tmp_path: Path) -> None:
    store = Store(tmp_path / "portal.db")
    store.put("hall", Heard(at=NOW, report=report()))
    store.put("gone", Heard(at=NOW, report=report("gone")))
    store.close()

    async def told(made: Hub) -> None:
        assert made.known == {"hall": Heard(at=NOW, report=report())}

    hub(tmp_path, told)
    with sqlite3.connect(tmp_path / "portal.db") as db:
        assert db.execute("SELECT site FROM reports").fetchall() == [("hall",)]


def test_a_report_that_cannot_be_read_any_more_keeps_no_hub_from_starting(tmp_path: Path) -> None:
    store = Store(tmp_path / "portal.db")
    store.put("hall", Heard(at=NOW, report=report()))
    for site, content in (("cern", b"no report"), ("old", zlib.compress(b'{"version": 0}'))):
        store._db.execute("INSERT INTO reports VALUES (?, ?, ?)", (site, NOW, content))
    assert set(store.all([*SITES, "old"])) == {"hall"}
    store.close()


def _write(path: Path, told: Any) -> None:
    store = Store(path)
    number = 0
    while True:
        number += 1
        store.put("hall", Heard(at=float(number), report=report(problems=[str(number)] * 200)))
        told.send(number)


def test_a_hub_that_is_killed_while_it_writes_has_all_that_it_took(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_write, args=(tmp_path / "portal.db", theirs), daemon=True)
    process.start()
    for _ in range(20):
        taken = mine.recv()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while mine.poll():
        try:
            taken = mine.recv()
        except (EOFError, OSError):
            break
    store = Store(tmp_path / "portal.db")
    kept = store.all(SITES)["hall"]
    store.close()
    # It was killed before it could tell of the last one, at most.
    assert kept.at in {taken, taken + 1}
    assert set(kept.report.problems) == {str(int(kept.at))}


def test_a_file_that_is_none_or_of_a_later_release_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but long enough to be looked at as one" * 50)
    with pytest.raises(Unusable, match="it cannot be used"):
        Store(tmp_path / "text")
    with sqlite3.connect(tmp_path / "later") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(Unusable, match="run the release that wrote it"):
        Store(tmp_path / "later")


def test_a_report_comes_through_the_wire_as_it_was() -> None:
    assert read(report().written()) == report()
    bare = Report(site="hall", atlas_site="A", time=NOW)
    assert read(bare.written()) == bare
    assert bare.startds is None


def test_silence_is_told_in_seconds_also_of_a_site_that_was_never_heard(tmp_path: Path) -> None:
    async def told(made: Hub) -> None:
        await made.put(whole())
        made.now += 400
        metrics = generate_latest(made.metrics.registry).decode()
        assert 'portal_silence_seconds{site="hall"} 400.0' in metrics
        assert 'portal_silence_seconds{site="cern"} 400.0' in metrics

    hub(tmp_path, told)
