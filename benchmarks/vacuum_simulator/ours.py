"""Our controller: the real `decide`, with its own status fed back as the API server keeps it."""

import zlib
from collections.abc import Mapping

from benchmarks.vacuum_simulator.control import Halt, Orders, Seen
from benchmarks.vacuum_simulator.startd import TEMPLATE
from services.kube import Json
from services.vacuum.decide import decide
from services.vacuum.model import Create, Decision, Release, Size, Snapshot, Spec, Stop
from services.vacuum.objects import status_json, status_of
from services.vacuum.share import NodeUse, shared

# The settings' defaults; a startd that nobody claims leaves after NOCLAIM_SECONDS.
NOCLAIM_SECONDS = 600.0
FIZZLE_SECONDS = NOCLAIM_SECONDS + 30.0
START_SECONDS = 300.0
# What is left of an object once its deletion was asked for without another grace.
GRACE_SECONDS = 30.0


def spec_of(seen: Seen) -> Spec:
    """A StartdSet that may fill the site, with the defaults for the rest."""
    return Spec(
        template=TEMPLATE,
        size=Size(millicores=1000 * seen.cores),
        pods=seen.limit,
        fizzle_seconds=FIZZLE_SECONDS,
        start_seconds=START_SECONDS,
    )


class Ours:
    """What the controller does in a turn: it divides the site, then decides on each set."""

    watches = True
    name = "ours"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._kept: dict[str, Json] = {}

    def turn(self, now: float, sets: Mapping[str, Seen]) -> Orders:
        """Looks, decides, keeps the status."""
        snapshots = shared([self.look(kind, seen) for kind, seen in sets.items()], _uses(sets), now)
        decisions = [self.decide(now, snapshot) for snapshot in snapshots]
        actions = [action for decision in decisions for action in decision.actions]
        wakes = [decision.wake for decision in decisions if decision.wake is not None]
        creates = [
            (kind, action)
            for kind, decision in zip(sets, decisions, strict=True)
            for action in decision.actions
            if isinstance(action, Create)
        ]
        return Orders(
            create={kind: tuple(action.sequence for its, action in creates if its == kind) for kind in sets},
            avoid={(kind, action.sequence): action.avoid for kind, action in creates},
            halt=tuple(
                Halt(
                    name=action.pod.name,
                    reason=str(action.reason),
                    grace_seconds=GRACE_SECONDS if action.grace_seconds is None else action.grace_seconds,
                )
                for action in actions
                if isinstance(action, Stop)
            ),
            forget=tuple(action.pod.name for action in actions if isinstance(action, Release)),
            wake=min(wakes, default=None),
        )

    def look(self, kind: str, seen: Seen) -> Snapshot:
        """One set as the controller sees it; the cluster holds as many startds as its nodes have cores for."""
        return Snapshot(
            name=kind,
            uid=kind,
            spec=spec_of(seen),
            status=status_of({"status": self._kept.get(kind, {})}),
            pods=seen.pods,
            alone=seen.limit,
            nodes=len(seen.nodes),
        )

    def decide(self, now: float, snapshot: Snapshot) -> Decision:
        """The decision on one set."""
        decision = decide(snapshot, now, zlib.crc32(f"{snapshot.name} {self._seed}".encode()))
        self._kept[snapshot.name] = status_json(decision.status, self._kept.get(snapshot.name, {}), now)
        return decision


def _uses(sets: Mapping[str, Seen]) -> list[NodeUse]:
    nodes = next(iter(sets.values())).nodes
    return [NodeUse(name=name, total=1000 * cores, free=1000 * free) for name, (free, cores) in nodes.items()]
