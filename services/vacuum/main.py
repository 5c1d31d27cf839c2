"""The loop: look, decide, write the status, act; again when something has changed or its time has come."""

import argparse
import asyncio
import json
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from services.health import serving
from services.kube import Access, Api, ApiError, ConflictError, Json, NotFoundError, from_kubeconfig, in_cluster
from services.lease import SECONDS, beside, candidate
from services.process import log
from services.rate import Rate
from services.vacuum.act import Actor, DeposedError
from services.vacuum.cluster import Cluster, demand_of, retiring
from services.vacuum.decide import decide, own_bounds
from services.vacuum.evidence import ended
from services.vacuum.explain import facts, table
from services.vacuum.limits import alone, bounds, open_to
from services.vacuum.metrics import Metrics
from services.vacuum.model import DRAIN_FINALIZER, RETRY_ANNOTATION, SET_LABEL, Create, Decision, Pod, Release, Snapshot
from services.vacuum.objects import pod_of, pods_path, sets_path, spec_of, status_json, status_of
from services.vacuum.share import NodeUse, shared
from services.vacuum.survey import BUDGET, Survey
from services.vacuum.watch import Cache

PORT = 8080
LEASE = "vacuum"
# As client-go's own controllers have it: a managed API server serves many.
WRITES_PER_SECOND = 20.0
# At most two turns, so at most two writes of a status, a second.
TURN_SECONDS = 0.5
# Even if nothing is heard: to notice that nothing is heard.
IDLE_SECONDS = 15.0
# A turn may wait for an API server that is out of reach, several attempts long; longer means the loop hangs.
STUCK_SECONDS = 300.0


def snapshot_of(startdset: Json, pods: Sequence[Pod], *, actor: Actor | None = None, fresh: bool = True) -> Snapshot:
    """One look at a set and its pods."""
    meta, spec = startdset["metadata"], spec_of(startdset)
    return Snapshot(
        name=meta["name"],
        uid=meta["uid"],
        generation=meta["generation"],
        spec=spec,
        status=status_of(startdset),
        pods=tuple(pods),
        deleting="deletionTimestamp" in meta,
        retry=RETRY_ANNOTATION in meta.get("annotations", {}),
        blind=not fresh,
        held=DRAIN_FINALIZER in meta.get("finalizers", ()),
        denial=actor.denial(meta["uid"], spec.template) if actor else None,
    )


def seed_of(uid: str) -> int:
    """The seed of a set's jitter: the same after a restart, another on another site."""
    return zlib.crc32(uid.encode())


