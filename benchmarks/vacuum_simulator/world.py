"""The world that controllers act on: nodes, the scheduler, the pool's queue, the lives of startds, and what goes wrong.

Events in a heap, each a time and what to do; nothing happens between them. Of the world's choices the durations of jobs
depend on the seed alone, so that every controller is offered the same work.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from functools import partial

from benchmarks.vacuum_simulator.control import Controller, Orders, Seen
from benchmarks.vacuum_simulator.ledger import HOUR, Ledger
from benchmarks.vacuum_simulator.ours import NOCLAIM_SECONDS, START_SECONDS, spec_of
from benchmarks.vacuum_simulator.scenarios import Batch, Fault, Kind, Scenario, size
from benchmarks.vacuum_simulator.startd import Job, Node, Startd

# A look at the API server after a change; the real controller turns up to twice a second.
# A job that has run so long is a payload: the reporter (images/startd/reporter) takes it for the proof.
PROOF_SECONDS = 600.0
TURN_SECONDS = 5.0
# From the binding to a node to a startd that runs: volumes, image, init container.
START_RANGE = (40.0, 120.0)
# From there until the pool knows it, and how long the reporter waits for that.
JOIN_RANGE = (10.0, 30.0)
JOIN_SECONDS = 300.0
SOFTWARE_SECONDS = START_SECONDS * 2 / 3
NEGOTIATION_SECONDS = 60.0
LEAVE_SECONDS = 5.0
FAILING_JOB_SECONDS = 60.0
EVICTED_EVERY = 5
# Faults of the pool; the others are of nodes.
POOL = frozenset({Kind.COLLECTOR_DOWN, Kind.PROXY_EXPIRED})


class World:
    """One controller in one story."""

    def __init__(self, scenario: Scenario, controller: Controller, *, scale: int, seed: int) -> None:
        self.now = 0.0
        self._scenario = scenario
        self._controller = controller
        self._end = scenario.hours * HOUR
        site = size(scale)
        self._cores = {kind: min(cores, site.cores) for kind, cores in scenario.cores}
        self._limits = {kind: site.slots // cores for kind, cores in self._cores.items()}
        self._nodes = [Node(name=f"node-{n}", cores=site.cores, free=site.cores) for n in range(site.nodes)]
        self._jobs = random.Random(f"jobs {seed}")  # noqa: S311  a simulation
        self._luck = random.Random(f"luck {seed}")  # noqa: S311
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._objects: dict[str, Startd] = {}
        self._alive: dict[str, Startd] = {}
        self._waiting: dict[str, deque[Startd]] = {kind: deque() for kind in self._cores}
        self._queue: dict[str, deque[Job]] = {kind: deque() for kind in self._cores}
        self._joining: dict[str, Startd] = {}
        self._idle: dict[str, dict[str, Startd]] = {kind: {} for kind in self._cores}
        self._broken: set[Kind] = set()
        self._negotiating = self._turning = False
        self._turned = -TURN_SECONDS
        self._wake: float | None = None
        first = Seen(limit=site.slots, cores=1, pods=(), idle_jobs=0, claimed=None)
        kind, share = scenario.recovers
        faulty = [f for f in scenario.faults if f.kind in {Kind.SOFTWARE_MISSING, Kind.JOBS_FAIL}]
        able = site.slots - sum(node.cores for fault in faulty for node in self._nodes_of(fault))
        self.offered = 0.0
        self.ledger = Ledger(
            slots=site.slots,
            end=self._end,
            returns=None if scenario.returns is None else scenario.returns * HOUR,
            recovers=kind,
            goal=share * able,
            spec=spec_of(first),
        )
        for batch in scenario.batches:
            self._at(batch.at * HOUR, partial(self._arrive, batch))
        for fault in scenario.faults:
            self._at(fault.start * HOUR, partial(self._change, fault, works=False))
            self._at(fault.end * HOUR, partial(self._change, fault, works=True))
        self._at(0.0, self._turn)

    def run(self) -> Ledger:
        """The whole story; its account."""
        while self._events and self._events[0][0] <= self._end:
            self.now, _, event = heapq.heappop(self._events)
            self.ledger.pass_time(self.now)
            event()
        self.now = self._end
        self.ledger.pass_time(self.now)
        for startd in self._alive.values():
            if startd.job is not None and startd.job.payload and not startd.fails:
                startd.delivered += self.now - startd.since
            self.ledger.over(startd, self.now, alive=True)
        return self.ledger

    def _at(self, time: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (time, next(self._order), event))

    def _next(self, startd: Startd, seconds: float, event: Callable[[Startd], None]) -> None:
        """The one thing that is planned in a startd's life; what was planned before is not done any more."""
        startd.step += 1
        step = startd.step
        self._at(self.now + seconds, lambda: event(startd) if startd.step == step and not startd.over else None)

    # The controller.

    def _touch(self, startd: Startd) -> None:
        startd.changed()
        if self._controller.watches:
            self._plan_turn(self.now)

    def _plan_turn(self, time: float) -> None:
        if not self._turning:
            self._turning = True
            self._at(max(time, self._turned + TURN_SECONDS), self._turn)

    def _turn(self) -> None:
        self._turning, self._turned = False, self.now
        pods: dict[str, list[Startd]] = {kind: [] for kind in self._cores}
        for startd in self._objects.values():
            pods[startd.kind].append(startd)
        claimed = None
        if self._answers:
            claimed = frozenset(name for name, startd in self._alive.items() if startd.job is not None)
        seen = {
            kind: Seen(
                limit=self._limits[kind],
                cores=cores,
                pods=tuple(startd.pod() for startd in pods[kind]),
                idle_jobs=len(self._queue[kind]),
                claimed=claimed,
                nodes={node.name: (node.free, node.cores) for node in self._nodes if node.up},
            )
            for kind, cores in self._cores.items()
        }
        self._obey(self._controller.turn(self.now, seen))

    def _obey(self, orders: Orders) -> None:
        for halt in orders.halt:
            self._stop(self._objects[halt.name], halt.reason, halt.grace_seconds)
        for name in orders.forget:
            del self._objects[name]
        for kind, numbers in orders.create.items():
            for number in numbers:
                startd = Startd(
                    kind=kind,
                    sequence=number,
                    cores=self._cores[kind],
                    created=self.now,
                    avoid=orders.avoid.get((kind, number), ()),
                )
                assert startd.name not in self._objects, f"{startd.name} is made twice"
                self._objects[startd.name] = self._alive[startd.name] = startd
                self._waiting[kind].append(startd)
                self.ledger.made(self.now, len(self._alive))
                self._touch(startd)
        self._place()
        self._wake = wake = orders.wake
        if wake is not None:
            # A clock that goes on: a bound that is passed, not just reached.
            late = 1.0 if self._controller.watches else 0.0
            self._at(max(wake, self.now) + late, lambda: self._plan_turn(self.now) if self._wake == wake else None)

    # Nodes.

    def _place(self) -> None:
        """The scheduler: the emptiest node first, the oldest pod first; a pod that fits none holds up no other kind."""
        stuck: set[str] = set()
        while heads := [queue[0] for kind, queue in self._waiting.items() if queue and kind not in stuck]:
            startd = min(heads, key=lambda head: head.created)
            node = self._emptiest(startd)
            if node is None or node.free < startd.cores:
                stuck.add(startd.kind)
                continue
            self._waiting[startd.kind].popleft()
            node.free -= startd.cores
            self.ledger.taken += startd.cores
            startd.node, startd.scheduled, startd.unschedulable = node, self.now, False
            self._touch(startd)
            if Kind.SOFTWARE_MISSING not in node.broken:
                self._next(startd, self._luck.uniform(*START_RANGE), self._start)
            else:
                self._next(startd, SOFTWARE_SECONDS, self._miss_software)
        for kind in stuck:
            for startd in self._waiting[kind]:
                if not startd.unschedulable:
                    startd.unschedulable = True
                    self._touch(startd)

    def _emptiest(self, startd: Startd) -> Node | None:
        """Of several that are equally empty any one, as the scheduler takes it."""
        open_to_it = [node for node in self._nodes if node.up and node.name not in startd.avoid]
        most = max((node.free for node in open_to_it), default=0)
        best = [node for node in open_to_it if node.free == most]
        return self._luck.choice(best) if best else None

    def _over(self, startd: Startd, phase: str) -> None:
        """The end of a pod, whatever it was."""
        self._lose_job(startd)
        startd.step += 1
        startd.phase, startd.finished = phase, self.now
        self._joining.pop(startd.name, None)
        self._idle[startd.kind].pop(startd.name, None)
        del self._alive[startd.name]
        if startd.node is not None:
            startd.node.free += startd.cores
            self.ledger.taken -= startd.cores
        self._touch(startd)
        self.ledger.over(startd, self.now)
        self._place()

    def _stop(self, startd: Startd, reason: str, grace: float) -> None:
        if startd.over:
            return
        startd.requested, startd.deadline = reason, self.now + (grace if startd.node else 0.0)
        self._touch(startd)
        if startd.node is None:
            self._waiting[startd.kind].remove(startd)
            del self._alive[startd.name]
            self.ledger.over(startd, self.now)
        elif startd.job is None:
            self._next(startd, LEAVE_SECONDS, self._obey_stop)
        else:
            self._at(startd.deadline, lambda: None if startd.over else self._obey_stop(startd))

    def _obey_stop(self, startd: Startd) -> None:
        if startd.started is not None:
            startd.says(*startd.verdict(asked=True))
        self._over(startd, "Failed")

    # The startd's life.

    def _start(self, startd: Startd) -> None:
        startd.phase, startd.started = "Running", self.now
        self._joining[startd.name] = startd
        self._touch(startd)
        if not self._broken:
            self._next(startd, self._luck.uniform(*JOIN_RANGE), self._join)
        else:
            self._next(startd, JOIN_SECONDS, self._give_up)

    def _join(self, startd: Startd) -> None:
        del self._joining[startd.name]
        startd.known = True
        self._touch(startd)
        self._wait(startd)

    def _prove(self, startd: Startd) -> None:
        """The reporter lets the readiness probe succeed."""
        if startd.ready is None and not startd.over:
            startd.ready = self.now
            self._touch(startd)

    def _give_up(self, startd: Startd) -> None:
        startd.says(*((500, "NotAuthenticated") if self._answers else (600, "PoolUnreachable")))
        self._over(startd, "Failed")

    def _miss_software(self, startd: Startd) -> None:
        startd.says(500, "SoftwareMissing")
        self._over(startd, "Failed")

    def _wait(self, startd: Startd) -> None:
        self._idle[startd.kind][startd.name] = startd
        self._next(startd, NOCLAIM_SECONDS, self._leave)
        self._negotiate_soon()

    def _leave(self, startd: Startd) -> None:
        startd.says(*startd.verdict())
        self._over(startd, "Succeeded" if startd.exit_code == 0 else "Failed")

    # The pool.

    @property
    def _answers(self) -> bool:
        """The collector does."""
        return Kind.COLLECTOR_DOWN not in self._broken

    def _arrive(self, batch: Batch) -> None:
        cores = self._cores[batch.kind]
        count = max(1, round(batch.site_hours * HOUR * self.ledger.slots / (batch.seconds * cores)))
        for _ in range(count):
            job = Job(seconds=batch.seconds * self._jobs.uniform(0.5, 1.5), payload=batch.payload)
            self._queue[batch.kind].append(job)
            self.offered += cores * job.seconds if job.payload else 0.0
        self._negotiate_soon()

    def _negotiate_soon(self) -> None:
        matches = any(queue and self._idle[kind] for kind, queue in self._queue.items())
        if matches and self._answers and not self._negotiating:
            self._negotiating = True
            self._at((self.now // NEGOTIATION_SECONDS + 1) * NEGOTIATION_SECONDS, self._negotiate)

    def _negotiate(self) -> None:
        self._negotiating = False
        if not self._answers:
            return
        for kind, queue in self._queue.items():
            idle = self._idle[kind]
            while queue and idle:
                startd = idle.pop(next(iter(idle)))
                startd.claims += 1
                self._begin(startd)

    def _begin(self, startd: Startd) -> None:
        startd.job, startd.since = self._queue[startd.kind].popleft(), self.now
        if startd.job.payload:
            startd.begun += 1
            self.ledger.begins(startd, self.now)
        job = startd.job
        if job.payload:
            self._at(self.now + PROOF_SECONDS, lambda: self._prove(startd) if startd.job is job else None)
        seconds = FAILING_JOB_SECONDS if startd.fails else startd.job.seconds
        self._next(startd, seconds, self._done)

    def _done(self, startd: Startd) -> None:
        job, startd.job = startd.job, None
        assert job is not None
        if not job.payload:
            startd.empty += 1
        else:
            self.ledger.ceases(startd)
            if startd.fails:
                startd.failed += 1
                self._queue[startd.kind].append(job)
            else:
                startd.worked += 1
                self._prove(startd)
                startd.delivered += job.seconds
        # A schedd keeps its claim as long as it has jobs, without asking the negotiator.
        if startd.deadline is not None:
            self._obey_stop(startd)
        elif self._queue[startd.kind]:
            self._begin(startd)
        else:
            self._wait(startd)

    def _lose_job(self, startd: Startd) -> None:
        if startd.job is not None:
            if startd.job.payload:
                self.ledger.ceases(startd)
            self._queue[startd.kind].append(startd.job)
            startd.job = None
            self._negotiate_soon()

    # What goes wrong.

    def _change(self, fault: Fault, *, works: bool) -> None:
        """A fault begins, or is mended."""
        for broken in [self._broken] if fault.kind in POOL else [node.broken for node in self._nodes_of(fault)]:
            (broken.discard if works else broken.add)(fault.kind)
        if fault.kind in POOL:
            self._still_joining()
        placed = [startd for startd in self._alive.values() if startd.node is not None]
        if fault.kind is Kind.NODES_LOST and not works:
            lost = [startd for startd in placed if startd.node is not None and not startd.node.up]
            self._take_away(lost, "Terminated", "TerminationByKubelet")
        if fault.kind is Kind.STARTDS_EVICTED and not works:
            self._take_away(placed[::EVICTED_EVERY], "", "EvictionByEvictionAPI")
        self._place()
        self._negotiate_soon()

    def _take_away(self, startds: list[Startd], reason: str, disruption: str) -> None:
        """They are ended by somebody, for no fault of theirs; their reporters still have their say."""
        for startd in startds:
            if startd.started is not None:
                startd.says(*startd.verdict(asked=True))
            startd.reason, startd.disruption = reason, disruption
            self._over(startd, "Failed")

    def _still_joining(self) -> None:
        """Those that try to join at a change of the pool go on under the new conditions."""
        for startd in self._joining.values():
            if not self._broken:
                self._next(startd, self._luck.uniform(*JOIN_RANGE), self._join)
            else:
                self._next(startd, JOIN_SECONDS, self._give_up)

    def _nodes_of(self, fault: Fault) -> list[Node]:
        first, last = (round(part * len(self._nodes)) for part in fault.nodes)
        return self._nodes[first : max(first + 1, last)]
