"""What the controller knows and what it may decide, as plain values; times are POSIX seconds in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

GROUP = "vacuum.atlas-sites.io"
OUTCOME_FINALIZER = f"{GROUP}/outcome"
DRAIN_FINALIZER = f"{GROUP}/drain"
SET_LABEL = f"{GROUP}/set"
TEMPLATE_LABEL = f"{GROUP}/template"
REQUESTED_ANNOTATION = f"{GROUP}/requested"
LIFETIME_ANNOTATION = f"{GROUP}/lifetime"
RETRY_ANNOTATION = f"{GROUP}/retry-now"


class Reason(StrEnum):
    """Why we asked a pod to stop; the value of the annotation `requested`.

    PEACEFUL is read by the startd itself, which takes no more payloads and leaves; the others announce a deletion.
    """

    PEACEFUL = "peaceful"
    DRAIN = "drain"
    START = "start"
    CAPACITY = "capacity"


class DrainMode(StrEnum):
    """How the startds of a set go that is deleted: payloads may end until a deadline, or not."""

    GRACEFUL = "Graceful"
    FAST = "Fast"


class DeletionPolicy(StrEnum):
    """What becomes of the startds when their set is deleted: they are drained, left alone, or killed."""

    DRAIN = "Drain"
    ORPHAN = "Orphan"
    KILL = "Kill"


class UpdatePolicy(StrEnum):
    """How the startds of an old template go: at their own end, or peacefully drained as new ones prove themselves."""

    ON_FINISH = "OnFinish"
    DRAIN = "Drain"


class Class(StrEnum):
    """What became of a startd."""

    REQUESTED = "Requested"
    DISRUPTED = "Disrupted"
    CAPACITY = "Capacity"
    WORKED = "Worked"
    NO_WORK = "NoWork"
    BANNED = "Banned"
    SITE_FAULT = "SiteFault"
    GRID_FAULT = "GridFault"
    TRANSIENT = "Transient"


class Circuit(StrEnum):
    """Whether new startds are worth their money: yes, not before a time, or one to find out."""

    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


class State(StrEnum):
    """What a set is doing, in a word."""

    RAMPING = "Ramping"
    STEADY = "Steady"
    BACKING_OFF = "BackingOff"
    PROBING = "Probing"
    THROTTLED = "Throttled"
    DRAINING = "Draining"
    BLIND = "Blind"
    INVALID = "Invalid"


@dataclass(frozen=True, kw_only=True)
class Size:
    """What one startd takes of the limits."""

    millicores: int = 0
    memory_mib: int = 0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a StartdSet asks for.

    Attributes:
        template: hash of the pod template.
        size: of one startd made from it.
        pods, millicores, memory_mib, cost_per_hour: the limits; None is no limit.
        weight: of the set when several share a site.
        floor: startds that it gets before weights count.
        window_maximum: None is a quarter of what the limits allow, but not less than the second wave.
        fizzle_seconds: a startd that ended sooner without a word found no work.
        start_seconds: a scheduled pod whose startd does not run after so long never will.
        drain_seconds: how long a startd may take to end once it is asked to.
        lifetime: seconds after which a startd takes no more payloads; None is no end.
    """

    template: str
    size: Size
    pods: int
    millicores: int | None = None
    memory_mib: int | None = None
    cost_per_hour: float | None = None
    weight: int = 1
    floor: int = 0
    window_initial: int = 4
    window_growth: int = 4
    window_maximum: int | None = None
    backoff_base: float = 600
    backoff_cap: float = 3600
    fizzle_seconds: float = 900
    start_seconds: float = 900
    drain_seconds: int = 3600
    drain_mode: DrainMode = DrainMode.GRACEFUL
    update: UpdatePolicy = UpdatePolicy.ON_FINISH
    deletion: DeletionPolicy = DeletionPolicy.DRAIN
    lifetime: int | None = None


