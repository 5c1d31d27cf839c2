"""Our controller: the real `decide`, with its own status fed back as the API server keeps it."""

import zlib
from collections.abc import Mapping

from benchmarks.vacuum_simulator.control import Halt, Orders, Seen
from benchmarks.vacuum_simulator.startd import TEMPLATE
from services.kube import Json
from services.vacuum.decide import decide
from services.vacuum.model import Create, Decision, Release, Size, Snapshot, Spec, Stop
from services.vacuum.objects import status_json, status_of

# The settings' defaults; a startd that nobody claims leaves after NOCLAIM_SECONDS.
NOCLAIM_SECONDS = 600.0
FIZZLE_SECONDS = NOCLAIM_SECONDS + 30.0
START_SECONDS = 300.0
# What is left of an object once its deletion was asked for without another grace.
GRACE_SECONDS = 30.0


def spec_of(seen: Seen, window_share: float | None = None) -> Spec:
    """A StartdSet that may fill the site, with the defaults for the rest.

    Args:
        seen: of it, the limit and the cores of a startd.
        window_share: of the limit, that may be unproven at most (vacuum.md §10.5 has a quarter); the default without.
    """
    usual = Spec(template=TEMPLATE, size=Size(), pods=0)
    maximum = 64
    if window_share is not None:
        maximum = max(usual.window_initial, round(window_share * seen.limit))
    return Spec(
        template=TEMPLATE,
        size=Size(millicores=1000 * seen.cores),
        pods=seen.limit,
        window_maximum=maximum,
        fizzle_seconds=FIZZLE_SECONDS,
        start_seconds=START_SECONDS,
    )


class Ours:
    """One decision for each set: they cannot share yet, so each believes that it has the site for itself."""

    watches = True

    def __init__(self, seed: int, name: str = "ours", window_share: float | None = None) -> None:
        self.name = name
        self._seed = seed
        self._window_share = window_share
        self._kept: dict[str, Json] = {}

    def turn(self, now: float, sets: Mapping[str, Seen]) -> Orders:
        """Looks, decides, keeps the status."""
        decisions = [self.decide(now, kind, seen) for kind, seen in sets.items()]
        actions = [action for decision in decisions for action in decision.actions]
        wakes = [decision.wake for decision in decisions if decision.wake is not None]
        return Orders(
            create={
                kind: tuple(action.sequence for action in decision.actions if isinstance(action, Create))
                for kind, decision in zip(sets, decisions, strict=True)
            },
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

    def decide(self, now: float, kind: str, seen: Seen) -> Decision:
        """The decision on one set."""
        before = self._kept.get(kind, {})
        snapshot = Snapshot(
            name=kind,
            uid=kind,
            spec=spec_of(seen, self._window_share),
            status=status_of({"status": before}),
            pods=seen.pods,
        )
        decision = decide(snapshot, now, zlib.crc32(f"{kind} {self._seed}".encode()))
        self._kept[kind] = status_json(decision.status, before, now)
        return decision