class Controller:
    """The StartdSets of one namespace."""

    def __init__(
        self,
        api: Api,
        clock: Callable[[], float] = time.time,
        leads: Callable[[], bool] = lambda: True,
        budget: Path = BUDGET,
    ) -> None:
        self._api = api
        self._clock = clock
        self._leads = leads
        self._actor = Actor(api, clock, leads)
        self._changed = asyncio.Event()
        self._sets: Cache[Json] = Cache(api, sets_path(api.namespace), lambda raw: raw, self._changed)
        self._pods: Cache[tuple[str, Pod]] = Cache(
            api, pods_path(api.namespace), _labelled_pod, self._changed, selector=SET_LABEL
        )
        self._survey = Survey(api, self._changed, budget=budget, clock=clock)
        self._turned = time.monotonic()
        self.metrics = Metrics(staleness=lambda: max(self._sets.staleness, self._pods.staleness), leads=leads)

    @property
    def fresh(self) -> bool:
        """Whether the views may be acted on."""
        return self._sets.fresh and self._pods.fresh

    @property
    def _begun(self) -> bool:
        """Whether the first look is over, be it in vain; until then there is nothing to say, not even to be blind."""
        return all(cache.loaded or cache.failure is not None for cache in (self._sets, self._pods))

    @property
    def turning(self) -> bool:
        """Whether the loop makes progress."""
        return time.monotonic() - self._turned < STUCK_SECONDS

    def look_again(self) -> None:
        """Something has changed that no watch tells."""
        self._changed.set()

    async def run(self) -> None:
        """Turns for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sets.run())
            tasks.create_task(self._pods.run())
            tasks.create_task(self._survey.run())
            tasks.create_task(self._turn_forever())

    async def _turn_forever(self) -> None:
        while True:
            self._changed.clear()
            with self.metrics.turns.time():
                wake = await self.turn()
            self._turned = time.monotonic()
            await asyncio.sleep(TURN_SECONDS)
            try:
                await asyncio.wait_for(self._changed.wait(), timeout=min(IDLE_SECONDS, max(0.0, wake - self._clock())))
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Reads everything anew, as is done at the start and whenever a watch has broken."""
        await self._sets.refresh()
        await self._pods.refresh()

    async def turn(self) -> float:
        """Decides on every set and acts, if we lead; when to do so again at the latest."""
        wakes = [self._clock() + IDLE_SECONDS]
        if not self._leads() or not self._begun:
            self._show()
            return min(wakes)
        pods: dict[str, list[Pod]] = {}
        for owner, pod in self._pods.objects.values():
            pods.setdefault(owner, []).append(pod)
        sets = dict(self._sets.objects)
        cluster = self._survey.cluster
        looks = self._looks(cluster, sets, pods)
        # One set shares with nobody.
        uses = node_uses(cluster, [pod for some in pods.values() for pod in some]) if len(looks) > 1 else []
        orphans = {name: some for name, some in pods.items() if name not in sets}
        for snapshot in shared(looks, uses, self._clock()):
            name = snapshot.name
            try:
                wake = await self._decide(sets[name], snapshot)
                wakes += [wake] if wake is not None else []
            except ConflictError:
                wakes.append(self._clock())  # somebody was faster; the watch will show what he did
            except DeposedError:
                return min(wakes)
            except NotFoundError:
                self._sets.objects.pop(name, None)
            except ApiError as error:
                log(event="refused", set=name, status=error.status, message=str(error))
        if self.fresh and self._leads():
            await self._release_orphans(orphans)
        self._show()
        return min(wakes)

    def _show(self) -> None:
        """Lets Prometheus see the statuses as they are now."""
        self.metrics.statuses = {name: status_of(startdset) for name, startdset in self._sets.objects.items()}

    def _looks(self, cluster: Cluster, sets: Mapping[str, Json], pods: Mapping[str, Sequence[Pod]]) -> list[Snapshot]:
        """One look at all sets, with what limits each."""
        now = self._clock()
        demands = {name: demand_of(startdset["spec"]["template"]["spec"]) for name, startdset in sets.items()}
        have = {name: sum(not ended(pod, now) for pod in pods.get(name, ())) for name in sets}
        startds = [(demands[name], have[name]) for name in sets]
        going = retiring(cluster)
        looks = []
        for name, startdset in sets.items():
            try:
                snapshot = snapshot_of(startdset, pods.get(name, ()), actor=self._actor, fresh=self.fresh)
            except (KeyError, ValueError) as error:
                # What the schema lets through but does not mean anything must not stop the other sets.
                log(event="unusable", set=name, message=f"{type(error).__name__}: {error}")
                continue
            demand, nodes = demands[name], cluster.nodes.value
            found = bounds(cluster, demand, snapshot.spec, have=have[name])
            looks.append(
                replace(
                    snapshot,
                    bounds=found,
                    alone=alone(found, cluster.quotas, demand, startds),
                    nodes=None if nodes is None else sum(open_to(node, demand) for node in nodes),
                    retiring=going,
                )
            )
        return looks

    async def _decide(self, startdset: Json, snapshot: Snapshot) -> float | None:
        now = self._clock()
        decision = decide(snapshot, now, seed_of(snapshot.uid))
        status, before = decision.status, startdset.get("status", {})
        changed = status_json(status, before, now) != before
        # A view of the set that is behind is refused here, before anything is made from it.
        if changed or any(isinstance(action, Create) for action in decision.actions):
            startdset = await self._actor.write_status(startdset, status)
            self._sets.put(startdset)
            self.metrics.observe(snapshot, decision)
        if changed or decision.actions:
            log(
                event="decided",
                set=snapshot.name,
                state=status.state,
                message=status.message,
                window=status.window,
                level=status.level,
                actions=Counter(type(action).__name__ for action in decision.actions),
            )
        if status.state != before.get("state"):
            await self._actor.announce(startdset, status)
        await self._actor.carry_out(startdset, decision.actions, snapshot.spec.template)
        return decision.wake

    async def _release_orphans(self, pods: dict[str, list[Pod]]) -> None:
        """Lets go of pods whose set is gone, as when somebody took its finalizer off by hand."""
        now = self._clock()
        for owner, orphans in pods.items():
            for pod in orphans:
                if ended(pod, now):
                    log(event="orphan", set=owner, pod=pod.name)
                    try:
                        await self._actor.release(self._api.namespace, Release(pod=pod))
                    except ApiError as error:
                        log(event="refused", set=owner, status=error.status, message=str(error))


