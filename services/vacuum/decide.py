"""The one decision: from a look at a set and its pods to what to do about them. Pure, so that it can be tried out.

Three loops that do not touch each other: **payload** (a window on startds that have not proven themselves, and a
circuit breaker), **capacity** (pods that no node takes) and **disruption** (pods that somebody took away, which are
replaced and teach nothing). Only the payload loop backs off.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.vacuum.evidence import FAILURES, LOST_SECONDS, ended, outcome
from services.vacuum.model import (
    Action,
    Circuit,
    Class,
    ClearRetry,
    Count,
    Create,
    Decision,
    HoldSet,
    Outcome,
    Pod,
    Reason,
    Release,
    ReleaseSet,
    Snapshot,
    Spec,
    State,
    Status,
    Stop,
    Term,
)

RECENT = 20
# As many as a status can hold comfortably; more wait for the next turn.
UNCOUNTED_MAX = 256
# Deaths without a reason are nobody's fault one by one; this share of the recent outcomes is somebody's.
DEATHS_SHARE = 0.8
DEATHS_SAMPLES = 10
# In a row without a proof between: so few may be chance.
FAILURES_MIN = 3
JITTER = 0.15
# Longer than the fifteen minutes that the cluster autoscaler gives a new node to come.
PROVISION_SECONDS = 1200.0


@dataclass(frozen=True, kw_only=True)
class _Lesson:
    """What one startd of the present template taught; `what` is Worked for a proof, also of one that still runs."""

    at: float
    sequence: int
    what: Class


def decide(snapshot: Snapshot, now: float, seed: int) -> Decision:
    """What to do now.

    Args:
        snapshot: one look at the set and its pods.
        now: POSIX seconds.
        seed: of the jitter; the same snapshot, time and seed give the same decision.
    """
    if snapshot.blind:
        because = "the view of the API server is stale: nothing is made or stopped until it is fresh"
        status = replace(snapshot.status, state=State.BLIND, message=because)
        return Decision(actions=(), status=status, explanation=(Term(name="blind", allows=0, because=because),))

    alive = tuple(pod for pod in snapshot.pods if not ended(pod, now))
    status = _forget(snapshot, alive)
    status, lessons = _count(snapshot, status, now)
    status, proofs = _prove(snapshot, status, alive, now)
    for lesson in sorted(lessons + proofs, key=lambda lesson: (lesson.at, lesson.sequence)):
        status = _learn(status, snapshot.spec, lesson, now, seed)
    status = _tick(snapshot, status, now)

    terms = _terms(snapshot, status, alive, now)
    room = max(0, min(term.allows for term in terms))
    reserved = status.creating[:room]
    new = tuple(range(status.sequence + 1, status.sequence + 1 + room - len(reserved)))
    if _denied(snapshot, now):
        new = ()
    status = replace(status, sequence=status.sequence + len(new), creating=reserved + new)

    stops = tuple(_stops(snapshot, alive, now))
    status = _describe(snapshot, status, alive, terms, now)
    return Decision(
        actions=(
            *stops,
            *(Release(pod=pod) for pod in snapshot.pods if _countable(pod, status, now)),
            *_set_actions(snapshot),
            *(Create(sequence=number) for number in status.creating if not _denied(snapshot, now)),
        ),
        status=status,
        explanation=terms,
        wake=_wake(snapshot, status, alive, now),
    )


def _forget(snapshot: Snapshot, alive: Iterable[Pod]) -> Status:
    """The status without what the pods show to be settled, and with a fresh start for a new template."""
    status, spec = snapshot.status, snapshot.spec
    seen = {pod.sequence for pod in snapshot.pods}
    held = {pod.uid for pod in snapshot.pods if pod.held}
    living = {pod.sequence for pod in alive}
    status = replace(
        status,
        generation=snapshot.generation,
        sequence=max(status.sequence, *seen) if seen else status.sequence,
        creating=tuple(number for number in status.creating if number not in seen),
        proven=tuple(number for number in status.proven if number in living),
        uncounted=tuple(entry for entry in status.uncounted if entry[0] in held),
        window=min(status.window, _widest(spec)),
    )
    if status.template == spec.template:
        return status
    return replace(
        status,
        template=spec.template,
        window=min(spec.window_initial, _widest(spec)),
        owed=0,
        cut=status.sequence,
        failures=0,
        circuit=Circuit.CLOSED,
        level=0,
        until=None,
    )


def _count(snapshot: Snapshot, status: Status, now: float) -> tuple[Status, list[_Lesson]]:
    """Adds the outcomes that no status holds yet; each stays on record until its finalizer is seen gone."""
    counted = {uid for uid, _ in status.uncounted}
    fresh = [pod for pod in snapshot.pods if pod.held and ended(pod, now) and pod.uid not in counted]
    fresh = sorted(fresh, key=lambda pod: pod.sequence)[: UNCOUNTED_MAX - len(counted)]
    outcomes = dict(status.outcomes)
    recent: list[Outcome] = []
    lessons: list[_Lesson] = []
    proven = set(snapshot.status.proven)
    owed = status.owed
    for pod in fresh:
        result = outcome(pod, snapshot.spec, draining=snapshot.deleting, now=now)
        owed += result.what is Class.DISRUPTED and pod.sequence in proven and status.circuit is Circuit.CLOSED
        outcomes[result.what] = outcomes.get(result.what, 0) + 1
        recent.append(result)
        # That an old startd had work says nothing about today's.
        if pod.template == snapshot.spec.template and not (result.what is Class.WORKED and pod.sequence in proven):
            lessons.append(_Lesson(at=result.at, sequence=pod.sequence, what=result.what))
    recent.sort(key=lambda result: result.at, reverse=True)
    return (
        replace(
            status,
            uncounted=status.uncounted + tuple((pod.uid, pod.name) for pod in fresh),
            owed=owed,
            outcomes=outcomes,
            recent=(*recent, *status.recent)[:RECENT],
        ),
        lessons,
    )


def _prove(snapshot: Snapshot, status: Status, alive: Iterable[Pod], now: float) -> tuple[Status, list[_Lesson]]:
    """Finds the living startds that must have been claimed, since they would have left otherwise."""
    known = set(status.proven)
    fresh = [
        pod
        for pod in alive
        if pod.sequence not in known
        and not _stopping(pod)
        and pod.ready is not None
        and now - pod.ready >= snapshot.spec.proof_seconds
    ]
    lessons = [
        _Lesson(at=(pod.ready or now) + snapshot.spec.proof_seconds, sequence=pod.sequence, what=Class.WORKED)
        for pod in fresh
        if pod.template == snapshot.spec.template
    ]
    return replace(status, proven=status.proven + tuple(sorted(pod.sequence for pod in fresh))), lessons


def _learn(status: Status, spec: Spec, lesson: _Lesson, now: float, seed: int) -> Status:
    """The payload loop: a proof opens the window, a failure halves it, failures without a proof open the circuit."""
    if lesson.what is Class.WORKED:
        if status.circuit is not Circuit.CLOSED:
            window = min(spec.window_initial, _widest(spec))
            return replace(status, circuit=Circuit.CLOSED, until=None, failures=0, window=window)
        window = min(_widest(spec), status.window + spec.window_growth - 1)
        owed = max(0, status.owed - 1)
        return replace(status, window=window, owed=owed, failures=0, level=max(0, status.level - 1))

    of_this_wave = lesson.sequence > status.cut
    if status.circuit is not Circuit.CLOSED:
        # What was there before the circuit opened says nothing new; the probe does.
        failed = lesson.what in FAILURES or lesson.what is Class.TRANSIENT
        return _open(status, spec, now, seed) if of_this_wave and failed else status

    if lesson.what is Class.TRANSIENT:
        deaths = sum(result.what is Class.TRANSIENT for result in status.recent)
        many = len(status.recent) >= DEATHS_SAMPLES and deaths >= DEATHS_SHARE * len(status.recent)
        return _open(status, spec, now, seed) if of_this_wave and many else status

    if lesson.what not in FAILURES:
        return status
    last_one = status.window == 1
    status = replace(status, failures=status.failures + 1)
    if of_this_wave:
        status = replace(status, window=max(1, status.window // 2), owed=0, cut=status.sequence)
    if lesson.what is Class.BANNED or last_one or status.failures >= max(FAILURES_MIN, status.window):
        return _open(status, spec, now, seed)
    return status


def _open(status: Status, spec: Spec, now: float, seed: int) -> Status:
    # The level stops where the pause does: a site that was ill for days must not need as many proofs to be well.
    pause, level = spec.backoff_base, 1
    while level <= status.level and pause < spec.backoff_cap:
        pause, level = 2 * pause, level + 1
    spread = random.Random(f"{seed} {status.sequence} {level}").uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  so that sites do not probe in step
    return replace(
        status,
        circuit=Circuit.OPEN,
        level=level,
        until=now + min(pause, spec.backoff_cap) * spread,
        window=1,
        owed=0,
        cut=status.sequence,
        failures=0,
    )


def _tick(snapshot: Snapshot, status: Status, now: float) -> Status:
    """The circuit's own course: to half-open when its time has come, or when somebody asks for it."""
    if snapshot.retry:
        status = replace(status, level=0)
    if status.circuit is Circuit.OPEN and (snapshot.retry or now >= (status.until or 0)):
        return replace(status, circuit=Circuit.HALF_OPEN, until=None)
    return status


