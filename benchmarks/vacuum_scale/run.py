"""Plays one subject: step by step to the top, a while of rest, a while of endings, and our own one's restart."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import httpx

from benchmarks.vacuum_scale import objects
from benchmarks.vacuum_scale.counts import Counts, counts
from benchmarks.vacuum_scale.objects import END, PODS
from benchmarks.vacuum_scale.observer import Observer
from benchmarks.vacuum_scale.plane import FAKE_NODES
from benchmarks.vacuum_scale.subjects import MERGE, Subject, Vacuum, until

LOOK_SECONDS = 0.02
# A pod that ended may be replaced after the last one has been told to end.
AFTERMATH_SECONDS = 15.0
SETTLE_SECONDS = 3.0
NODES_SECONDS = 120.0
RESTART_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is played.

    Attributes:
        steps: how many pods there are to be, one after the other.
        nodes: fake ones.
        rest_seconds: in which nothing happens, to see what that costs.
        ends: how many pods end at a step, and how many a second.
        patience: seconds within which a step must be reached.
    """

    steps: Sequence[int]
    nodes: int
    rest_seconds: float
    ends: int
    ends_per_second: float
    patience: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step took; None where it was not reached in time, or does not apply.

    Attributes:
        pods: wanted; `added` is how many more than before.
        created, running: seconds until all of them were there, and ran.
        calls: of the subject, to the API server, for each added pod; `all_calls` with scheduler and nodes.
        cpu: seconds of the subject for 1,000 added pods.
        rss, peak: MiB of the subject at the end of the step.
        others: part of the machine that others used in the meantime; noise, if it is not nought.
        rest_calls: of the subject, a second, while nothing happens.
        rest_cpu: of one core, meanwhile.
        lives: pods that ended and were replaced.
        replaced_p50, replaced_p99: seconds from a pod's end to its replacement.
        life_calls: of the subject, for each of these lives.
        life_pod_writes: of pods by anybody but nodes, scheduler and the benchmark, for each of these lives.
        life_cpu: seconds of the subject for 1,000 of these lives.
    """

    pods: int
    added: int
    created: float | None = None
    running: float | None = None
    calls: float | None = None
    all_calls: float | None = None
    cpu: float | None = None
    rss: float | None = None
    peak: float | None = None
    others: float | None = None
    rest_calls: float | None = None
    rest_cpu: float | None = None
    lives: int | None = None
    replaced_p50: float | None = None
    replaced_p99: float | None = None
    life_calls: float | None = None
    life_pod_writes: float | None = None
    life_cpu: float | None = None


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Our controller's, at the top: seconds to the first decision and to the first pod, calls, memory at most."""

    decided: float
    made: float
    calls: int
    peak: float


def nodes(client: httpx.Client, number: int) -> None:
    """Makes the fake nodes and waits until all are ready."""
    with ThreadPoolExecutor(8) as workers:
        for answer in workers.map(lambda n: client.post("/api/v1/nodes", json=objects.node(n)), range(number)):
            answer.raise_for_status()
    until(lambda: _ready(client) >= number, "all nodes are ready", NODES_SECONDS)


def _ready(client: httpx.Client) -> int:
    items = client.get("/api/v1/nodes").json()["items"]
    return sum(
        any(each["type"] == "Ready" and each["status"] == "True" for each in item["status"].get("conditions", ()))
        for item in items
    )


