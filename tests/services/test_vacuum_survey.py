"""What the controller knows of the cluster, on a stand-in for the API server: watched, and told when it is unknown."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from services.kube import Api, ApiError, DeniedError, Json, Kept, UnreachableError
from services.vacuum.cluster import Cluster
from services.vacuum.survey import Survey
from services.vacuum.watch import Cache

pytestmark = pytest.mark.fast

NODES, QUOTAS = "/api/v1/nodes", "/api/v1/namespaces/here/resourcequotas"
DENIED = DeniedError(403, "Forbidden", "nodes is forbidden: User vacuum cannot list it")
GONE_SILENT = UnreachableError(0, "ReadTimeout", "no answer")
POOL = {"name": "p", "selector": {"a": "b"}, "max": 1, "cores": 1, "memoryMib": 1, "diskMib": 1, "pods": 1}


class Said(Api):
    """What a server says of each path: objects or an error, and to a watch some events and then an error or nothing."""

    def __init__(self, lists: dict[str, list[Json] | ApiError], watches: dict[str, list[Any]] | None = None) -> None:
        self.namespace = "here"
        self.lists = lists
        self.watches = watches or {}
        self.asked: list[str] = []

    async def list(self, path: str, keep: Callable[[Json], Kept], *, selector: str = "") -> tuple[list[Kept], str]:
        del selector
        self.asked.append(path)
        said = self.lists.get(path, [])
        if isinstance(said, ApiError):
            raise said
        return [keep(each) for each in said], "1"

    async def watch(self, path: str, version: str, *, selector: str = "") -> AsyncGenerator[tuple[str, Json], None]:
        del version, selector
        for event in self.watches.get(path, ()):
            if isinstance(event, ApiError):
                raise event
            yield event
        await asyncio.Event().wait()


def node(name: str, version: int = 1, cpu: str = "8") -> Json:
    return {
        "metadata": {"name": name, "resourceVersion": str(version)},
        "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def quota(name: str) -> Json:
    return {"metadata": {"name": name, "resourceVersion": "1"}, "status": {"hard": {"pods": "3"}, "used": {}}}


def known(api: Said, tmp_path: Path) -> Cluster:
    """What is known when the server has said all that it says."""

    async def survey() -> Cluster:
        surveyed = Survey(api, asyncio.Event(), tmp_path / "pools.json")
        follows = asyncio.create_task(surveyed.run())
        for _ in range(20):
            await asyncio.sleep(0)
        follows.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follows
        return surveyed.cluster

    return asyncio.run(survey())


def test_the_facts_are_listed_once_and_then_watched(tmp_path: Path) -> None:
    events = [("ADDED", node("new", 2)), ("MODIFIED", node("one", 3, cpu="4")), ("DELETED", node("old", 4))]
    api = Said({NODES: [node("one"), node("old")], QUOTAS: [quota("q")]}, {NODES: events})
    cluster = known(api, tmp_path)
    assert {each.name: each.holds["cpu"] for each in cluster.nodes.value or ()} == {"one": 4.0, "new": 8.0}
    assert [each.hard for each in cluster.quotas.value or ()] == [{"pods": 3.0}]
    assert cluster.ranges.value == []
    assert sorted(api.asked) == sorted({*api.asked})


def test_what_was_not_read_yet_is_unknown(tmp_path: Path) -> None:
    cluster = Survey(Said({}), asyncio.Event(), tmp_path / "pools.json").cluster
    assert (cluster.nodes.value, cluster.nodes.why) == (None, "they have not been read yet")


def test_what_may_not_be_read_is_unknown_with_what_to_do_and_hides_nothing_else(tmp_path: Path) -> None:
    cluster = known(Said({NODES: DENIED, QUOTAS: [quota("q")]}), tmp_path)
    assert cluster.nodes.value is None
    assert cluster.nodes.why == f"{DENIED.message}; let the controller's role list and watch them"
    assert [each.name for each in cluster.quotas.value or ()] == ["q"]


def test_what_is_no_longer_confirmed_is_kept_and_told_to_be_old(tmp_path: Path) -> None:
    cluster = known(Said({NODES: [node("one")]}, {NODES: [GONE_SILENT]}), tmp_path)
    assert [each.name for each in cluster.nodes.value or ()] == ["one"]
    assert (cluster.nodes.stale, cluster.nodes.why) == (True, "ReadTimeout: no answer")


def test_what_nobody_spoke_of_for_long_is_old_though_nothing_failed() -> None:
    now = 0.0
    cache = Cache(Said({NODES: [node("one")]}), NODES, dict, asyncio.Event(), clock=lambda: now)
    asyncio.run(cache.refresh())
    assert cache.fresh
    now = 1000.0
    assert not cache.fresh


def pauses(api: Said, count: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest that each of the first pauses may be."""
    seconds: list[float] = []

    class EnoughError(Exception):
        pass

    async def sleep(length: float) -> None:
        seconds.append(length)
        if len(seconds) == count:
            raise EnoughError

    monkeypatch.setattr("asyncio.sleep", sleep)
    monkeypatch.setattr("random.uniform", lambda _least, most: most)
    with pytest.raises(EnoughError):
        asyncio.run(Cache(api, NODES, dict, asyncio.Event()).run())
    return seconds


def test_what_may_not_be_read_is_asked_for_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pauses(Said({NODES: DENIED}), 11, monkeypatch)[-3:] == [256, 300, 300]


def test_what_may_be_listed_but_not_watched_is_not_listed_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pauses(Said({NODES: [node("one")]}, {NODES: [DENIED]}), 11, monkeypatch)[-3:] == [256, 300, 300]


def test_a_server_that_is_away_is_asked_twice_a_minute_and_soon_again_after_it_spoke(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = Said({NODES: GONE_SILENT})
    assert pauses(away, 8, monkeypatch)[-2:] == [30, 30]
    breaks = Said({NODES: [node("one")]}, {NODES: [("BOOKMARK", node("one", 2)), GONE_SILENT]})
    assert pauses(breaks, 5, monkeypatch) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (None, "the stack does not say (pools of the site)"),
        ("[", "the ConfigMap node-pools cannot be used: "),
        (json.dumps([{**POOL, "max": "many"}]), "the ConfigMap node-pools cannot be used: pool 0 cannot be read"),
    ],
)
def test_node_pools_that_are_not_there_or_wrong_are_unknown(tmp_path: Path, written: str | None, why: str) -> None:
    if written is not None:
        (tmp_path / "pools.json").write_text(written)
    pools = known(Said({}), tmp_path).pools
    assert pools.value is None
    assert pools.why.startswith(why)


def test_node_pools_are_read_anew_with_each_look(tmp_path: Path) -> None:
    file = tmp_path / "pools.json"
    survey = Survey(Said({}), asyncio.Event(), file)
    names = []
    for written in ([], [POOL]):
        file.write_text(json.dumps(written))
        pools = survey.cluster.pools.value
        names.append(None if pools is None else [pool.name for pool in pools])
    assert names == [[], ["p"]]