@dataclass(frozen=True, kw_only=True)
class Message:
    """What the reporter in the pod wrote as its last word.

    Attributes:
        code: 1xx asked to stop, 2xx worked, 3xx no work, 4xx banned, 5xx site, 6xx grid, 7xx transient.
        jobs_started: None if it does not say.
        retry_after: seconds in which another attempt is no use; None if it does not say.
        busy_seconds: with at least one payload.
        lost_seconds: of payloads that were cut short.
        cpu_seconds: that all of the pod's startd used, of all its cores together.
    """

    code: int
    reason: str
    jobs_started: int | None = None
    retry_after: float | None = None
    busy_seconds: float = 0
    lost_seconds: float = 0
    cpu_seconds: float = 0


@dataclass(frozen=True, kw_only=True, slots=True)  # there are ten thousand of them
class Pod:
    """One startd's pod, reduced to what a decision needs.

    Attributes:
        sequence: the number in its name.
        phase: Pending, Running, Succeeded or Failed.
        reason: of the pod's status, as in Evicted.
        deadline: when a deletion that was asked for must be through; None if nobody asked.
        requested: our annotation, whatever it says.
        held: our outcome finalizer is on it.
        scheduled: since when it has a node.
        unschedulable: the scheduler found no node for it.
        disruption: the reason of its DisruptionTarget condition.
        started: when the startd container ran first.
        finished: when the startd container, or an init container that failed, ended.
        ready: since when it is known to have had a real payload: the proof.
        exit_code, exit_reason: of the container that ended last, as in 137 and OOMKilled.
    """

    name: str
    uid: str
    version: str = ""
    finalizers: tuple[str, ...] = (OUTCOME_FINALIZER,)
    sequence: int
    template: str
    size: Size = field(default_factory=Size)
    created: float
    phase: str = "Pending"
    reason: str = ""
    deadline: float | None = None
    requested: str | None = None
    node: str = ""
    scheduled: float | None = None
    unschedulable: bool = False
    disruption: str | None = None
    started: float | None = None
    finished: float | None = None
    ready: float | None = None
    exit_code: int | None = None
    exit_reason: str = ""
    message: Message | None = None

    @property
    def held(self) -> bool:
        """Our finalizer keeps it until its outcome is counted."""
        return OUTCOME_FINALIZER in self.finalizers


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one startd, and how we know."""

    name: str
    what: Class
    reason: str
    code: int | None
    at: float
    seconds: float
    node: str


@dataclass(frozen=True, kw_only=True)
class NodeMemory:
    """A node on which a startd failed lately.

    Attributes:
        recent: how the last few ended there, b by the site's fault and g well, the newest last.
        at: when the last failure was.
        until: new startds avoid it, or did so; None if it was never blamed.
        level: blames in a row.
        reason: of the last failure.
    """

    name: str
    recent: str = ""
    at: float = 0
    until: float | None = None
    level: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Blamed:
    """A node that new startds avoid."""

    name: str
    until: float
    level: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the startds that have ended took of the site, in core-seconds.

    Attributes:
        held: from their start to their end, by what became of them.
        busy: of it, with a payload.
        lost: of payloads that were cut short.
        cpu: that was used: CPU time.
    """

    held: Mapping[Class, int] = field(default_factory=dict)
    busy: int = 0
    lost: int = 0
    cpu: int = 0


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many startds there are.

    Attributes:
        total: all that take of the limits, those that are asked to stop and those still to be made among them.
        running: their startd has started.
        unproven: not known to have found work, and not asked to stop; the window bounds these.
        proven: known to have found work.
    """

    total: int = 0
    running: int = 0
    unproven: int = 0
    proven: int = 0


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One limit on how many startds of a set there may be, as far as it is known.

    Attributes:
        startds: how many, those that are there among them; None if it does not rule, above all if nobody knows.
        because: the numbers that it follows from.
        stale: it has not been confirmed for longer than such numbers are good for.
    """

    name: str
    startds: int | None
    because: str
    stale: bool = False


