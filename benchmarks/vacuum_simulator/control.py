"""What every controller sees of the world and may order; ours and its peers alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.vacuum.model import Pod


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One set of startds, or what a peer has in its place.

    Attributes:
        limit: of startds, so that they fill the site.
        cores: that one takes.
        pods: all that the API server has.
        idle_jobs: in the pool's queue; for those who ask.
        claimed: the startds that the collector says are claimed; None while it does not answer.
        nodes: free and all cores of each node that is up.
    """

    limit: int
    cores: int
    pods: tuple[Pod, ...]
    idle_jobs: int
    claimed: frozenset[str] | None
    nodes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Halt:
    """A pod is to be deleted."""

    name: str
    reason: str
    grace_seconds: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What to do now.

    Attributes:
        create: numbers of new startds for each set.
        avoid: nodes that they must not land on, for each set and number.
        forget: names of pods whose objects may go.
        wake: when to look again though nothing has changed; None is never.
    """

    create: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    avoid: Mapping[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    halt: tuple[Halt, ...] = ()
    forget: tuple[str, ...] = ()
    wake: float | None = None


class Controller(Protocol):
    """One way to keep startds running."""

    name: str
    # It watches, and looks again when something has changed; those that do not poll.
    watches: bool

    def turn(self, now: float, sets: Mapping[str, Seen]) -> Orders:
        """Looks, and decides."""
        ...
