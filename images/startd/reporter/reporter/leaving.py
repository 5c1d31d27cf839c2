"""How a startd leaves: why, and what has to be done at which moment so that it does.

Draining is HTCondor's own: on SIGTERM it takes no more jobs and goes after its last one, however long that takes. What
bounds it is here.
"""

from enum import Enum, IntEnum, auto
from pathlib import Path

# Payloads are told so long before they are killed. MachineMaxVacateTime in startd.conf is the same.
NOTICE_SECONDS = 30.0
# For HTCondor to go once it has no job, and once more when it was told to be quick; the pod's grace outlasts both.
GOING_SECONDS = 60.0

# What a pod may be asked for by its annotation; both mean the same, the second is what people say.
REQUESTS = frozenset({"peaceful", "drain"})


class Why(Enum):
    """Why a startd leaves while HTCondor would go on."""

    STOPPED = "it was asked to stop"
    REQUESTED = "it was asked to take no more jobs"
    LIFETIME = "its lifetime was over"
    JOBS_FAIL = "its jobs failed one after another"
    UNWANTED = "nobody wanted it"

    @property
    def asked(self) -> bool:
        """It says nothing of site, pool or jobs."""
        return self in {Why.STOPPED, Why.REQUESTED, Why.LIFETIME}


class Step(IntEnum):
    """What has to have been done; each includes those before it."""

    DRAIN = auto()  # no more jobs
    NOTICE = auto()  # payloads are asked to end
    FAST = auto()  # payloads are killed
    KILL = auto()  # HTCondor is


def step(now: float, *, busy: float, deadline: float | None) -> Step:
    """How far it has come; all times in seconds.

    Args:
        now: on the same clock as the others.
        busy: when a job ran last; when it began to leave, if none has since.
        deadline: when payloads are killed that still run; none: never.
    """
    end = busy + GOING_SECONDS if deadline is None else min(deadline, busy + GOING_SECONDS)
    if now >= end + GOING_SECONDS:
        return Step.KILL
    if now >= end:
        return Step.FAST
    if deadline is not None and now >= deadline - NOTICE_SECONDS:
        return Step.NOTICE
    return Step.DRAIN


def requested(file: Path) -> str:
    """What the pod's annotation asks for; empty if nothing."""
    return _read(file)


def starters(processes: Path = Path("/proc")) -> frozenset[int]:
    """The numbers of HTCondor's starters, one for each job that runs.

    A starter that gets SIGTERM sends the job the signal that it wants to be ended with, by default SIGTERM, and tells
    the pool that it was taken away, so that it is run again; a job that got the signal from us would count as done.
    """
    return frozenset(int(name.parent.name) for name in processes.glob("[0-9]*/comm") if _read(name) == "condor_starter")


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:  # it is not there, or the process that it told of has just ended
        return ""