def _terms(snapshot: Snapshot, status: Status, alive: tuple[Pod, ...], now: float) -> tuple[Term, ...]:
    """All bounds on the number of pods to be made, those included that are reserved but not seen."""
    spec = snapshot.spec
    terms = [Term(name="pods", allows=spec.pods - len(alive), because=f"{len(alive)} of limits.pods {spec.pods}")]
    for name, limit, used, one in (
        ("cores", spec.millicores, sum(pod.size.millicores for pod in alive), spec.size.millicores),
        ("memoryMib", spec.memory_mib, sum(pod.size.memory_mib for pod in alive), spec.size.memory_mib),
    ):
        if limit is not None:
            scale = 1000 if name == "cores" else 1
            because = f"{used / scale:g} of limits.{name} {limit / scale:g}, {one / scale:g} a startd"
            terms.append(Term(name=name, allows=(limit - used) // one if one else 0, because=because))

    unproven = len(_unproven(status, alive))
    because = f"{unproven} unproven, of {status.window} that may be"
    if status.owed:
        because += f" and {status.owed} in place of startds that were taken away at work"
    terms.append(Term(name="window", allows=status.window + status.owed - unproven, because=because))
    if status.circuit is Circuit.OPEN:
        because = f"{_fault(status)}; the next tries at {_clock(status.until)}, back-off level {status.level}"
        terms.append(Term(name="circuit", allows=0, because=because))

    waiting = [pod for pod in alive if pod.unschedulable and not _stopping(pod)]
    if waiting:
        overdue = any(_overdue(pod, now) for pod in waiting)
        allows = 0 if overdue else spec.window_initial - len(waiting)
        because = f"{len(waiting)} pods fit no node" + (", for long enough to stop asking" if overdue else "")
        terms.append(Term(name="capacity", allows=allows, because=because))
    if snapshot.deleting:
        terms.append(Term(name="drain", allows=0, because="the set is being deleted"))
    elif not snapshot.held:
        terms.append(Term(name="finalizer", allows=0, because="the set must not go before its startds are drained"))
    if snapshot.denial and _denied(snapshot, now):
        # What is reserved stays so: it is tried again when the refusal ends.
        terms.append(Term(name="api", allows=len(status.creating), because=snapshot.denial.message))
    return tuple(terms)


def _stops(snapshot: Snapshot, alive: Iterable[Pod], now: float) -> Iterable[Stop]:
    waiting = sorted((pod for pod in alive if pod.unschedulable and _overdue(pod, now)), key=lambda pod: pod.sequence)
    surplus = {pod.uid for pod in waiting[1:]}  # the oldest stays: it tells the autoscaler, and us, when there is room
    for pod in alive:
        if pod.deadline is not None:
            continue
        if snapshot.deleting or pod.requested is not None:
            yield Stop(pod=pod, reason=Reason.DRAIN, grace_seconds=snapshot.spec.drain_seconds)
        elif pod.started is None and pod.scheduled is not None and now - pod.scheduled >= snapshot.spec.start_seconds:
            yield Stop(pod=pod, reason=Reason.START)
        elif pod.uid in surplus:
            yield Stop(pod=pod, reason=Reason.CAPACITY)


def _set_actions(snapshot: Snapshot) -> Iterable[Action]:
    if snapshot.deleting and snapshot.held and not any(pod.held for pod in snapshot.pods):
        yield ReleaseSet()
    if not snapshot.deleting and not snapshot.held:
        yield HoldSet()
    if snapshot.retry:
        yield ClearRetry()


def _describe(
    snapshot: Snapshot, status: Status, alive: tuple[Pod, ...], terms: tuple[Term, ...], now: float
) -> Status:
    """The status with what a person reads; it changes only when something happens, not with every look."""
    count = Count(
        total=len(alive) + len(status.creating),
        running=sum(pod.started is not None for pod in alive),
        unproven=len(_unproven(status, alive)) + len(status.creating),
        proven=len(status.proven),
    )
    status = replace(status, startds=count, limit=_limit(snapshot.spec))
    smallest = min(terms, key=lambda term: term.allows)
    state = _state(snapshot, status, smallest, now)
    match state:
        case State.STEADY:
            because = "the limits allow no more"
        case State.PROBING:
            because = f"one tries whether there is work again, back-off level {status.level}"
        case State.RAMPING if snapshot.held:
            because = f"{count.unproven} have yet to prove that there is work, of {status.window} that may"
        case _:
            because = next((term for term in terms if term.name in {"drain", "api", "circuit"}), smallest).because
    return replace(status, state=state, message=f"{count.total} of {status.limit} startds: {because}")


def _state(snapshot: Snapshot, status: Status, smallest: Term, now: float) -> State:
    if snapshot.deleting:
        return State.DRAINING
    if snapshot.denial and _denied(snapshot, now):
        return State.INVALID if snapshot.denial.invalid else State.THROTTLED
    if status.circuit is not Circuit.CLOSED:
        return State.BACKING_OFF if status.circuit is Circuit.OPEN else State.PROBING
    if status.startds.total >= status.limit:
        return State.STEADY
    return State.THROTTLED if smallest.name == "capacity" else State.RAMPING


def _wake(snapshot: Snapshot, status: Status, alive: Iterable[Pod], now: float) -> float | None:
    """The next time at which the same pods would give another decision."""
    spec = snapshot.spec
    times = [status.until, snapshot.denial.until if snapshot.denial else None]
    for pod in alive:
        times.append(pod.ready + spec.proof_seconds if pod.ready is not None else None)
        times.append(pod.scheduled + spec.start_seconds if pod.scheduled is not None else None)
        times.append(pod.created + PROVISION_SECONDS if pod.unschedulable else None)
        times.append(pod.deadline + LOST_SECONDS if pod.deadline is not None else None)
    return min((time for time in times if time is not None and time > now), default=None)


def _limit(spec: Spec) -> int:
    """How many startds the limits of the spec allow."""
    limits = [spec.pods]
    if spec.millicores is not None and spec.size.millicores:
        limits.append(spec.millicores // spec.size.millicores)
    if spec.memory_mib is not None and spec.size.memory_mib:
        limits.append(spec.memory_mib // spec.size.memory_mib)
    return min(limits)


def _widest(spec: Spec) -> int:
    """The widest that the window may be: what is beyond the limits would only outlive the failures of whole waves."""
    return max(1, min(spec.window_maximum, _limit(spec)))


def _unproven(status: Status, alive: Iterable[Pod]) -> list[Pod]:
    proven = set(status.proven)
    return [pod for pod in alive if pod.sequence not in proven and not _stopping(pod)]


def _stopping(pod: Pod) -> bool:
    return pod.deadline is not None or pod.requested is not None


def _overdue(pod: Pod, now: float) -> bool:
    return now - pod.created >= PROVISION_SECONDS


def _denied(snapshot: Snapshot, now: float) -> bool:
    return snapshot.denial is not None and now < snapshot.denial.until


def _countable(pod: Pod, status: Status, now: float) -> bool:
    """Whether a pod may go: its outcome is in the status, or it was never ours to count."""
    if pod.held:
        return pod.uid in {uid for uid, _ in status.uncounted}
    return ended(pod, now) and pod.deadline is None


def _fault(status: Status) -> str:
    """What opened the circuit, by the last startd that failed."""
    last = next((result for result in status.recent if result.what in FAILURES or result.what is Class.TRANSIENT), None)
    if last is None or last.what is Class.NO_WORK:
        return "startds found no work"
    return f"startds failed, the last one by {last.what} ({last.reason})"


def _clock(time: float | None) -> str:
    return datetime.fromtimestamp(time or 0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
