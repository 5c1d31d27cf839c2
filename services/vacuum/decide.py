"""The one decision: from a look at a set and its pods to what to do about them. Pure, so that it can be tried out.

Three loops that do not touch each other: **payload** (a window on startds that have not proven themselves, and a
circuit breaker), **capacity** (pods that no node takes) and **disruption** (pods that somebody took away, which are
replaced and teach nothing). Only the payload loop backs off.
"""

import random
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

from services.vacuum import blame
from services.vacuum.drain import PROVISION_SECONDS, leave, overdue, stopping
from services.vacuum.evidence import LOST_SECONDS, ended, outcome
from services.vacuum.model import (
    Action,
    Bound,
    Circuit,
    Class,
    ClearRetry,
    Count,
    Create,
    Decision,
    HoldSet,
    Outcome,
    Pod,
    Release,
    ReleaseSet,
    Snapshot,
    Spec,
    State,
    Status,
    Term,
    Usage,
)
from services.vacuum.payload import Lesson, clock, fault, fresh, learn, tick, widest

RECENT = 20
# As many as a status can hold comfortably; more wait for the next turn.
UNCOUNTED_MAX = 256
# Startds that began together must not end together.
LIFETIME_SPREAD = 0.1


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
    status, ends = _count(snapshot, status, now)
    status, lessons = _blame(snapshot, status, alive, ends, now)
    status, proofs = _prove(snapshot, status, alive)
    for lesson in sorted(lessons + proofs, key=lambda lesson: (lesson.at, lesson.sequence)):
        status = learn(status, snapshot.spec, lesson, now, seed)
    status = tick(snapshot, status, now)

    unproven = _unproven(status, alive)
    status = replace(status, bounds=(*own_bounds(snapshot.spec, alive), *snapshot.bounds))
    terms = _terms(snapshot, status, alive, len(unproven), now)
    room = max(0, min(term.allows for term in terms if term.allows is not None))
    reserved = status.creating[:room]
    new = tuple(range(status.sequence + 1, status.sequence + 1 + room - len(reserved)))
    if _denied(snapshot, now):
        new = ()
    status = replace(status, sequence=status.sequence + len(new), creating=reserved + new)

    leaves = tuple(leave(snapshot, status, alive, now))
    counted = {uid for uid, _ in status.uncounted}
    status = _describe(snapshot, status, alive, len(unproven), terms, now)
    return Decision(
        actions=(
            *leaves,
            *(Release(pod=pod) for pod in snapshot.pods if _countable(pod, counted, now)),
            *_set_actions(snapshot),
            *(() if _denied(snapshot, now) else _creates(snapshot, status, unproven, now, seed)),
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
        window=min(status.window, widest(spec)),
    )
    return status if status.template == spec.template else fresh(status, spec)


def _count(snapshot: Snapshot, status: Status, now: float) -> tuple[Status, list[tuple[Pod, Outcome]]]:
    """Adds the outcomes that no status holds yet; each stays on record until its finalizer is seen gone."""
    counted = {uid for uid, _ in status.uncounted}
    ends = [pod for pod in snapshot.pods if pod.held and ended(pod, now) and pod.uid not in counted]
    ends = sorted(ends, key=lambda pod: pod.sequence)[: UNCOUNTED_MAX - len(counted)]
    outcomes = dict(status.outcomes)
    counts: list[tuple[Pod, Outcome]] = []
    proven = set(snapshot.status.proven)
    owed = status.owed
    usage = status.usage
    for pod in ends:
        result = outcome(pod, snapshot.spec, draining=snapshot.deleting, now=now)
        owed += result.what is Class.DISRUPTED and pod.sequence in proven and status.circuit is Circuit.CLOSED
        outcomes[result.what] = outcomes.get(result.what, 0) + 1
        usage = _used(usage, pod, result)
        counts.append((pod, result))
    recent = sorted((result for _, result in counts), key=lambda result: result.at, reverse=True)
    return (
        replace(
            status,
            uncounted=status.uncounted + tuple((pod.uid, pod.name) for pod in ends),
            owed=owed,
            outcomes=outcomes,
            usage=usage,
            recent=(*recent, *status.recent)[:RECENT],
        ),
        counts,
    )


def _blame(
    snapshot: Snapshot, status: Status, alive: Sequence[Pod], ends: Sequence[tuple[Pod, Outcome]], now: float
) -> tuple[Status, list[Lesson]]:
    """Tells what is a node's fault from what startds teach."""
    nodes = _nodes(snapshot)
    results = sorted((result for _, result in ends), key=lambda result: result.at)
    working = [pod.node for pod in alive if pod.ready is not None]
    memory = blame.learn(status.nodes, results, working=working, now=now)
    status = replace(status, nodes=memory, blamed=blame.blamed(memory, nodes=nodes, now=now))
    spoilt = {node.name for node in status.blamed}
    proven = set(snapshot.status.proven)
    lessons = [
        Lesson(
            at=result.at,
            sequence=pod.sequence,
            what=result.what,
            retry_after=pod.message.retry_after if pod.message else None,
        )
        for pod, result in ends
        # That an old startd had work says nothing about today's.
        if pod.template == snapshot.spec.template
        and not (result.what is Class.WORKED and pod.sequence in proven)
        and not (result.what is Class.SITE_FAULT and result.node in spoilt)
    ]
    return status, lessons


def _nodes(snapshot: Snapshot) -> int:
    """How many nodes there are; if nobody may count them, those that startds have shown."""
    if snapshot.nodes is not None:
        return snapshot.nodes
    return len({pod.node for pod in snapshot.pods if pod.node} | {node.name for node in snapshot.status.nodes})


def _used(usage: Usage, pod: Pod, result: Outcome) -> Usage:
    cores = pod.size.millicores / 1000
    message = pod.message
    return Usage(
        held={**usage.held, result.what: usage.held.get(result.what, 0) + round(cores * result.seconds)},
        busy=usage.busy + (round(cores * message.busy_seconds) if message else 0),
        lost=usage.lost + (round(cores * message.lost_seconds) if message else 0),
        cpu=usage.cpu + (round(message.cpu_seconds) if message else 0),
    )


def _prove(snapshot: Snapshot, status: Status, alive: Iterable[Pod]) -> tuple[Status, list[Lesson]]:
    """Finds the living startds that have had a real payload since the last look."""
    known = set(status.proven)
    new = [pod for pod in alive if pod.sequence not in known and not stopping(pod) and pod.ready is not None]
    lessons = [
        Lesson(at=pod.ready or 0, sequence=pod.sequence, what=Class.WORKED)
        for pod in new
        if pod.template == snapshot.spec.template
    ]
    return replace(status, proven=status.proven + tuple(sorted(pod.sequence for pod in new))), lessons


def own_bounds(spec: Spec, alive: Sequence[Pod]) -> Iterable[Bound]:
    """What the spec itself limits; startds of an older template may be of another size."""
    yield Bound(name="pods", startds=spec.pods, because=f"limits.pods {spec.pods}")
    for name, limit, used, one in (
        ("cores", spec.millicores, sum(pod.size.millicores for pod in alive), spec.size.millicores),
        ("memoryMib", spec.memory_mib, sum(pod.size.memory_mib for pod in alive), spec.size.memory_mib),
    ):
        if limit is not None:
            scale = 1000 if name == "cores" else 1
            because = f"{used / scale:g} of limits.{name} {limit / scale:g} in use, {one / scale:g} a startd"
            yield Bound(name=name, startds=len(alive) + (limit - used) // one if one else 0, because=because)


def _creates(snapshot: Snapshot, status: Status, unproven: Sequence[Pod], now: float, seed: int) -> Iterable[Create]:
    avoid = snapshot.avoid | {node.name for node in status.blamed}
    if status.circuit is Circuit.HALF_OPEN:
        # The emptiest node is the one where all have failed.
        avoid |= blame.suspected(status.nodes, _nodes(snapshot))
    trial = blame.on_trial(status.nodes, now)
    busy = {pod.node for pod in unproven}
    for number in status.creating:
        yield Create(
            sequence=number,
            avoid=tuple(sorted(avoid | (trial & busy))),
            lifetime=_lifetime(snapshot.spec, number, seed),
        )
        busy |= trial  # one startd at a time finds out


def _lifetime(spec: Spec, sequence: int, seed: int) -> int | None:
    if spec.lifetime is None:
        return None
    spread = random.Random(f"{seed} {sequence}").uniform(1 - LIFETIME_SPREAD, 1)  # noqa: S311  guards nothing
    return round(spec.lifetime * spread)


def _terms(snapshot: Snapshot, status: Status, alive: tuple[Pod, ...], unproven: int, now: float) -> tuple[Term, ...]:
    """All that bounds the number of pods to be made, those included that are reserved but not seen."""
    spec = snapshot.spec
    terms = [
        Term(
            name=bound.name,
            allows=None if bound.startds is None else bound.startds - len(alive),
            because=f"{bound.because} (stale)" if bound.stale else bound.because,
        )
        for bound in status.bounds
    ]

    because = f"{unproven} unproven, of {status.window} that may be"
    if status.owed:
        because += f" and {status.owed} in place of startds that were taken away at work"
    terms.append(Term(name="window", allows=status.window + status.owed - unproven, because=because))
    if status.circuit is Circuit.OPEN:
        because = f"{fault(status)}; the next tries at {clock(status.until)}, back-off level {status.level}"
        terms.append(Term(name="circuit", allows=0, because=because))

    waiting = [pod for pod in alive if pod.unschedulable and not stopping(pod)]
    if waiting:
        late = any(overdue(pod, now) for pod in waiting)
        allows = 0 if late else spec.window_initial - len(waiting)
        because = f"{len(waiting)} pods fit no node" + (", for long enough to stop asking" if late else "")
        terms.append(Term(name="capacity", allows=allows, because=because))
    if snapshot.deleting:
        terms.append(Term(name="drain", allows=0, because="the set is being deleted"))
    elif not snapshot.held:
        terms.append(Term(name="finalizer", allows=0, because="the set must not go before its startds are drained"))
    if snapshot.denial and _denied(snapshot, now):
        # What is reserved stays so: it is tried again when the refusal ends.
        terms.append(Term(name="api", allows=len(status.creating), because=snapshot.denial.message))
    return tuple(terms)


def _set_actions(snapshot: Snapshot) -> Iterable[Action]:
    if snapshot.deleting and snapshot.held and not any(pod.held for pod in snapshot.pods):
        yield ReleaseSet()
    if not snapshot.deleting and not snapshot.held:
        yield HoldSet()
    if snapshot.retry:
        yield ClearRetry()


def _describe(
    snapshot: Snapshot, status: Status, alive: tuple[Pod, ...], unproven: int, terms: tuple[Term, ...], now: float
) -> Status:
    """The status with what a person reads; it changes only when something happens, not with every look."""
    count = Count(
        total=len(alive) + len(status.creating),
        running=sum(pod.started is not None for pod in alive),
        unproven=unproven + len(status.creating),
        proven=len(status.proven),
    )
    limit, ruling = min((bound.startds, bound.because) for bound in status.bounds if bound.startds is not None)
    # A set may have more than a bound allows: nothing is stopped for a number.
    status = replace(status, startds=count, limit=max(0, limit))
    smallest = min((term for term in terms if term.allows is not None), key=lambda term: term.allows or 0)
    state = _state(snapshot, status, smallest, now)
    match state:
        case State.STEADY:
            because = f"no more by {ruling}"
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
    times = [*(node.until for node in status.blamed), status.until, snapshot.denial.until if snapshot.denial else None]
    for pod in alive:
        times.append(pod.scheduled + spec.start_seconds if pod.scheduled is not None else None)
        times.append(pod.created + PROVISION_SECONDS if pod.unschedulable else None)
        times.append(pod.deadline + LOST_SECONDS if pod.deadline is not None else None)
    return min((time for time in times if time is not None and time > now), default=None)


def _unproven(status: Status, alive: Iterable[Pod]) -> list[Pod]:
    proven = set(status.proven)
    return [pod for pod in alive if pod.sequence not in proven and not stopping(pod)]


def _denied(snapshot: Snapshot, now: float) -> bool:
    return snapshot.denial is not None and now < snapshot.denial.until


def _countable(pod: Pod, counted: Set[str], now: float) -> bool:
    """Whether a pod may go: its outcome is in the status, or it was never ours to count."""
    if pod.held:
        return pod.uid in counted
    return ended(pod, now) and pod.deadline is None
