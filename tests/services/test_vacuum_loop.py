"""The whole controller on a stand-in for the API server: exactly once through any crash, and what a day costs."""

import asyncio
import copy
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from services.vacuum.main import Controller
from services.vacuum.objects import pods_path, sets_path
from tests.services.stand_in import NAMESPACE, Crash, Life, Node, Server, StandInApi, startdset

pytestmark = pytest.mark.fast

HOUR = 3600.0
CODES = {"Worked": 200, "NoWork": 300, "SiteFault": 500, "Transient": 700}


@pytest.fixture(autouse=True)
def _quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """What the controller logs is taken from the test's output."""


def turn(server: Server, controller: Controller) -> None:
    async def once() -> None:
        await controller.look()
        await controller.turn()

    asyncio.run(once())


def controller_on(server: Server, cut: Callable[[int, str], None] = lambda _number, _when: None) -> Controller:
    return Controller(StandInApi(server, cut), clock=lambda: server.now)


def killed_at(number: int, when: str) -> Callable[[int, str], None]:
    dead = False

    def cut(write: int, moment: str) -> None:
        nonlocal dead
        dead = dead or (write, moment) == (number, when)
        if dead:  # calls that were on their way side by side must not outlive it
            raise Crash

    return cut


@settings(deadline=None, max_examples=15)
@given(
    lives=st.lists(st.sampled_from(sorted(CODES.values())), min_size=1, max_size=8),
    kills=st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["before", "after"])), max_size=25),
)
def test_each_outcome_is_counted_once_wherever_the_controller_is_killed(
    lives: list[int], kills: list[tuple[int, str]]
) -> None:
    server = Server()
    node = Node(server, lambda number: Life(code=lives[number % len(lives)], seconds=60 + number))
    path = startdset(server, backoff={"baseSeconds": 60, "capSeconds": 120})
    seen: dict[str, str] = {}
    for step in range(60):
        kill = kills[step] if step < len(kills) else None
        try:
            turn(server, controller_on(server, killed_at(*kill)) if kill else controller_on(server))
        except* Crash:
            pass
        pods = server.every(pods_path(NAMESPACE))
        assert sum(pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"} for pod in pods) <= 12
        seen |= {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in pods}
        server.now += 20
        node.step()
    server.objects[path]["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    outcomes: dict[str, int] = {}
    for _ in range(6):
        outcomes = (
            server.objects[path].get("status", {}).get("outcomes", outcomes) if path in server.objects else outcomes
        )
        turn(server, controller_on(server))
        server.now += 20
        node.step()
    created = sum((verb, path_) == ("POST", pods_path(NAMESPACE)) for verb, path_ in server.calls)
    assert path not in server.objects
    assert server.every(pods_path(NAMESPACE)) == []
    assert sum(outcomes.values()) == len(node.codes)
    assert len(set(seen.values())) == len(seen), "a name was used twice"
    assert created >= len(node.codes)


def day(life: Callable[[float], Life], hours: float, **spec: object) -> tuple[Server, Node, list[tuple[float, int]]]:
    """Runs a controller in steps of twenty seconds; the pods that lived at each time, too."""
    server = Server()
    began = server.now
    node = Node(server, lambda _number: life(server.now - began))
    startdset(server, **spec)
    controller = controller_on(server)
    living: list[tuple[float, int]] = []
    while server.now < began + hours * HOUR:
        turn(server, controller)
        node.step()
        living.append((server.now - began, len(server.every(pods_path(NAMESPACE)))))
        server.now += 20
    return server, node, living


def test_an_empty_queue_costs_next_to_nothing() -> None:
    _, node, living = day(lambda _now: Life(code=300, seconds=600), hours=12)
    first = len([alive for at, alive in living if at < HOUR and alive])
    later = [alive for at, alive in living if at > 6 * HOUR]
    assert first > 0
    assert max(later) == 1
    # A probe lives ten minutes; the back-off after it is an hour, less 15 % at the most.
    assert sum(later) / len(later) <= 600 / (600 + 0.85 * HOUR) + 0.02
    assert len(node.codes) <= 4 + 3 + 12 * HOUR / (600 + 0.85 * 600)


def test_when_work_returns_the_site_is_full_again_soon() -> None:
    def life(now: float) -> Life:
        return Life(code=200, seconds=None) if now > 10 * HOUR else Life(code=300, seconds=600)

    _, _, living = day(life, hours=13)
    first = next(at for at, alive in living if at > 10 * HOUR and alive)
    assert first <= 11.15 * HOUR + 60
    assert living[-1][1] == 12


def test_a_steady_site_writes_nothing() -> None:
    server, _, _ = day(lambda _now: Life(code=200, seconds=None), hours=1)
    server.calls.clear()
    controller = controller_on(server)
    for _ in range(30):
        turn(server, controller)
        server.now += 60
    assert server.calls == []


def test_a_startd_costs_three_writes_in_its_life() -> None:
    server, node, _ = day(lambda _now: Life(code=200, seconds=1200), hours=4)
    pods = [verb for verb, path in server.calls if path.startswith(pods_path(NAMESPACE))]
    assert len(pods) <= 3 * len(node.codes)


def test_a_set_that_is_deleted_takes_its_startds_with_it() -> None:
    server, node, _ = day(lambda _now: Life(code=200, seconds=None), hours=0.5)
    path = next(path for path in server.objects if path.endswith("/startdsets/startds"))
    asyncio.run(StandInApi(server).delete(path, uid=server.objects[path]["metadata"]["uid"]))
    turn(server, controller_on(server))
    assert {
        pod["metadata"]["annotations"]["vacuum.atlas-sites.io/requested"] for pod in server.every(pods_path(NAMESPACE))
    } == {"drain"}
    node.step()
    turn(server, controller_on(server))
    turn(server, controller_on(server))
    assert [p for p in server.objects if "/events/" not in p] == []


def test_a_pod_whose_set_is_gone_is_let_go() -> None:
    server, node, _ = day(lambda _now: Life(code=200, seconds=None), hours=0.1)
    path = next(path for path in server.objects if path.endswith("/startdsets/startds"))
    del server.objects[path]
    for pod in server.every(pods_path(NAMESPACE)):
        server.delete(pods_path(NAMESPACE, pod["metadata"]["name"]), {})
    node.step()
    turn(server, controller_on(server))
    assert server.every(pods_path(NAMESPACE)) == []


@pytest.mark.parametrize("away", [60, 3600], ids=["before its startds are given up", "long after"])
def test_a_node_that_vanishes_and_returns_costs_its_startds_and_each_is_counted_once(away: float) -> None:
    server, node, _ = day(lambda _now: Life(code=200, seconds=None), hours=0.5)
    path = next(path for path in server.objects if path.endswith("/startdsets/startds"))
    controller = controller_on(server)
    lost = {pod["metadata"]["uid"] for pod in server.every(pods_path(NAMESPACE))}
    node.away = set(lost)
    for pod in server.every(pods_path(NAMESPACE)):  # as Kubernetes does once the node has been silent for five minutes
        server.delete(pods_path(NAMESPACE, pod["metadata"]["name"]), {"gracePeriodSeconds": 30})
    back = server.now + away
    for _ in range(200):
        turn(server, controller)
        node.away = lost if server.now < back else set()
        node.step()
        server.now += 20
    alive = server.every(pods_path(NAMESPACE))
    assert len(lost) == len(alive) == 12
    assert not lost & {pod["metadata"]["uid"] for pod in alive}
    assert server.objects[path]["status"]["outcomes"] == {"Disrupted": 12}


def test_a_view_that_is_behind_makes_nothing() -> None:
    server = Server()
    path = startdset(server)
    controller = controller_on(server)
    turn(server, controller)

    async def late() -> None:
        await controller.look()
        server.replace_status(path, {"metadata": {}, "status": {"sequence": 7}})  # another controller was here
        await controller.turn()

    asyncio.run(late())
    assert server.every(pods_path(NAMESPACE)) == []


def test_nothing_is_said_of_a_set_before_its_startds_have_been_read() -> None:
    server = Server()
    startdset(server)
    controller = controller_on(server)

    async def early() -> None:
        await controller._sets.refresh()
        await controller.turn()

    asyncio.run(early())
    assert server.calls == []


def test_a_set_that_means_nothing_does_not_stop_the_others() -> None:
    server = Server()
    startdset(server)
    broken = copy.deepcopy(server.objects[sets_path(NAMESPACE, "startds")])
    broken["metadata"]["name"] = "broken"
    startd = broken["spec"]["template"]["spec"]["containers"][0]
    startd["resources"] = {"limits": {"cpu": "1.2.3"}}
    server.create(sets_path(NAMESPACE), broken)
    for _ in range(2):
        turn(server, controller_on(server))
    assert len(server.every(pods_path(NAMESPACE))) == 4
