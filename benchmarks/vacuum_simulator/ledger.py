"""The account of one run: where the core-hours went, and how fast the site came back."""

from collections import Counter
from dataclasses import dataclass, field

from benchmarks.vacuum_simulator.startd import Startd
from services.vacuum.evidence import outcome
from services.vacuum.model import Class, Spec

HOUR = 3600.0
SAMPLES = 600
RECOVERED = 0.9
# Of startds that still live when the story ends.
ALIVE = "Alive"


@dataclass(kw_only=True)
class Ledger:
    """Times in seconds, work in core-seconds.

    Attributes:
        slots: cores of the site.
        end: of the story.
        returns: from when on recovery is timed.
        recovers: the set whose recovery it is.
        goal: how many cores it should use again.
        held: cores by time that pods had on nodes, summed up as it changes.
        delivered: what payloads took that did what they came for, or that still run at the end.
        wasted: the rest of what the pods had, by what became of them.
        starts: when pods were made.
        busy, taken: cores that run payloads, and that pods have, now.
        busy_of: cores of the set that recovers which run payloads.
        unproven: startds that live and have had no payload.
        samples: (time, busy, taken).
    """

    slots: int
    end: float
    returns: float | None
    recovers: str
    goal: float
    spec: Spec
    held: float = 0.0
    delivered: float = 0.0
    delivered_by: Counter[str] = field(default_factory=Counter)
    wasted: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    starts: list[float] = field(default_factory=list)
    intervals: list[tuple[float, float, int]] = field(default_factory=list)
    busy: int = 0
    busy_of: int = 0
    taken: int = 0
    unproven: int = 0
    unproven_max: int = 0
    living_max: int = 0
    first: float | None = None
    recovered: float | None = None
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    _last: float = 0.0

    def pass_time(self, now: float) -> None:
        """Adds up what was held since the last time."""
        self.held += self.taken * (now - self._last)
        self._last = now
        if self.returns is not None and now > self.returns:
            self._recover(now)
        while len(self.samples) <= SAMPLES and now >= len(self.samples) * self.end / SAMPLES:
            self.samples.append((len(self.samples) * self.end / SAMPLES, self.busy, self.taken))

    def made(self, now: float, living: int) -> None:
        """A pod was made; so many live now."""
        self.starts.append(now)
        self.unproven += 1
        self.unproven_max = max(self.unproven_max, self.unproven)
        self.living_max = max(self.living_max, living)

    def begins(self, startd: Startd, now: float) -> None:
        """A payload begins."""
        self.busy += startd.cores
        self.unproven -= startd.begun == 1
        if startd.kind != self.recovers:
            return
        self.busy_of += startd.cores
        if self.returns is not None and now >= self.returns:
            self.first = now if self.first is None else self.first
            self._recover(now)

    def ceases(self, startd: Startd) -> None:
        """A payload ends, somehow."""
        self.busy -= startd.cores
        if startd.kind == self.recovers:
            self.busy_of -= startd.cores

    def over(self, startd: Startd, now: float, *, alive: bool = False) -> None:
        """The end of a startd, or of the story."""
        had = startd.cores * (now - startd.scheduled) if startd.scheduled is not None else 0.0
        did = startd.cores * startd.delivered
        self.delivered += did
        self.delivered_by[startd.kind] += did  # type: ignore[assignment]  # a Counter of seconds
        what = ALIVE if alive else str(outcome(startd.pod(), self.spec, draining=False, now=now).what)
        self.wasted[what] += had - did  # type: ignore[assignment]
        self.ended[what] += 1
        if startd.scheduled is not None:
            self.intervals.append((startd.scheduled, now, startd.cores))
        if startd.begun == 0:
            self.unproven -= 1

    def held_between(self, start: float, end: float) -> float:
        """Core-seconds that pods had in a part of the story."""
        return sum(cores * max(0.0, min(end, until) - max(start, since)) for since, until, cores in self.intervals)

    def started_between(self, start: float, end: float) -> int:
        """Pods made in a part of the story."""
        return sum(start <= at < end for at in self.starts)

    def _recover(self, now: float) -> None:
        if self.recovered is None and self.busy_of >= RECOVERED * self.goal:
            self.recovered = now

    @property
    def classes(self) -> dict[str, float]:
        """Core-hours wasted by class, in the order of the classes."""
        order = [*map(str, Class), ALIVE]
        return {name: self.wasted[name] / HOUR for name in order if self.wasted[name] > 0}
