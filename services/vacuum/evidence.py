"""What became of a startd, told from its pod; a table, the first row that matches wins."""

from collections.abc import Callable
from dataclasses import dataclass

from services.vacuum.model import Class, Outcome, Pod, Reason, Spec

# A node that is gone cannot say that a pod ended: so long after its deadline we stop waiting for it.
LOST_SECONDS = 120.0

DISRUPTIONS = frozenset({"Preempting", "Terminated", "NodeShutdown", "NodeLost", "NodeAffinity", "Shutdown"})

BY_HUNDREDS = {
    1: Class.REQUESTED,
    2: Class.WORKED,
    3: Class.NO_WORK,
    4: Class.BANNED,
    5: Class.SITE_FAULT,
    6: Class.GRID_FAULT,
    7: Class.TRANSIENT,
}
# The reporter's exit codes. Nought is not among them: a master that nobody claimed ends with it too.
BY_EXIT_CODE = {
    3: Class.NO_WORK,
    4: Class.BANNED,
    5: Class.SITE_FAULT,
    6: Class.GRID_FAULT,
    7: Class.TRANSIENT,
    10: Class.REQUESTED,
}

# Classes that say that the next startd would fare no better.
FAILURES = frozenset({Class.NO_WORK, Class.BANNED, Class.SITE_FAULT, Class.GRID_FAULT})


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rows look at.

    Attributes:
        seconds: that the startd ran, 0 if it never did.
        draining: the set is being deleted.
        lost: the pod's deletion is overdue.
    """

    pod: Pod
    spec: Spec
    seconds: float
    draining: bool
    lost: bool

    @property
    def code(self) -> int:
        """Of the message, 0 without one."""
        return self.pod.message.code if self.pod.message else 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """If `matches`, the outcome is of class `what`, because of `reason`."""

    matches: Callable[[Facts], bool]
    what: Callable[[Facts], Class]
    reason: Callable[[Facts], str]


def _row(matches: Callable[[Facts], bool], what: Class, reason: str) -> Row:
    return Row(matches=matches, what=lambda _: what, reason=lambda _: reason)


TABLE: tuple[Row, ...] = (
    # We stopped it ourselves.
    _row(lambda f: f.pod.requested == Reason.START, Class.SITE_FAULT, "StartError"),
    _row(lambda f: f.pod.requested == Reason.CAPACITY, Class.CAPACITY, "Unschedulable"),
    # One that was let go in peace is judged by what it did.
    _row(lambda f: f.pod.requested not in {None, Reason.PEACEFUL}, Class.REQUESTED, "Drain"),
    # Somebody took it away.
    Row(
        matches=lambda f: f.pod.disruption is not None,
        what=lambda _: Class.DISRUPTED,
        reason=lambda f: f.pod.disruption or "",
    ),
    Row(
        matches=lambda f: f.pod.reason in DISRUPTIONS,
        what=lambda _: Class.DISRUPTED,
        reason=lambda f: f.pod.reason,
    ),
    _row(lambda f: f.lost, Class.DISRUPTED, "NodeLost"),
    # It took more than its share. (An eviction for the node's sake carries DisruptionTarget, so it ended above.) More
    # disk than was offered is the payload's doing, as long as not nearly all of them do it.
    _row(lambda f: f.pod.reason == "Evicted", Class.TRANSIENT, "Evicted"),
    _row(lambda f: f.pod.exit_reason == "OOMKilled", Class.SITE_FAULT, "OOMKilled"),
    # Deleted, by the garbage collector while the set goes or by a person, before it could say anything else.
    _row(lambda f: f.pod.deadline is not None and f.draining, Class.REQUESTED, "Drain"),
    _row(
        lambda f: f.pod.deadline is not None and not 200 <= f.code < 700,
        Class.DISRUPTED,
        "Deleted",
    ),
    # It said so itself. A claim that brought no payload is no work.
    _row(
        lambda f: f.pod.message is not None and 200 <= f.code < 300 and f.pod.message.jobs_started == 0,
        Class.NO_WORK,
        "EmptyPilots",
    ),
    Row(
        matches=lambda f: f.code // 100 in BY_HUNDREDS,
        what=lambda f: BY_HUNDREDS[f.code // 100],
        reason=lambda f: f.pod.message.reason if f.pod.message else "",
    ),
    # It died without a word.
    Row(
        matches=lambda f: f.pod.exit_code in BY_EXIT_CODE,
        what=lambda f: BY_EXIT_CODE[f.pod.exit_code or 0],
        reason=lambda _: "ExitCode",
    ),
    _row(lambda f: f.pod.started is None, Class.SITE_FAULT, "StartError"),
    _row(lambda f: f.seconds < f.spec.fizzle_seconds, Class.NO_WORK, "Fizzle"),
    _row(lambda f: f.pod.exit_code == 0, Class.WORKED, "LongLived"),
    _row(lambda _: True, Class.TRANSIENT, "Died"),
)


def ended(pod: Pod, now: float) -> bool:
    """Whether the pod takes nothing of the limits any more."""
    if pod.phase in {"Succeeded", "Failed"}:
        return True
    # Without a node there is no kubelet that would report an end.
    return pod.deadline is not None and (pod.scheduled is None or now >= pod.deadline + LOST_SECONDS)


def outcome(pod: Pod, spec: Spec, *, draining: bool, now: float) -> Outcome:
    """What became of a pod that has ended."""
    at = pod.finished or now
    facts = Facts(
        pod=pod,
        spec=spec,
        seconds=max(0.0, at - pod.started) if pod.started is not None else 0.0,
        draining=draining,
        lost=pod.phase not in {"Succeeded", "Failed"} and pod.scheduled is not None,
    )
    row = next(row for row in TABLE if row.matches(facts))
    return Outcome(
        name=pod.name,
        what=row.what(facts),
        reason=row.reason(facts),
        code=pod.message.code if pod.message else None,
        at=at,
        seconds=facts.seconds,
        node=pod.node,
    )
