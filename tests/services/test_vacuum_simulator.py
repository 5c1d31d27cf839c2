"""The simulator: its world keeps its books, our controller its promises, and its peers keep to their sources."""

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from benchmarks.vacuum_simulator.control import Controller, Orders, Seen
from benchmarks.vacuum_simulator.ledger import HOUR, Ledger
from benchmarks.vacuum_simulator.ours import Ours, spec_of
from benchmarks.vacuum_simulator.peers import Demand2017, Keda, Prp, Vcycle
from benchmarks.vacuum_simulator.report import table
from benchmarks.vacuum_simulator.run import play, play_all
from benchmarks.vacuum_simulator.scenarios import SCENARIOS
from benchmarks.vacuum_simulator.world import JOIN_RANGE, NEGOTIATION_SECONDS, START_RANGE, TURN_SECONDS, World
from services.vacuum.model import Circuit, Class, Decision, Message, Pod, Size, Snapshot, Spec
from services.vacuum.payload import JITTER, PATIENCE, widest

pytestmark = pytest.mark.fast

SCALE, SEED = 50, 1
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
PACE = Spec(template="", size=Size(), pods=0)  # for its defaults alone


class Watched(Ours):
    """Ours, with all it decided."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.decisions: list[tuple[float, Decision]] = []
        self.halted = 0

    def turn(self, now: float, sets: Mapping[str, Seen]) -> Orders:
        orders = super().turn(now, sets)
        self.halted += len(orders.halt)
        return orders

    def decide(self, now: float, snapshot: Snapshot) -> Decision:
        decision = super().decide(now, snapshot)
        self.decisions.append((now, decision))
        return decision


@functools.cache
def ours(name: str) -> tuple[Ledger, Watched, float]:
    controller = Watched(SEED)
    world = World(BY_NAME[name], controller, scale=SCALE, seed=SEED)
    return world.run(), controller, world.offered / HOUR


# The world.


@pytest.mark.parametrize("name", ["expired-proxy", "two-sets"])
@pytest.mark.parametrize("make", [Ours, Vcycle, Demand2017, Prp, Keda], ids=lambda make: make.__name__)
def test_every_core_hour_on_a_node_is_delivered_or_wasted_and_none_is_made_up(
    make: Callable[[int], Controller], name: str
) -> None:
    world = World(BY_NAME[name], make(SEED), scale=SCALE, seed=SEED)
    ledger = world.run()
    assert ledger.delivered + sum(ledger.wasted.values()) == pytest.approx(ledger.held)
    assert 0 < ledger.delivered <= min(world.offered, ledger.slots * ledger.end)
    assert all(busy <= taken <= ledger.slots for _, busy, taken in ledger.samples)
    assert sum(ledger.ended.values()) == len(ledger.starts)


def test_no_more_is_delivered_than_the_queue_held() -> None:
    ledger, _, offered = ours("flapping-pool")
    assert ledger.delivered / HOUR == pytest.approx(offered)


def test_the_same_seed_gives_the_same_table_and_another_one_does_not() -> None:
    scenario = replace(BY_NAME["burst"], hours=9)
    tables = [table(scenario, list(play_all(scenario, scale=SCALE, seed=seed))) for seed in (3, 3, 4)]
    assert tables[0] == tables[1] != tables[2]


# Ours.


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_ours_never_has_more_startds_than_its_limits_nor_more_untried_than_its_window(name: str) -> None:
    ledger, controller, _ = ours(name)
    sets = len(BY_NAME[name].cores)
    assert ledger.living_max <= sets * ledger.slots
    owed = max(decision.status.owed for _, decision in controller.decisions)
    assert ledger.unproven_max <= sets * widest(spec_of(seen(limit=ledger.slots))) + owed
    for _, decision in controller.decisions:
        assert decision.status.startds.total <= decision.status.limit


def test_ours_tries_an_empty_queue_once_a_back_off_and_wastes_a_third_of_vac() -> None:
    ledger, _, _ = ours("empty-queue")
    start, end = (hours * HOUR for hours in BY_NAME["empty-queue"].quiet or ())
    tries = [at for at in ledger.starts if start <= at < end]
    gaps = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert len(tries) > 100
    assert min(gaps) >= (1 - JITTER) * PACE.backoff_cap
    # What a probe costs does not grow with the site: for one of a thousand slots this must be below 0.1 %.
    assert ledger.held_between(start, end) <= 0.001 * 1000 * (end - start)
    vac = play(BY_NAME["empty-queue"], Vcycle(SEED), scale=SCALE, seed=SEED)
    assert vac.quiet is not None
    assert ledger.held_between(start, end) / HOUR <= vac.quiet / 3


@pytest.mark.parametrize("name", ["burst", "empty-queue", "empty-pilots", "expired-proxy", "collector-outage"])
def test_ours_finds_returning_work_within_the_longest_back_off_and_a_start(name: str) -> None:
    ledger, _, _ = ours(name)
    assert ledger.first is not None
    assert ledger.returns is not None
    start = TURN_SECONDS + START_RANGE[1] + JOIN_RANGE[1] + NEGOTIATION_SECONDS
    patience = PATIENCE[Class.SITE_FAULT][1] if name == "expired-proxy" else 1
    # A probe that is on its way when the fault is mended may still fail of it, so that it takes one back-off more.
    assert ledger.first - ledger.returns <= patience * (1 + JITTER) * PACE.backoff_cap + start + TURN_SECONDS
    assert ledger.recovered is not None


def test_a_preemption_never_makes_ours_back_off() -> None:
    ledger, controller, _ = ours("spot-loss")
    assert ledger.ended["Disrupted"] >= ledger.slots
    assert {decision.status.circuit for _, decision in controller.decisions} == {Circuit.CLOSED}
    assert not any(decision.status.failures or decision.status.level for _, decision in controller.decisions)


def test_a_collector_that_is_away_makes_ours_kill_nothing() -> None:
    ledger, controller, _ = ours("collector-outage")
    assert controller.halted == 0
    assert ledger.ended["Requested"] == 0


def test_ours_looks_again_in_time_though_nothing_changes() -> None:
    """A decision is the same as the last one until its wake, if the pods are."""

    class Restless(Watched):
        def turn(self, now: float, sets: Mapping[str, Seen]) -> Orders:
            orders = super().turn(now, sets)
            return replace(orders, wake=min(now + 15.0, orders.wake or now + 15.0))

    scenario = replace(BY_NAME["burst"], hours=9.5)
    calm, restless = Watched(SEED), Restless(SEED)
    ledgers = [World(scenario, each, scale=SCALE, seed=SEED).run() for each in (calm, restless)]
    assert len(ledgers[0].starts) == len(ledgers[1].starts)
    assert len(calm.decisions) < len(restless.decisions) / 3


# The peers.


def pod(number: int, *, code: int | None = None, ran: float | None = None, **more: object) -> Pod:
    """One that was created at 0, started at 100, and if it `ran` so long has ended."""
    life: dict[str, object] = {"scheduled": 10.0, "started": 100.0}
    if ran is not None:
        life |= {"phase": "Failed", "finished": 100.0 + ran}
    base = Pod(name=f"startds-{number}", uid=str(number), sequence=number, template="", created=0.0, phase="Running")
    message = None if code is None else Message(code=code, reason="r")
    return replace(base, message=message, **{**life, **more})  # type: ignore[arg-type]


def seen(*pods: Pod, limit: int = 100, idle: int = 0, claimed: frozenset[str] | None = frozenset()) -> Seen:
    return Seen(limit=limit, cores=1, pods=pods, idle_jobs=idle, claimed=claimed)


def made(orders: Orders) -> int:
    return len(orders.create["startds"])


@pytest.mark.parametrize(
    ("end", "aborts"),
    [
        (pod(1, code=200, ran=50), False),
        (pod(1, code=299, ran=5000), False),
        (pod(1, code=300, ran=5000), True),
        (pod(1, code=699, ran=5000), True),
        (pod(1, code=700, ran=50), False),
        (pod(1, ran=899), True),
        (pod(1, ran=900), False),
        (pod(1, ran=50, started=None), False),
        (pod(1, ran=50, disruption="DeletionByPodGC"), False),
    ],
)
def test_vcycle_aborts_by_code_300_to_699_or_by_fizzle(end: Pod, *, aborts: bool) -> None:
    assert Vcycle(SEED).aborts(end) is aborts


def test_vcycle_makes_a_tenth_a_cycle_then_backs_off_then_makes_one() -> None:
    vcycle = Vcycle(SEED)
    assert made(vcycle.turn(0, {"startds": seen()})) == 10
    assert made(vcycle.turn(1000, {"startds": seen(pod(1, code=300, ran=600))})) == 0
    assert made(vcycle.turn(1299, {"startds": seen()})) == 0
    assert made(vcycle.turn(1300, {"startds": seen()})) == 1
    assert made(vcycle.turn(1360, {"startds": seen(pod(11, started=None))})) == 0
    assert made(vcycle.turn(2199, {"startds": seen(pod(11, started=1400.0))})) == 0
    assert made(vcycle.turn(2301, {"startds": seen(pod(11, started=1400.0))})) == 10


def test_vcycle_gives_the_type_with_the_lowest_use_and_deletes_what_never_starts() -> None:
    used = seen(*(pod(number) for number in range(95)))
    orders = Vcycle(SEED).turn(5000, {"startds": used, "others": seen()})
    assert {kind: len(numbers) for kind, numbers in orders.create.items()} == {"startds": 0, "others": 5}
    late = Vcycle(SEED).turn(3601, {"startds": seen(pod(1, started=None))})
    assert [halt.name for halt in late.halt] == ["startds-1"]


def test_the_controller_of_2017_makes_two_a_cycle_and_none_while_one_is_pending_or_the_pool_is_mute() -> None:
    controller = Demand2017(SEED)
    assert made(controller.turn(0, {"startds": seen(idle=50)})) == 2
    assert made(controller.turn(60, {"startds": seen(idle=1)})) == 1
    assert made(controller.turn(120, {"startds": seen(pod(1, phase="Pending"), idle=50)})) == 0
    assert made(controller.turn(180, {"startds": seen(pod(1), idle=50, limit=1)})) == 0
    assert made(controller.turn(240, {"startds": seen(idle=50, claimed=None)})) == 0
    assert made(controller.turn(300, {"startds": seen(pod(1, code=500, ran=1), idle=50)})) == 2


@pytest.mark.parametrize(
    ("view", "count"),
    [
        (seen(idle=0), 0),
        (seen(idle=4), 2),
        (seen(idle=79), 20),
        (seen(idle=10_000), 20),
        (seen(pod(1), pod(2, phase="Pending"), idle=79), 18),
        (seen(pod(1), idle=79, claimed=frozenset({"startds-1"})), 20),
        (seen(*(pod(number, code=500, ran=1) for number in range(50)), idle=79), 20),
        (seen(pod(1), idle=79, limit=1, claimed=frozenset({"startds-1"})), 0),
        (seen(idle=79, claimed=None), 0),
    ],
)
def test_prp_wants_a_quarter_of_the_idle_jobs_waiting_and_looks_at_no_failure(view: Seen, count: int) -> None:
    assert Prp(SEED).count(view) == count


@pytest.mark.parametrize(
    ("idle", "running", "pending", "count"), [(30, 0, 0, 30), (500, 0, 0, 100), (30, 80, 5, 20), (30, 60, 10, 20)]
)
def test_keda_makes_a_job_for_each_idle_one_without_those_that_are_pending(
    idle: int, running: int, pending: int, count: int
) -> None:
    assert Keda(SEED).count(seen(idle=idle), running=running, pending=pending) == count


def test_a_job_of_kubernetes_tries_six_times_more_and_counts_an_eviction_as_a_failure() -> None:
    keda = Keda(SEED)
    now, tries = 0.0, made(keda.turn(0.0, {"startds": seen(idle=1, limit=1)}))
    while tries < 20 and now < 3600:
        lost = pod(tries, ran=10, disruption="TerminationByKubelet")
        now += 30
        tries += made(keda.turn(now, {"startds": seen(lost)}))
    assert tries == 1 + Keda.backoff_limit
