"""What happens to a site: work that comes, faults that come and go. Tables of data, times in simulated hours."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

DAY = 24.0
SITE_SLOTS = 1000
SITE_NODES = 25
# Fewer nodes than these would make one node's fault the site's.
NODES_MIN = 5


class Kind(StrEnum):
    """What a fault does while it lasts."""

    COLLECTOR_DOWN = "the pool's collector does not answer"
    PROXY_EXPIRED = "the pool does not believe the site's credential"
    NODES_LOST = "the cloud takes spot nodes away"
    STARTDS_EVICTED = "every fifth startd is evicted, on whatever node"
    SOFTWARE_MISSING = "a node does not mount the software"
    JOBS_FAIL = "payloads fail within a minute on a node"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        nodes: from which part of the site's nodes to which, at least one; without meaning for the pool's faults.
    """

    kind: Kind
    start: float
    end: float
    nodes: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Jobs that come to the pool's queue at once.

    Attributes:
        site_hours: for so long would they fill the whole site; one that is 0 is a single job.
        seconds: that one runs on average; each has between half and one and a half of it.
        payload: without one it is a pilot that finds nothing to do.
        kind: the set whose startds can run it.
    """

    at: float
    site_hours: float = 0.0
    seconds: float = 4 * 3600.0
    payload: bool = True
    kind: str = "startds"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One story.

    Attributes:
        hours: how long it is.
        returns: when work comes back, or the fault is mended: from then on recovery is timed.
        quiet: from when to when there is no work, so that all that is held is waste.
        recovers: the set whose recovery is timed, and the share of the site that it should reach again.
        cores: that one startd of each set takes.
    """

    name: str
    about: str
    hours: float
    batches: tuple[Batch, ...]
    faults: tuple[Fault, ...] = ()
    returns: float | None = None
    quiet: tuple[float, float] | None = None
    recovers: tuple[str, float] = ("startds", 1.0)
    cores: tuple[tuple[str, int], ...] = (("startds", 1),)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a site."""

    nodes: int
    cores: int

    @property
    def slots(self) -> int:
        """Cores of all its nodes."""
        return self.nodes * self.cores


def size(scale: int) -> Size:
    """A site of a thousand slots on 25 nodes, or a `scale`-th of one on fewer."""
    slots = max(NODES_MIN, SITE_SLOTS // scale)
    nodes = max(NODES_MIN, SITE_NODES // scale)
    return Size(nodes=nodes, cores=max(1, slots // nodes))


def _enough(hours: float, kind: str = "startds", at: float = 0.0) -> Batch:
    """More work than a site does in the time."""
    return Batch(at=at, site_hours=1.2 * hours, kind=kind)


def _trickle(start: float, end: float, every: float, batch: Batch) -> Iterable[Batch]:
    times = itertools.takewhile(lambda at: at < end, (start + every * step for step in itertools.count()))
    return (Batch(at=at, site_hours=batch.site_hours, seconds=batch.seconds, payload=batch.payload) for at in times)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="burst",
        about="nothing to do for 8 hours, then at once work for 16",
        hours=DAY,
        batches=(_enough(16, at=8),),
        returns=8,
        quiet=(0, 8),
    ),
    Scenario(
        name="empty-queue",
        about="work for 6 hours, none for 7 days, then work again",
        hours=8 * DAY,
        batches=(Batch(at=0, site_hours=5), _enough(12, at=7.5 * DAY)),
        returns=7.5 * DAY,
        quiet=(0.5 * DAY, 7.5 * DAY),
    ),
    Scenario(
        name="empty-pilots",
        about="two days with nothing but a pilot without a payload every 20 minutes, then work",
        hours=2.5 * DAY,
        batches=(
            *_trickle(0, 2 * DAY, 1 / 3, Batch(at=0, seconds=480, payload=False)),
            _enough(12, at=2 * DAY),
        ),
        returns=2 * DAY,
        quiet=(0, 2 * DAY),
    ),
    Scenario(
        name="black-hole",
        about="always work; one node in 25 has no software from the start; at hour 24 every fifth startd is evicted",
        hours=2 * DAY,
        batches=(_enough(2 * DAY),),
        faults=(
            Fault(kind=Kind.SOFTWARE_MISSING, start=0, end=2 * DAY, nodes=(0, 0.04)),
            Fault(kind=Kind.STARTDS_EVICTED, start=DAY, end=DAY),
        ),
        returns=DAY,
    ),
    Scenario(
        name="job-eater",
        about="always work; on one node in 25 each payload fails within a minute",
        hours=2 * DAY,
        batches=(_enough(2 * DAY),),
        faults=(Fault(kind=Kind.JOBS_FAIL, start=0, end=2 * DAY, nodes=(0, 0.04)),),
        returns=0,
    ),
    Scenario(
        name="spot-loss",
        about="always work; every node is taken away at hour 12 and is back 30 minutes later",
        hours=DAY,
        batches=(_enough(DAY),),
        faults=(Fault(kind=Kind.NODES_LOST, start=12, end=12.5),),
        returns=12.5,
    ),
    Scenario(
        name="expired-proxy",
        about="always work; the credential is bad from the start and mended at hour 12",
        hours=DAY,
        batches=(_enough(DAY),),
        faults=(Fault(kind=Kind.PROXY_EXPIRED, start=0, end=12),),
        returns=12,
        quiet=(0, 12),
    ),
    Scenario(
        name="flapping-pool",
        about="every 4 hours work for one hour of the site, in jobs of 20 minutes",
        hours=DAY,
        batches=tuple(_trickle(0, DAY, 4, Batch(at=0, site_hours=1, seconds=1200))),
    ),
    Scenario(
        name="collector-outage",
        about="always work; the collector is away from hour 10 to 14, and a fifth of the nodes is lost meanwhile",
        hours=DAY,
        batches=(_enough(DAY),),
        faults=(
            Fault(kind=Kind.COLLECTOR_DOWN, start=10, end=14),
            Fault(kind=Kind.NODES_LOST, start=11, end=11.25, nodes=(0, 0.2)),
        ),
        returns=14,
    ),
    Scenario(
        name="two-sets",
        about="always work for 1-core startds, from hour 6 on for 8-core ones too; then nodes restart, a fifth an hour",
        hours=DAY,
        batches=(_enough(DAY, "small"), _enough(18, "large", at=6)),
        faults=tuple(
            Fault(kind=Kind.NODES_LOST, start=7 + step, end=7.2 + step, nodes=(step / 5, (step + 1) / 5))
            for step in range(5)
        ),
        returns=6,
        recovers=("large", 0.5),
        cores=(("small", 1), ("large", 8)),
    ),
)
