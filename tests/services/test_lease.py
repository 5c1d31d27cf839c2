"""At most one replica leads, whatever the clocks say; another one takes over when it is gone."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings, strategies as st

from services.kube import Json, UnreachableError
from services.lease import BELIEF, Lease
from tests.services.stand_in import NAMESPACE, Server, StandInApi

pytestmark = pytest.mark.fast

SECONDS = 15.0
PATH = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/vacuum"


@dataclass
class Replica:
    """A process with a clock of its own, and an API server that may be out of its reach."""

    server: Server
    name: str
    now: float = 0.0
    cut_off: bool = False
    lease: Lease = field(init=False)

    def __post_init__(self) -> None:
        def reach(_number: int, _when: str) -> None:
            if self.cut_off:
                raise UnreachableError(0, "ConnectError", "no route")

        api = StandInApi(self.server, reach)
        self.lease = Lease(api, "vacuum", self.name, seconds=SECONDS, clock=lambda: self.now)

    def attempt(self) -> bool:
        asyncio.run(self.lease.attempt())
        return self.lease.held

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def server() -> Server:
    return Server()


def test_the_first_one_leads_and_the_second_one_does_not(server: Server) -> None:
    one, other = Replica(server, "one"), Replica(server, "other", now=1e6)
    assert one.attempt()
    assert not other.attempt()
    assert server.objects[PATH]["spec"]["holderIdentity"] == "one"


def test_whoever_renews_in_time_goes_on_leading(server: Server) -> None:
    one, other = Replica(server, "one"), Replica(server, "other")
    one.attempt()
    for _ in range(20):
        one.wait(5)
        other.wait(5)
        assert one.attempt()
        assert not other.attempt()
    assert server.objects[PATH]["spec"]["leaseTransitions"] == 0


def test_the_second_one_takes_over_when_nothing_has_changed_for_as_long_as_the_lease_lasts(server: Server) -> None:
    one, other = Replica(server, "one"), Replica(server, "other")
    one.attempt()
    other.attempt()
    other.wait(SECONDS - 1)
    assert not other.attempt()
    other.wait(1)
    assert other.attempt()
    assert server.objects[PATH]["spec"]["leaseTransitions"] == 1
    assert not one.attempt()


@pytest.mark.parametrize("told", ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"])
def test_what_the_others_clock_says_does_not_matter(server: Server, told: str) -> None:
    one, other = Replica(server, "one"), Replica(server, "other")
    one.attempt()
    server.objects[PATH]["spec"]["renewTime"] = told
    assert not other.attempt()
    other.wait(SECONDS)
    assert other.attempt()


def test_a_leader_that_cannot_write_stops_leading_before_another_one_begins(server: Server) -> None:
    one, other = Replica(server, "one"), Replica(server, "other")
    one.attempt()
    other.attempt()
    one.cut_off = True
    one.wait(BELIEF * SECONDS)
    assert not one.attempt()
    other.wait(BELIEF * SECONDS)
    assert not other.attempt()
    other.wait((1 - BELIEF) * SECONDS)
    assert other.attempt()


def test_one_that_stops_hands_over_at_once(server: Server) -> None:
    one, other = Replica(server, "one"), Replica(server, "other")
    one.attempt()
    other.attempt()
    asyncio.run(one.lease.release())
    assert not one.lease.held
    assert other.attempt()


def test_one_that_has_lost_it_does_not_take_it_from_the_next_one_when_it_stops(server: Server) -> None:
    one, other = Replica(server, "one"), Replica(server, "other")
    one.attempt()
    other.attempt()
    other.wait(SECONDS)
    other.attempt()
    asyncio.run(one.lease.release())
    assert server.objects[PATH]["spec"]["holderIdentity"] == "other"


steps: st.SearchStrategy[Callable[[list[Replica]], None]] = st.sampled_from(
    [
        lambda replicas: replicas[0].attempt(),
        lambda replicas: replicas[1].attempt(),
        lambda replicas: [replica.wait(1.0) for replica in replicas],
        lambda replicas: [replica.wait(4.0) for replica in replicas],
        lambda replicas: setattr(replicas[0], "cut_off", not replicas[0].cut_off),
        lambda replicas: setattr(replicas[1], "cut_off", not replicas[1].cut_off),
        lambda replicas: asyncio.run(replicas[0].lease.release()),
    ]
)


@settings(deadline=None, max_examples=40)
@given(st.lists(steps, max_size=40))
def test_two_never_lead_at_once(course: list[Callable[[list[Replica]], None]]) -> None:
    server = Server()
    replicas = [Replica(server, "one"), Replica(server, "other", now=500.0)]
    for step in course:
        step(replicas)
        assert sum(replica.lease.held for replica in replicas) <= 1


def test_a_lease_of_nobody_is_taken(server: Server) -> None:
    spec: Json = {}
    meta = {"name": "vacuum", "namespace": NAMESPACE}
    server.create(PATH.rpartition("/")[0], {"metadata": meta, "spec": spec})
    assert Replica(server, "one").attempt()
