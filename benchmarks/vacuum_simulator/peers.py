"""The rules of others, re-stated from their sources; each docstring says which. All get the same pods and nodes.

What they have that makes no difference here is left out: shares by HS06, heartbeats, VacMon, clean-up after 72 h. So is
what would only harm them: Vcycle's maximum wall-clock time, prp's and KEDA's double counting of old versions.
"""

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.vacuum_simulator.control import Halt, Orders, Seen
from services.vacuum.model import Pod

ENDED = frozenset({"Succeeded", "Failed"})


def _over(pod: Pod) -> bool:
    return pod.phase in ENDED or (pod.deadline is not None and pod.scheduled is None)


def _alive(pods: Iterable[Pod]) -> list[Pod]:
    return [pod for pod in pods if not _over(pod)]


def _ended(sets: Mapping[str, Seen]) -> tuple[str, ...]:
    return tuple(pod.name for seen in sets.values() for pod in seen.pods if _over(pod))


class Numbers:
    """Names for new pods: the next numbers of a set."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def next(self, kind: str, count: int) -> tuple[int, ...]:
        """So many, none of them ever given before."""
        first = self._last.get(kind, 0) + 1
        self._last[kind] = first + max(0, count) - 1
        return tuple(range(first, first + max(0, count)))


class Vcycle:
    """Vac's rule as in Vcycle 03 (vacuum.md §1.1; projectvacuum/vcycle `shared.py`, Machine and makeMachines).

    Every 60 s: a machine seen stopped with a shutdown message of code 300 to 699, or without one sooner than
    `fizzle_seconds` after its start, is an abort at the time of its stop. A machine type gets none within
    `backoff_seconds` of its last abort, nor within `fizzle_seconds` more as long as one of it starts or has not passed
    `fizzle_seconds`. Otherwise up to a tenth of the processors a cycle, the type with the lowest use for its share
    first. What has not started within an hour is deleted. A machine that vanished leaves no outcome.
    """

    watches = False
    cycle_seconds = 60.0
    start_seconds = 3600.0

    def __init__(self, seed: int, name: str = "vcycle", fizzle: float = 900.0, backoff: float = 600.0) -> None:
        self.name = name
        self.fizzle_seconds = fizzle
        self.backoff_seconds = backoff
        self.last_abort: dict[str, float] = {}
        self._random = random.Random(f"vcycle {seed}")  # noqa: S311  a simulation
        self._numbers = Numbers()

    def turn(self, now: float, sets: Mapping[str, Seen]) -> Orders:
        """One cycle."""
        for kind, seen in sets.items():
            for pod in seen.pods:
                if pod.phase in ENDED and self.aborts(pod):
                    stopped = pod.finished or now
                    self.last_abort[kind] = max(self.last_abort.get(kind, -math.inf), stopped)
        late = [
            Halt(name=pod.name, reason="start")
            for seen in sets.values()
            for pod in _alive(seen.pods)
            if pod.started is None and pod.deadline is None and now - pod.created > self.start_seconds
        ]
        made = {kind: self._numbers.next(kind, count) for kind, count in self._make(now, sets).items()}
        return Orders(create=made, halt=tuple(late), forget=_ended(sets), wake=now + self.cycle_seconds)

    def aborts(self, pod: Pod) -> bool:
        """Whether a machine that has stopped makes its type back off."""
        if pod.disruption is not None and pod.message is None:
            return False  # it vanished between two cycles
        if pod.message is not None:
            return 300 <= pod.message.code < 700
        return pod.started is not None and (pod.finished or 0.0) - pod.started < self.fizzle_seconds

    def _make(self, now: float, sets: Mapping[str, Seen]) -> dict[str, int]:
        made = dict.fromkeys(sets, 0)
        used = {kind: seen.cores * len(_alive(seen.pods)) for kind, seen in sets.items()}
        young = {kind: self._not_passed_fizzle(now, seen.pods) for kind, seen in sets.items()}
        processors = max(seen.limit * seen.cores for seen in sets.values())
        attempts = math.ceil(0.1 * processors)
        while attempts > 0:
            eligible = [
                kind
                for kind, seen in sets.items()
                if used[kind] // seen.cores < seen.limit
                and sum(used.values()) + seen.cores <= processors
                and not self._backs_off(now, kind, young[kind])
            ]
            if not eligible:
                break
            self._random.shuffle(eligible)
            best = min(eligible, key=lambda kind: used[kind])
            attempts -= sets[best].cores
            used[best] += sets[best].cores
            young[best] += 1
            made[best] += 1
        return made

    def _backs_off(self, now: float, kind: str, young: int) -> bool:
        since = now - self.last_abort.get(kind, -math.inf)
        return since < self.backoff_seconds or (since < self.backoff_seconds + self.fizzle_seconds and young > 0)

    def _not_passed_fizzle(self, now: float, pods: Iterable[Pod]) -> int:
        return sum(pod.started is None or now - pod.started < self.fizzle_seconds for pod in _alive(pods))


class Demand2017:
    """The controller of 2017 (vacuum.md §1.3; alahiff/simple-htcondor-cluster-on-kubernetes, `htcondor-pool.py`).

    Every 60 s as many workers as jobs are idle, at most 2 a cycle and up to a maximum, none while one is Pending.
    It looks at no outcome. It asks the collector for the schedds: without it, it ends, and is started again.
    """

    name = "2017"
    watches = False
    cycle_seconds = 60.0
    per_cycle = 2

    def __init__(self, _seed: int) -> None:
        self._numbers = Numbers()

    def turn(self, now: float, sets: Mapping[str, Seen]) -> Orders:
        """One cycle."""
        made = {kind: self._numbers.next(kind, self._count(seen)) for kind, seen in sets.items()}
        return Orders(create=made, forget=_ended(sets), wake=now + self.cycle_seconds)

    def _count(self, seen: Seen) -> int:
        alive = _alive(seen.pods)
        if seen.claimed is None or any(pod.phase == "Pending" for pod in alive):
            return 0
        return max(0, min(seen.idle_jobs, self.per_cycle, seen.limit - len(alive)))


class Prp:
    """The provisioner of prp-htcondor-portal (vacuum.md §2; `event_loop.py` _provision_cluster, `logic.txt`).

    Every 60 s and for each kind of job: 1 + idle/4 startds should wait for a claim, above 20 of them only every fourth
    more, at most 20; those that are Pending or not claimed are there already. None once there are as many pods as may
    be. It looks at no outcome ("TBD"), stops nothing, and passes a cycle over when HTCondor does not answer.
    """

    name = "prp"
    watches = False
    cycle_seconds = 60.0
    per_cycle = 20

    def __init__(self, _seed: int) -> None:
        self._numbers = Numbers()

    def turn(self, now: float, sets: Mapping[str, Seen]) -> Orders:
        """One iteration."""
        made = {kind: self._numbers.next(kind, self.count(seen)) for kind, seen in sets.items()}
        return Orders(create=made, forget=_ended(sets), wake=now + self.cycle_seconds)

    def count(self, seen: Seen) -> int:
        """How many pods to submit."""
        if seen.claimed is None or seen.idle_jobs == 0:
            return 0
        wanted = 1 + seen.idle_jobs // 4
        if wanted > self.per_cycle:
            wanted = self.per_cycle + (wanted - self.per_cycle) // 4
        wanted = min(wanted, self.per_cycle)
        alive = _alive(seen.pods)
        if len(alive) >= seen.limit:
            wanted = 0
        return max(0, wanted - sum(pod.name not in seen.claimed for pod in alive))


@dataclass
class BatchJob:
    """A Job of Kubernetes: one pod at a time, and another one when it fails."""

    pod: str
    failures: int = 0
    retry: float | None = None


class Keda:
    """KEDA's ScaledJob with the strategy `accurate` (vacuum.md §6; `pkg/scaling/executor/scale_jobs.go`).

    Every 30 s the queue asks for one Job an idle job, up to maxReplicaCount; if running and wanted are more than that
    it makes what is left, else what is wanted without the Jobs whose pod does not run yet. The Job's own controller
    tries a failed pod again, 6 times, 10 s later and twice as long each time up to 6 minutes; an eviction counts as a
    failure, as it does where no podFailurePolicy is written. A startd without work ends as HTCondor's master does, with
    exit code 0 (§0, fact 3): for a Job that is success.
    """

    name = "keda"
    watches = False
    cycle_seconds = 30.0
    backoff_limit = 6
    retry_seconds = 10.0
    retry_longest_seconds = 360.0

    def __init__(self, _seed: int) -> None:
        self._numbers = Numbers()
        self._jobs: dict[str, list[BatchJob]] = {}

    def turn(self, now: float, sets: Mapping[str, Seen]) -> Orders:
        """One poll, and the Job controller's part."""
        made: dict[str, tuple[int, ...]] = {}
        for kind, seen in sets.items():
            pods = {pod.name: pod for pod in seen.pods}
            jobs = self._jobs[kind] = [job for job in self._jobs.get(kind, ()) if self._goes_on(job, pods, now)]
            again = [job for job in jobs if job.retry is not None and now >= job.retry]
            pending = sum(job.pod not in pods or pods[job.pod].phase == "Pending" for job in jobs)
            new = self.count(seen, running=len(jobs), pending=pending)
            numbers = self._numbers.next(kind, len(again) + new)
            for job, number in zip(again, numbers, strict=False):
                job.pod, job.retry = f"{kind}-{number}", None
            jobs += [BatchJob(pod=f"{kind}-{number}") for number in numbers[len(again) :]]
            made[kind] = numbers
        return Orders(create=made, forget=_ended(sets), wake=now + self.cycle_seconds)

    def count(self, seen: Seen, *, running: int, pending: int) -> int:
        """How many Jobs more."""
        wanted = min(seen.idle_jobs, seen.limit)
        if wanted + running > seen.limit:
            return max(0, min(wanted, seen.limit - running))
        return max(0, wanted - pending)

    def _goes_on(self, job: BatchJob, pods: Mapping[str, Pod], now: float) -> bool:
        pod = pods.get(job.pod)
        if job.retry is not None or pod is None or pod.phase not in ENDED:
            return True
        code = pod.message.code if pod.message else 700
        if pod.disruption is None and 200 <= code < 400:
            return False
        job.failures += 1
        if job.failures > self.backoff_limit:
            return False
        pause = min(self.retry_longest_seconds, self.retry_seconds * 2 ** (job.failures - 1))
        job.retry = now + pause
        return True
