"""One startd: what it does with its life, the pod that the API server shows, and its reporter's last word."""

import json
from dataclasses import dataclass, field

from benchmarks.vacuum_simulator.scenarios import Kind
from services.vacuum.model import OUTCOME_FINALIZER, Message, Pod, Size
from services.vacuum.objects import message_of

TEMPLATE = "simulated"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of the pool; without a payload it is a pilot that finds nothing to do."""

    seconds: float
    payload: bool = True


@dataclass(kw_only=True)
class Node:
    """A machine. `free` cores are those that no pod has; `broken` is what is wrong with it."""

    name: str
    cores: int
    free: int
    broken: set[Kind] = field(default_factory=set)

    @property
    def up(self) -> bool:
        """It takes pods."""
        return Kind.NODES_LOST not in self.broken


@dataclass(kw_only=True)
class Startd:
    """A startd and its pod; times are seconds, None for what has not happened.

    Attributes:
        step: counts the turns of its life, so that what was planned before the last one is not done any more.
        since: when the job that runs began.
        delivered: seconds of jobs that did what they came for.
        begun: jobs with a payload.
        worked, failed, empty: jobs that ended so; the empty ones had no payload.
    """

    kind: str
    sequence: int
    cores: int
    created: float
    avoid: tuple[str, ...] = ()
    node: Node | None = None
    scheduled: float | None = None
    unschedulable: bool = False
    started: float | None = None
    known: bool = False
    ready: float | None = None
    finished: float | None = None
    deadline: float | None = None
    requested: str | None = None
    disruption: str | None = None
    phase: str = "Pending"
    reason: str = ""
    exit_code: int | None = None
    message: Message | None = None
    step: int = 0
    job: Job | None = None
    since: float = 0.0
    delivered: float = 0.0
    claims: int = 0
    begun: int = 0
    worked: int = 0
    failed: int = 0
    empty: int = 0
    _pod: Pod | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Of its pod."""
        return f"{self.kind}-{self.sequence}"

    @property
    def over(self) -> bool:
        """Nothing of it runs any more, or ever will."""
        return self.phase in {"Succeeded", "Failed"} or (self.deadline is not None and self.scheduled is None)

    @property
    def fails(self) -> bool:
        """Payloads fail where it is."""
        return self.node is not None and Kind.JOBS_FAIL in self.node.broken

    def changed(self) -> None:
        """What the API server shows of it is new."""
        self._pod = None

    def pod(self) -> Pod:
        """As the API server shows it: times to the second."""
        if self._pod is None:
            self._pod = Pod(
                name=self.name,
                uid=self.name,
                finalizers=(OUTCOME_FINALIZER,),
                sequence=self.sequence,
                template=TEMPLATE,
                size=Size(millicores=1000 * self.cores),
                created=float(int(self.created)),
                phase=self.phase,
                reason=self.reason,
                deadline=_whole(self.deadline),
                requested=self.requested,
                node=self.node.name if self.node else "",
                scheduled=_whole(self.scheduled),
                unschedulable=self.unschedulable,
                disruption=self.disruption,
                started=_whole(self.started),
                finished=_whole(self.finished),
                ready=_whole(self.ready) if self.phase == "Running" else None,
                exit_code=self.exit_code,
                message=self.message,
            )
        return self._pod

    def verdict(self, *, asked: bool = False) -> tuple[int, str]:
        """Code and reason of the reporter's table (images/startd/reporter) for one that the pool had let in."""
        if self.worked:
            return 200, "Worked"
        if self.failed:
            return 500, "JobsFailed"
        if self.empty:
            return 300, "EmptyPilots"
        if asked:
            return 100, "Asked"
        return 300, "NeverClaimed"

    def says(self, code: int, reason: str) -> None:
        """The reporter writes its last word, and ends with the code's exit code."""
        jobs = self.begun + self.empty
        facts = {"v": 1, "code": code, "reason": reason, "claims": self.claims, "jobsStarted": jobs}
        self.message = message_of(f"{code} {reason}\n{json.dumps(facts)}")
        self.exit_code = {1: 10, 2: 0}.get(code // 100, code // 100)


def _whole(time: float | None) -> float | None:
    return float(int(time)) if time is not None else None