def node_uses(cluster: Cluster, pods: Sequence[Pod]) -> list[NodeUse]:
    """How much of each node startds leave free, as far as they tell: what else runs there is not asked."""
    taken: Counter[str] = Counter()
    for pod in pods:
        if pod.phase not in {"Succeeded", "Failed"}:
            taken[pod.node] += pod.size.millicores
    nodes = [node for node in cluster.nodes.value or () if node.usable]
    totals = {node.name: round(1000 * node.holds.get("cpu", 0.0)) for node in nodes}
    return [NodeUse(name=name, total=total, free=total - taken[name]) for name, total in totals.items()]


def _labelled_pod(raw: Json) -> tuple[str, Pod]:
    return raw["metadata"]["labels"][SET_LABEL], pod_of(raw)


async def _control(access: Access, port: int, lease_seconds: float, rate: Rate) -> None:
    """Runs until it is told to stop; stopping touches no startd."""
    api = Api(access, rate=rate, observe=lambda verb, code: controller.metrics.requests.labels(verb, code).inc())
    controller = Controller(api, leads=lambda: lease.held)
    lease = candidate(access, LEASE, seconds=lease_seconds, changed=controller.look_again)
    registry = controller.metrics.registry
    try:
        async with serving(port, registry, healthy=lambda: controller.turning, ready=lambda: controller.fresh):
            await beside(lease, controller.run())
    finally:
        await api.close()


async def _decisions(access: Access) -> Mapping[str, Decision]:
    """What would be decided now on each set, with the bounds as the controller knew them last."""
    api = Api(access)
    try:
        sets, _ = await api.list(sets_path(api.namespace), lambda raw: raw)
        pods, _ = await api.list(pods_path(api.namespace), _labelled_pod, selector=SET_LABEL)
    finally:
        await api.close()
    decisions = {}
    for startdset in sets:
        name = startdset["metadata"]["name"]
        snapshot = snapshot_of(startdset, [pod for owner, pod in pods if owner == name])
        own = {bound.name for bound in own_bounds(snapshot.spec, ())}
        snapshot = replace(snapshot, bounds=tuple(each for each in snapshot.status.bounds if each.name not in own))
        decisions[name] = decide(snapshot, time.time(), seed_of(snapshot.uid))
    return decisions


def _explain(access: Access, name: str | None, *, as_json: bool) -> str:
    """The text to print.

    Raises:
        SystemExit: with a sentence, if there is nothing to explain.
    """
    try:
        decisions = asyncio.run(_decisions(access))
    except ApiError as error:
        sys.exit(f"namespace {access.namespace}: the StartdSets cannot be read ({error})")
    wanted = {key: decision for key, decision in decisions.items() if name in {None, key}}
    if not wanted:
        known = f"; there are {', '.join(sorted(decisions))}" if decisions else ", nor any other"
        sys.exit(f"there is no StartdSet {name or ''} in namespace {access.namespace}{known}".replace("  ", " "))
    if as_json:
        return json.dumps([facts(key, decision) for key, decision in wanted.items()], indent=2)
    return "\n\n".join(table(key, decision) for key, decision in wanted.items())


def main(words: Sequence[str] | None = None) -> None:
    """The command line: without words the controller, with `explain` why the sets are as they are."""
    parser = argparse.ArgumentParser(prog="services.vacuum", description="Keeps startds running while there is work.")
    parser.add_argument("--kubeconfig", type=Path, help="outside a cluster: the file that says how to reach it")
    parser.add_argument("--namespace", default=os.environ.get("NAMESPACE"), help="of the StartdSets; ours by default")
    parser.add_argument(
        "--lease-seconds",
        type=float,
        default=SECONDS,
        help=f"after so long without a sign of life another replica takes over; default {SECONDS:g}",
    )
    parser.add_argument(
        "--writes-per-second",
        type=float,
        default=WRITES_PER_SECOND,
        help=f"to the API server, after a burst of twice as many; default {WRITES_PER_SECOND:g}",
    )
    commands = parser.add_subparsers(dest="command")
    explaining = commands.add_parser("explain", help="why a set has so many startds and not more")
    explaining.add_argument("set", nargs="?", help="its name; all sets of the namespace without")
    explaining.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args(words)
    access = from_kubeconfig(arguments.kubeconfig) if arguments.kubeconfig else in_cluster()
    if arguments.namespace:
        access = access.in_namespace(arguments.namespace)
    if arguments.command == "explain":
        sys.stdout.write(_explain(access, arguments.set, as_json=arguments.json) + "\n")
    else:
        rate = Rate(per_second=arguments.writes_per_second, burst=max(1, round(2 * arguments.writes_per_second)))
        uvloop.run(_control(access, int(os.environ.get("PORT", PORT)), arguments.lease_seconds, rate))
