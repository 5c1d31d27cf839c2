"""Exactly once, whatever happens: outcomes are neither lost nor doubled, and no startd is ended that was not to be."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from services.kube import Access, Api, from_kubeconfig
from services.lease import SECONDS
from services.vacuum.main import Controller
from tests.cluster.cluster import WAIT_SECONDS
from tests.cluster.controller import (
    LEASE_SECONDS,
    STAYS,
    WORKS,
    Site,
)
from tests.cluster.fault_proxy import Fault, FaultProxy, Request, Where

pytestmark = pytest.mark.cluster

PODS = 12
AT_ONCE = 4
LIMITS = {"pods": AT_ONCE}
FORGOTTEN = {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old resource version"}}


class Crash(BaseException):
    """The controller is killed: nothing of its code runs on."""


class MortalApi(Api):
    """The client as it is, in a process that is killed at one of its writes, before or after the server heard of it."""

    def __init__(self, access: Access, last: int, death: Where) -> None:
        super().__init__(access)
        self._left = last
        self._death = death
        self._dead = False

    async def _send(self, verb: str, path: str, **rest: Any) -> bytes:
        if self._dead:  # calls that were on their way side by side must not outlive it
            raise Crash
        if verb != "GET" and "/events" not in path:
            self._dead = self._left == 0
            self._left -= 1
        if self._dead and self._death is Where.BEFORE:
            raise Crash
        answer = await super()._send(verb, path, **rest)
        if self._dead:
            raise Crash
        return answer


def ends(place: Site) -> set[str]:
    """The UIDs of all pods that were ever on a node: the kubelet's word, which no controller can take back."""
    return {
        event["involvedObject"]["uid"]
        for event in place.get("events")["items"]
        if event["reason"] == "Scheduled" and event["involvedObject"]["kind"] == "Pod"
    }


def is_over(place: Site) -> bool:
    return place.pods() == [] and place.status().get("startds", {}).get("total") == 0


def assert_counted_once(place: Site) -> None:
    assert place.status()["outcomes"] == {"Worked": len(ends(place))}


def no_more(place: Site, **more: Any) -> None:
    place.apply(place.spec(WORKS, limits={"pods": 0}, **more))


def test_each_outcome_is_counted_once_though_the_controller_dies_at_every_single_write(place: Site) -> None:
    """Each life ends before or after its first write, which may only confirm the status, or its second one."""
    place.apply(place.spec(WORKS, limits=LIMITS))
    access = from_kubeconfig(place.kubeconfig)

    async def life(last: int, death: Where) -> bool:
        api = MortalApi(access, last, death)
        try:
            controller = Controller(api)
            await controller.look()
            await controller.turn()
        except BaseExceptionGroup as several:
            if several.subgroup(Crash) is None:
                raise
            return True
        except Crash:
            return True
        finally:
            await api.close()
        return False

    deaths, stopped = 0, False
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        if time.monotonic() > deadline or (stopped and is_over(place)):
            break
        died = [asyncio.run(life(last, death)) for last in (0, 1) for death in (Where.BEFORE, Where.AFTER)]
        deaths += sum(died)
        if not stopped and len(ends(place)) >= PODS:
            no_more(place)
            stopped = True
        if not any(died):
            time.sleep(0.5)
    assert is_over(place)
    assert len(ends(place)) >= PODS
    assert deaths >= 2 * 3 * PODS  # made, released, deleted: before and after each
    assert_counted_once(place)
    place.start()
    place.delete()


@dataclass
class Way:
    """The way between the controller and the API server."""

    place: Site
    proxy: FaultProxy

    def fail(self, plan: Callable[[Request], Fault | None]) -> None:
        self.proxy.plan = plan

    def heal(self) -> None:
        self.proxy.plan = lambda _request: None


@pytest.fixture
def way(place: Site) -> Iterator[Way]:
    access = from_kubeconfig(place.kubeconfig)
    proxy = FaultProxy(server=access.server, tls=access.tls)
    content = json.loads(place.kubeconfig.read_text())
    content["clusters"][0]["cluster"] = {"server": proxy.url}
    place.kubeconfig.write_text(json.dumps(content))
    yield Way(place, proxy)
    proxy.close()


@pytest.mark.parametrize("where", list(Where), ids=["before", "after"])
def test_each_outcome_is_counted_once_though_the_process_is_killed_with_its_write_on_the_way(
    way: Way, where: Where
) -> None:
    place = way.place
    place.apply(place.spec(WORKS, limits=LIMITS))
    for number in range(6):
        way.proxy.restart_count()
        way.proxy.met.clear()
        way.fail(at(number, Fault(cut=where)))
        place.start()
        place.eventually(lambda: way.proxy.met, f"write {number} is made")
        place.stop(signal.SIGKILL)
    way.heal()
    place.start()
    no_more(place)
    place.eventually(lambda: is_over(place), "all startds are gone")
    assert_counted_once(place)
    place.delete()