@dataclass(frozen=True, kw_only=True)
class Play:
    """One subject that is started, on its control plane."""

    subject: Subject
    client: httpx.Client
    observer: Observer
    plan: Plan

    def play(self, tell: Callable[[Step], None]) -> tuple[list[Step], Restart | None]:
        """All steps; it stops at the first one that is not reached."""
        steps: list[Step] = []
        have = 0
        for pods in self.plan.steps:
            step = self._step(pods, pods - have)
            steps.append(step)
            tell(step)
            have = pods
            if step.running is None:
                return steps, None
        return steps, self._restart(self.subject) if isinstance(self.subject, Vacuum) else None

    def _count(self) -> Counts:
        ours = [process.pid for process in self.observer.plane.processes.values()]
        return counts(self.client, self.subject.process.pid, ours)

    def _step(self, pods: int, added: int) -> Step:
        flow, observer, plan = self.subject.flow, self.observer, self.plan
        before, began = self._count(), time.monotonic()
        self.subject.scale(pods)
        created = _reach(lambda: observer.alive >= pods, began, plan.patience)
        running = _reach(lambda: observer.running >= pods, began, plan.patience)
        if created is None or running is None:
            return Step(pods=pods, added=added, created=created)
        time.sleep(SETTLE_SECONDS)
        after, took = self._count(), time.monotonic() - began
        time.sleep(plan.rest_seconds)
        rested = self._count()
        step = Step(
            pods=pods,
            added=added,
            created=created,
            running=running,
            calls=(after.calls[flow] - before.calls[flow]) / added,
            all_calls=(after.calls.total() - before.calls.total()) / added,
            cpu=1000 * (after.cpu - before.cpu) / added,
            others=max(0.0, after.machine - before.machine) / took / (os.cpu_count() or 1),
            rest_calls=(rested.calls[flow] - after.calls[flow]) / plan.rest_seconds,
            rest_cpu=(rested.cpu - after.cpu) / plan.rest_seconds,
            rss=rested.rss / 2**20,
            peak=rested.peak / 2**20,
        )
        return replace(step, **self._lives(rested)) if self.subject.replaces and plan.ends else step

    def _lives(self, before: Counts) -> dict[str, Any]:
        """Lets pods end at a steady rate, and sees when others come: the first that ended is replaced first."""
        observer, plan, began = self.observer, self.plan, time.monotonic()
        victims = self._living()[: plan.ends]
        for number, name in enumerate(victims):
            time.sleep(max(0.0, began + number / plan.ends_per_second - time.monotonic()))
            self._end(name)

        def made() -> list[float]:
            return sorted(at for at in list(observer.made.values()) if at > began)

        _reach(lambda: len(made()) >= len(victims), time.monotonic(), AFTERMATH_SECONDS)
        ended = sorted(observer.ended[name] for name in victims if name in observer.ended)
        waits = sorted(new - old for old, new in zip(ended, made(), strict=False))
        time.sleep(SETTLE_SECONDS)
        after = self._count()
        writes = after.writes - before.writes
        by_nodes = after.calls[FAKE_NODES] - before.calls[FAKE_NODES] - writes["PATCH pods/status"]
        by_all = sum(writes[f"{verb} pods"] for verb in ("POST", "PATCH", "PUT", "DELETE"))
        lives = len(victims)
        complete = len(waits) == lives
        return {
            "lives": len(waits),
            "replaced_p50": waits[lives // 2] if complete else None,
            "replaced_p99": waits[math.ceil(0.99 * lives) - 1] if complete else None,
            "life_calls": (after.calls[self.subject.flow] - before.calls[self.subject.flow]) / lives,
            # Once for each life it was we who wrote, so that it ended.
            "life_pod_writes": (by_all - by_nodes) / lives - 1,
            "life_cpu": 1000 * (after.cpu - before.cpu) / lives,
        }

    def _restart(self, subject: Vacuum) -> Restart:
        """Ends it, lets a pod end meanwhile, and begins it anew: the first decision is about that pod."""
        observer = self.observer
        subject.end()
        victim = self._living()[0]
        self._end(victim)
        until(lambda: victim in observer.ended, "the pod has ended")
        seen, decided_before, began = len(observer.made), subject.decisions(), time.monotonic()
        subject.begin()
        before = self._count()
        decided = _reach(lambda: subject.decisions() > decided_before, began, RESTART_SECONDS)
        made = _reach(lambda: len(observer.made) > seen, began, RESTART_SECONDS)
        if decided is None or made is None:
            raise TimeoutError("the controller does not decide after its restart")
        after = self._count()
        calls = after.calls[subject.flow] - before.calls[subject.flow]
        return Restart(decided=decided, made=made, calls=calls, peak=after.peak / 2**20)

    def _living(self) -> list[str]:
        over = self.observer.gone.union(self.observer.ended)
        return [name for name in list(self.observer.ran) if name not in over]

    def _end(self, name: str) -> None:
        body = json.dumps({"metadata": {"annotations": {END: "now"}}})
        self.client.patch(f"{PODS}/{name}", content=body, headers=MERGE).raise_for_status()


def _reach(condition: Callable[[], bool], began: float, patience: float) -> float | None:
    """When it was so, in seconds since then."""
    while not condition():
        if time.monotonic() - began > patience:
            return None
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - began