@dataclass(frozen=True, kw_only=True)
class Status:
    """All that the controller remembers; kept in the status of the StartdSet and nowhere else.

    Attributes:
        generation: of the spec that was looked at last.
        template: hash that the window and the circuit are about.
        sequence: the highest number ever given to a pod.
        creating: numbers reserved for pods that nobody has seen yet.
        proven: numbers of living pods whose proof is counted.
        uncounted: (UID, name) of ended pods that `outcomes` holds already and whose finalizer may still be on.
        window: how many startds may be unproven at once.
        owed: how many more may be, in place of startds that were taken away while they had work.
        cut: pods up to this number failed for the last time when the window was cut.
        failures: in a row, without a proof between.
        until: no probe before; only while the circuit is open.
        recent: the last outcomes, newest first.
        nodes: those on which a startd failed lately.
        blamed: those among them that new startds avoid.
        bounds: all that is known to limit the set.
        limit: how many startds the smallest of them allows.
    """

    generation: int = 0
    template: str = ""
    sequence: int = 0
    creating: tuple[int, ...] = ()
    proven: tuple[int, ...] = ()
    uncounted: tuple[tuple[str, str], ...] = ()
    window: int = 0
    owed: int = 0
    cut: int = 0
    failures: int = 0
    circuit: Circuit = Circuit.CLOSED
    level: int = 0
    until: float | None = None
    outcomes: Mapping[Class, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    recent: tuple[Outcome, ...] = ()
    nodes: tuple[NodeMemory, ...] = ()
    blamed: tuple[Blamed, ...] = ()
    startds: Count = field(default_factory=Count)
    bounds: tuple[Bound, ...] = ()
    limit: int = 0
    state: State = State.STEADY
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Denial:
    """The API server refuses to make pods for now.

    Attributes:
        invalid: it is the template's fault, and no pod will be made until the template changes.
    """

    message: str
    until: float
    invalid: bool = False


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One StartdSet and its pods, as one look at the API server's objects.

    Attributes:
        deleting: the set is to go, with all its startds.
        retry: someone set the annotation `retry-now`.
        blind: the view is stale or was never complete.
        held: our drain finalizer is on the set.
        bounds: what limits the set beside its own spec.
        avoid: nodes that are left free for the startds of another set.
        nodes: how many the cluster has that may take startds; None if nobody knows.
        retiring: names of nodes that are to become empty.
        alone: startds of the set that the cluster could hold if there were no other sets; None if nobody knows.
    """

    name: str
    uid: str = ""
    generation: int = 1
    spec: Spec
    status: Status = field(default_factory=Status)
    pods: tuple[Pod, ...] = ()
    deleting: bool = False
    retry: bool = False
    blind: bool = False
    held: bool = True
    denial: Denial | None = None
    bounds: tuple[Bound, ...] = ()
    avoid: frozenset[str] = frozenset()
    nodes: int | None = None
    alone: int | None = None
    retiring: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Create:
    """Make the pod of a reserved number; that it exists already is success.

    Attributes:
        avoid: nodes that it must not land on.
        lifetime: seconds after which it takes no more payloads; None is no end.
    """

    sequence: int
    avoid: tuple[str, ...] = ()
    lifetime: int | None = None


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Write on the pod why, then delete it gracefully."""

    pod: Pod
    reason: Reason
    grace_seconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Retire:
    """Tell a startd to take no more payloads and to leave when those it has are through."""

    pod: Pod


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """Let go of a startd without touching it: the set goes, the startd stays."""

    pod: Pod


@dataclass(frozen=True, kw_only=True)
class Release:
    """Take our finalizer off a pod whose outcome is counted, and delete it."""

    pod: Pod


@dataclass(frozen=True, kw_only=True)
class HoldSet:
    """Put our finalizer on the set, so that it is drained before it goes."""


@dataclass(frozen=True, kw_only=True)
class ReleaseSet:
    """Take our finalizer off the set, unless the API server knows of a pod of it."""


@dataclass(frozen=True, kw_only=True)
class ClearRetry:
    """Take the annotation `retry-now` off the set."""


Action = Create | Stop | Retire | Orphan | Release | HoldSet | ReleaseSet | ClearRetry


@dataclass(frozen=True, kw_only=True)
class Term:
    """One bound on the number of startds.

    Attributes:
        allows: how many startds more it lets be made; None if nobody knows, and then it does not rule.
    """

    name: str
    allows: int | None
    because: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do now.

    Attributes:
        actions: in order, after the status is written.
        explanation: why so many startds are made and not one more; the smallest term rules.
        wake: when to decide again though nothing has changed.
    """

    actions: tuple[Action, ...]
    status: Status
    explanation: tuple[Term, ...]
    wake: float | None = None