def at(number: int, fault: Fault) -> Callable[[Request], Fault | None]:
    return lambda request: fault if request.write == number else None


def every_third(fault: Fault) -> Callable[[Request], Fault | None]:
    return lambda request: fault if request.write is not None and request.write % 3 == 0 else None


STORMS: dict[str, Callable[[Request], Fault | None]] = {
    "conflicts": every_third(Fault(status=409)),
    "too many requests": every_third(Fault(status=429, headers=(("Retry-After", "1"),))),
    "server errors": every_third(Fault(status=500)),
    "cut before": every_third(Fault(cut=Where.BEFORE)),
    "cut after": every_third(Fault(cut=Where.AFTER)),
    "forgotten versions": lambda request: Fault(status=410) if request.watches else None,
    "hung writes": every_third(Fault(hang=16.0, cut=Where.AFTER)),
}


@pytest.mark.parametrize("storm", STORMS.values(), ids=STORMS.keys())
def test_each_outcome_is_counted_once_in_a_storm(way: Way, storm: Callable[[Request], Fault | None]) -> None:
    place = way.place
    place.apply(place.spec(WORKS, limits=LIMITS))
    way.fail(storm)
    place.start()
    place.eventually(lambda: len(way.proxy.met) >= 3 and len(ends(place)) >= 1, "the storm is met")
    way.heal()
    place.eventually(lambda: len(ends(place)) >= AT_ONCE, "startds run")
    no_more(place)
    place.eventually(lambda: is_over(place), "all startds are gone")
    assert_counted_once(place)
    place.delete()


def staying(place: Site) -> dict[str, Any]:
    """Each living startd by UID, with what would have to change if anybody had touched it."""
    return {
        pod["metadata"]["uid"]: (pod["metadata"].get("annotations"), pod["metadata"].get("deletionTimestamp"))
        for pod in place.pods()
    }


def three_stay(place: Site, lease_seconds: float = LEASE_SECONDS) -> dict[str, Any]:
    place.start(lease_seconds)
    place.apply(place.spec(STAYS))
    place.eventually(lambda: place.status().get("startds", {}).get("running") == 3, "three startds run")
    return staying(place)


def test_an_api_server_that_is_away_costs_no_startd(way: Way) -> None:
    place = way.place
    before = three_stay(place)
    led = place.log.read_text().count('"leads"')
    way.fail(lambda _request: Fault(cut=Where.BEFORE))
    time.sleep(3 * LEASE_SECONDS)  # a lease ends by the clock, however busy the machine is
    way.heal()
    place.eventually(
        lambda: place.log.read_text().count('"leads"') > led, "it leads anew, for it knew that it might not any more"
    )
    place.apply(place.spec(STAYS, limits={"pods": 4, "cores": 8, "memoryMib": 1024}))
    place.eventually(lambda: place.status()["startds"]["running"] == 4, "it goes on where it was")
    assert before.items() <= staying(place).items()
    place.delete()


def test_a_slow_watch_makes_no_startd_twice(way: Way) -> None:
    way.proxy.slow = 1.0
    three_stay(way.place)
    time.sleep(3)
    assert len(way.place.pods()) == 3
    way.proxy.slow = 0.0
    way.place.delete()


def test_when_the_leader_hangs_another_one_goes_on_and_the_first_one_does_no_harm_when_it_wakes(place: Site) -> None:
    other = replace(place, log=place.log.with_name("other"), process=None)
    before = three_stay(place, SECONDS)
    other.start(SECONDS)
    try:
        assert place.process is not None
        place.process.send_signal(signal.SIGSTOP)
        place.eventually(lambda: "leads" in other.log.read_text(), "the other one leads")
        place.apply(place.spec(STAYS, limits={"pods": 4, "cores": 8, "memoryMib": 1024}))
        place.eventually(lambda: place.status()["startds"]["running"] == 4, "the other one decides")
        place.process.send_signal(signal.SIGCONT)
        time.sleep(3)
        after = staying(place)
        assert before.items() <= after.items()
        assert len(after) == 4
        lease = place.get("lease", "vacuum")["spec"]
        assert lease["leaseTransitions"] == 1
        place.delete()
    finally:
        with suppress(ProcessLookupError):
            if place.process is not None:
                place.process.send_signal(signal.SIGCONT)
        other.stop(signal.SIGTERM)


@pytest.mark.parametrize("step", [3600.0, -3600.0], ids=["forward", "back"])
def test_a_clock_that_steps_costs_no_startd(place: Site, step: float) -> None:
    before = three_stay(place)
    place.stop(signal.SIGKILL)
    access = from_kubeconfig(place.kubeconfig)

    async def turns() -> None:
        api = Api(access)
        controller = Controller(api, clock=lambda: time.time() + step)
        for _ in range(3):
            await controller.look()
            await controller.turn()
        await api.close()

    asyncio.run(turns())
    assert staying(place) == before
    assert place.status().get("outcomes", {}) == {}
    place.start()
    place.delete()
