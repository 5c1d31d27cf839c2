"""Which startds are to go, and how. Pure.

A startd that has work is never stopped for the sake of a number: limits, shares and windows only keep new ones from
being made. What ends one is its set's deletion, a person, a newer template, its node's pool, or that it never began.
"""

from collections.abc import Iterable, Sequence

from services.vacuum.model import (
    Action,
    Circuit,
    DeletionPolicy,
    DrainMode,
    Orphan,
    Pod,
    Reason,
    Retire,
    Snapshot,
    Status,
    Stop,
    UpdatePolicy,
)

# Longer than the fifteen minutes that the cluster autoscaler gives a new node to come.
PROVISION_SECONDS = 1200.0
# What a startd that must go at once is given to say goodbye to the pool.
FAST_SECONDS = 60
# With none, the API server would not wait for the node to say that the startd is gone.
KILL_SECONDS = 1


def stopping(pod: Pod) -> bool:
    """Whether it is on its way out."""
    return pod.deadline is not None or pod.requested is not None


def overdue(pod: Pod, now: float) -> bool:
    """Whether a pod that fits no node has waited for longer than a new node takes to come."""
    return now - pod.created >= PROVISION_SECONDS


def leave(snapshot: Snapshot, status: Status, alive: Sequence[Pod], now: float) -> Iterable[Action]:
    """What is done to startds that are to go."""
    if snapshot.deleting:
        yield from _with_the_set(snapshot, alive, now)
        return
    waiting = sorted((pod for pod in alive if pod.unschedulable and overdue(pod, now)), key=lambda pod: pod.sequence)
    surplus = {pod.uid for pod in waiting[1:]}  # the oldest stays: it tells the autoscaler, and us, when there is room
    for pod in alive:
        if pod.deadline is not None:
            continue
        if pod.requested is not None and pod.requested != Reason.PEACEFUL:
            yield Stop(pod=pod, reason=Reason.DRAIN, grace_seconds=snapshot.spec.drain_seconds)
        elif pod.started is None and pod.scheduled is not None and now - pod.scheduled >= snapshot.spec.start_seconds:
            yield Stop(pod=pod, reason=Reason.START)
        elif pod.uid in surplus:
            yield Stop(pod=pod, reason=Reason.CAPACITY)
        elif pod.node in snapshot.retiring and pod.requested is None:
            yield Retire(pod=pod)
    yield from _of_old_template(snapshot, status, alive)


def _with_the_set(snapshot: Snapshot, alive: Sequence[Pod], now: float) -> Iterable[Action]:
    spec = snapshot.spec
    if spec.deletion is DeletionPolicy.ORPHAN:
        yield from (Orphan(pod=pod) for pod in alive if pod.held)
        return
    grace = spec.drain_seconds
    if spec.drain_mode is DrainMode.FAST:
        grace = min(grace, FAST_SECONDS)
    if spec.deletion is DeletionPolicy.KILL:
        grace = KILL_SECONDS
    for pod in alive:
        # A deletion that somebody asked for earlier, with more time, is shortened: so the set need not wait for it,
        # though the kubelet goes by the time that it heard first (kubernetes/kubernetes#83916).
        if pod.deadline is None or pod.deadline > now + grace + 1:
            yield Stop(pod=pod, reason=Reason.DRAIN, grace_seconds=grace)


def _of_old_template(snapshot: Snapshot, status: Status, alive: Sequence[Pod]) -> Iterable[Retire]:
    """Startds of an old template, as many as new ones may be unproven: a template that does not work replaces few."""
    if snapshot.spec.update is not UpdatePolicy.DRAIN or status.circuit is not Circuit.CLOSED:
        return
    proven = set(status.proven)
    old = [pod for pod in alive if pod.template != snapshot.spec.template]
    leaving = sum(stopping(pod) for pod in old)
    unproven = sum(pod.template == snapshot.spec.template and pod.sequence not in proven for pod in alive)
    room = status.window - leaving - unproven - len(status.creating)
    staying = sorted(
        (pod for pod in old if not stopping(pod) and pod.node not in snapshot.retiring), key=lambda pod: pod.sequence
    )
    yield from (Retire(pod=pod) for pod in staying[: max(0, room)])
