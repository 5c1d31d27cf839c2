"""What `decide` promises on whatever it is shown."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings, strategies as st

from services.vacuum.decide import decide
from services.vacuum.drain import FAST_SECONDS, KILL_SECONDS, PROVISION_SECONDS
from services.vacuum.evidence import ended
from services.vacuum.model import (
    OUTCOME_FINALIZER,
    Bound,
    Circuit,
    Class,
    ClearRetry,
    Create,
    Decision,
    DeletionPolicy,
    Denial,
    DrainMode,
    HoldSet,
    Message,
    Orphan,
    Pod,
    Reason,
    Release,
    ReleaseSet,
    Retire,
    Size,
    Snapshot,
    Spec,
    State,
    Status,
    Stop,
    UpdatePolicy,
    Usage,
)
from services.vacuum.payload import JITTER, PATIENCE, RETRY_MIN_SECONDS, widest

pytestmark = pytest.mark.fast
thorough = settings(deadline=None, max_examples=40)

NOW = 100_000.0
times = st.floats(min_value=NOW - 5000, max_value=NOW).map(round).map(float)
maybe = st.none() | times
sizes = st.builds(Size, millicores=st.sampled_from([1000, 8000]), memory_mib=st.sampled_from([2000, 16000]))
specs = st.builds(
    Spec,
    template=st.sampled_from(["old", "new"]),
    size=sizes,
    pods=st.integers(0, 40),
    millicores=st.none() | st.integers(0, 200_000),
    memory_mib=st.none() | st.integers(0, 400_000),
    window_initial=st.integers(1, 6),
    window_maximum=st.none() | st.integers(6, 30),
    window_growth=st.integers(1, 4),
    drain_mode=st.sampled_from(DrainMode),
    update=st.sampled_from(UpdatePolicy),
    deletion=st.sampled_from(DeletionPolicy),
    lifetime=st.none() | st.integers(1000, 2000),
)

messages = st.builds(Message, code=st.sampled_from([100, 200, 300, 400, 500, 700]), reason=st.just("r"))


@st.composite
def pods(draw: st.DrawFn, sequence: int) -> Pod:
    phase = draw(st.sampled_from(["Pending", "Running", "Running", "Succeeded", "Failed"]))
    scheduled = draw(times) if phase != "Pending" else draw(maybe)
    started = None if scheduled is None or phase == "Pending" else draw(times)
    return Pod(
        name=f"s-{sequence}",
        uid=f"uid-{sequence}",
        sequence=sequence,
        template=draw(st.sampled_from(["old", "new"])),
        size=draw(sizes),
        created=draw(times),
        phase=phase,
        scheduled=scheduled,
        unschedulable=scheduled is None and draw(st.booleans()),
        started=started,
        ready=draw(maybe) if phase == "Running" else None,
        finished=draw(times) if phase in {"Succeeded", "Failed"} else None,
        deadline=draw(st.none() | st.just(NOW + 60) | times),
        requested=draw(st.sampled_from([None, None, None, Reason.DRAIN, Reason.PEACEFUL])),
        disruption=draw(st.sampled_from([None, None, "EvictionByEvictionAPI"])),
        finalizers=draw(st.sampled_from([(OUTCOME_FINALIZER,), (OUTCOME_FINALIZER, "other"), ()])),
        message=draw(st.none() | messages),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    numbers = draw(st.lists(st.integers(1, 30), unique=True, max_size=14))
    made = [draw(pods(number)) for number in numbers]
    circuit = draw(st.sampled_from([Circuit.CLOSED, *Circuit]))
    counted = draw(st.lists(st.sampled_from(made), unique_by=lambda pod: pod.uid)) if made else []
    status = Status(
        template=draw(st.sampled_from(["old", "new", ""])),
        sequence=draw(st.integers(max(numbers, default=0), 40)),
        creating=tuple(draw(st.lists(st.integers(31, 40), unique=True, max_size=4))),
        proven=tuple(draw(st.lists(st.sampled_from(numbers), unique=True)) if numbers else ()),
        uncounted=tuple((pod.uid, pod.name) for pod in counted if ended(pod, NOW)),
        window=1 if circuit is not Circuit.CLOSED else draw(st.integers(1, 40)),
        owed=0 if circuit is not Circuit.CLOSED else draw(st.integers(0, 10)),
        cut=draw(st.integers(0, 30)),
        failures=draw(st.integers(0, 5)),
        circuit=circuit,
        level=draw(st.integers(0, 8)),
        until=draw(times | st.just(NOW + 300)) if circuit is Circuit.OPEN else None,
    )
    return Snapshot(
        name="s",
        spec=draw(specs),
        status=status,
        pods=tuple(made),
        deleting=draw(st.integers(0, 5)) == 0,
        retry=draw(st.booleans()),
        held=draw(st.integers(0, 5)) > 0,
    )


def made_by(decision: Decision) -> int:
    return sum(isinstance(action, Create) for action in decision.actions)


def living(snapshot: Snapshot) -> list[Pod]:
    return [pod for pod in snapshot.pods if not ended(pod, NOW)]


@thorough
@given(snapshots(), st.integers())
def test_it_never_makes_a_startd_beyond_a_limit(snapshot: Snapshot, seed: int) -> None:
    made, alive, spec = made_by(decide(snapshot, NOW, seed)), living(snapshot), snapshot.spec
    if not made:
        return
    assert len(alive) + made <= spec.pods
    if spec.millicores is not None:
        assert sum(pod.size.millicores for pod in alive) + made * spec.size.millicores <= spec.millicores
    if spec.memory_mib is not None:
        assert sum(pod.size.memory_mib for pod in alive) + made * spec.size.memory_mib <= spec.memory_mib


@thorough
@given(snapshots(), st.integers())
def test_no_more_startds_are_unproven_than_the_window_lets_be(snapshot: Snapshot, seed: int) -> None:
    decision = decide(snapshot, NOW, seed)
    if not made_by(decision):
        return
    staying = [pod for pod in living(snapshot) if pod.requested is None and pod.deadline is None]
    unproven = [pod for pod in staying if pod.sequence not in decision.status.proven]
    assert len(unproven) + made_by(decision) <= decision.status.window + decision.status.owed
    assert decision.status.window <= widest(snapshot.spec)


@thorough
@given(snapshots(), st.integers())
def test_nothing_is_made_while_the_circuit_is_open(snapshot: Snapshot, seed: int) -> None:
    decision = decide(snapshot, NOW, seed)
    if decision.status.circuit is Circuit.OPEN:
        assert made_by(decision) == 0
        assert decision.status.until is not None
        assert decision.status.until > NOW


@thorough
@given(snapshots(), st.integers())
def test_nothing_at_all_is_done_while_blind(snapshot: Snapshot, seed: int) -> None:
    decision = decide(replace(snapshot, blind=True), NOW, seed)
    assert decision.actions == ()
    assert decision.status == replace(snapshot.status, state=State.BLIND, message=decision.status.message)


@thorough
@given(snapshots(), st.integers())
def test_an_outcome_is_counted_once_and_before_its_pod_may_go(snapshot: Snapshot, seed: int) -> None:
    decision = decide(snapshot, NOW, seed)
    before, after = snapshot.status, decision.status
    fresh = {pod.uid for pod in snapshot.pods if pod.held and ended(pod, NOW)} - {uid for uid, _ in before.uncounted}
    assert sum(after.outcomes.values()) == sum(before.outcomes.values()) + len(fresh)
    on_record = {uid for uid, _ in after.uncounted}
    assert fresh <= on_record
    released = {action.pod.uid for action in decision.actions if isinstance(action, Release) and action.pod.held}
    assert released == on_record


@thorough
@given(snapshots(), st.integers())
def test_limits_are_monotone(snapshot: Snapshot, seed: int) -> None:
    spec = snapshot.spec
    higher = replace(
        spec,
        pods=spec.pods + 3,
        millicores=None if spec.millicores is None else spec.millicores + 8000,
        memory_mib=None if spec.memory_mib is None else spec.memory_mib + 16000,
    )
    assert made_by(decide(replace(snapshot, spec=higher), NOW, seed)) >= made_by(decide(snapshot, NOW, seed))


@thorough
@given(snapshots(), st.integers())
def test_only_a_drain_a_start_that_failed_and_a_full_cluster_stop_a_startd(snapshot: Snapshot, seed: int) -> None:
    for action in decide(snapshot, NOW, seed).actions:
        if isinstance(action, Stop) and not snapshot.deleting and action.pod.requested is None:
            late = action.pod.scheduled is not None and NOW - action.pod.scheduled > snapshot.spec.start_seconds
            old = action.pod.unschedulable and NOW - action.pod.created > PROVISION_SECONDS
            assert action.pod.started is None
            assert late or old


@thorough
@given(snapshots(), st.integers())
def test_the_same_look_gives_the_same_decision(snapshot: Snapshot, seed: int) -> None:
    assert decide(snapshot, NOW, seed) == decide(snapshot, NOW, seed)


def carried_out(snapshot: Snapshot, decision: Decision) -> Snapshot:
    """The snapshot that the API server would show next, with nothing else happening."""
    made = [
        Pod(
            name=f"s-{action.sequence}",
            uid=f"uid-{action.sequence}",
            sequence=action.sequence,
            template=snapshot.spec.template,
            size=snapshot.spec.size,
            created=NOW,
        )
        for action in decision.actions
        if isinstance(action, Create)
    ]
    stopped = {action.pod.uid: action.reason for action in decision.actions if isinstance(action, Stop)}
    gone = {action.pod.uid for action in decision.actions if isinstance(action, Release)}
    retired = {action.pod.uid for action in decision.actions if isinstance(action, Retire)}
    orphaned = {action.pod.uid for action in decision.actions if isinstance(action, Orphan)}
    left = [
        replace(
            pod,
            requested=Reason.PEACEFUL if pod.uid in retired else pod.requested,
            finalizers=() if pod.uid in orphaned else pod.finalizers,
        )
        for pod in snapshot.pods
        if pod.uid not in gone
    ]
    return replace(
        snapshot,
        status=decision.status,
        pods=(
            *(pod for pod in left if pod.uid not in stopped),
            *(replace(pod, requested=stopped[pod.uid], deadline=NOW + 60) for pod in left if pod.uid in stopped),
            *made,
        ),
        retry=snapshot.retry and not any(isinstance(action, ClearRetry) for action in decision.actions),
        held=snapshot.held or any(isinstance(action, HoldSet) for action in decision.actions),
    )


@thorough
@given(snapshots(), st.integers())
def test_once_carried_out_there_is_nothing_more_to_do(snapshot: Snapshot, seed: int) -> None:
    snapshot = replace(snapshot, deleting=False)
    decision = decide(snapshot, NOW, seed)
    # The finalizer comes before the first startd, and a pod that is stopped without a node ends at once: more turns.
    for _ in range(2):
        snapshot = carried_out(snapshot, decision)
        decision = decide(snapshot, NOW, seed)
    snapshot = carried_out(snapshot, decision)
    again = decide(snapshot, NOW, seed)
    assert again.actions == ()
    assert again.status == replace(decision.status, creating=(), uncounted=(), message=again.status.message)


@thorough
@given(snapshots(), st.integers())
def test_a_set_that_is_deleted_comes_to_its_end(snapshot: Snapshot, seed: int) -> None:
    snapshot = replace(snapshot, deleting=True, held=True)
    for _ in range(4):
        decision = decide(snapshot, NOW, seed)
        assert made_by(decision) == 0
        if any(isinstance(action, ReleaseSet) for action in decision.actions):
            break
        snapshot = carried_out(snapshot, decision)
        snapshot = replace(
            snapshot, pods=tuple(replace(pod, phase="Failed") if pod.deadline else pod for pod in snapshot.pods)
        )
    else:
        pytest.fail("the set is never released")
    assert not any(pod.held for pod in snapshot.pods)


@thorough
@given(specs, st.integers(1, 50), st.integers())
def test_it_always_probes_again_and_never_later_than_the_cap(spec: Spec, level: int, seed: int) -> None:
    assume(spec.pods > 0)
    spec = replace(spec, template="new", millicores=None, memory_mib=None)
    failed = Pod(
        name="s-9",
        uid="9",
        sequence=9,
        template="new",
        created=NOW,
        phase="Failed",
        scheduled=NOW,
        started=NOW,
        finished=NOW,
        message=Message(code=300, reason="NoWork"),
    )
    status = Status(template="new", sequence=9, window=1, cut=8, circuit=Circuit.HALF_OPEN, level=level)
    opened = decide(Snapshot(name="s", spec=spec, status=status, pods=(failed,)), NOW, seed)
    assert opened.status.circuit is Circuit.OPEN
    # It goes on by one, up to the level at which the pause is at its cap.
    assert 1 <= opened.status.level <= level + 1
    assert opened.status.level == level + 1 or spec.backoff_base * 2 ** (opened.status.level - 1) >= spec.backoff_cap
    until = opened.status.until
    assert until is not None
    assert NOW + spec.backoff_base * (1 - JITTER) <= until <= NOW + spec.backoff_cap * (1 + JITTER)
    assert opened.wake == until
    probing = decide(Snapshot(name="s", spec=spec, status=opened.status), until, seed)
    assert probing.status.circuit is Circuit.HALF_OPEN
    assert made_by(probing) == 1


def fail(number: int, code: int, **more: object) -> Pod:
    base = Pod(
        name=f"s-{number}",
        uid=str(number),
        sequence=number,
        template="new",
        created=NOW - 100,
        phase="Failed",
        scheduled=NOW - 100,
        started=NOW - 90,
        finished=NOW - 10,
        message=Message(code=code, reason="r"),
    )
    return replace(base, **more)  # type: ignore[arg-type]


SPEC = Spec(template="new", size=Size(), pods=100)
CLOSED = Status(template="new", sequence=20, window=16)


def learned(status: Status, *seen: Pod, spec: Spec = SPEC) -> Status:
    return decide(Snapshot(name="s", spec=spec, status=status, pods=seen), NOW, 0).status


def test_a_wave_that_fails_halves_the_window_once() -> None:
    status = learned(CLOSED, fail(1, 300), fail(2, 300), fail(3, 300))
    assert (status.window, status.circuit) == (8, Circuit.CLOSED)


def test_failures_without_a_proof_between_open_the_circuit() -> None:
    status = learned(CLOSED, *(fail(number, 300) for number in range(1, 9)))
    assert (status.window, status.circuit, status.level) == (1, Circuit.OPEN, 1)


def test_what_opened_the_circuit_is_told() -> None:
    idle = learned(CLOSED, *(fail(number, 300) for number in range(1, 9)))
    assert "startds found no work; the next tries at" in idle.message
    faulty = learned(CLOSED, *(fail(number, 600) for number in range(1, 9)))
    assert "startds failed, the last one by GridFault (r); the next tries at" in faulty.message


def test_a_site_that_is_banned_stops_at_once() -> None:
    assert learned(CLOSED, fail(1, 400)).circuit is Circuit.OPEN


@pytest.mark.parametrize("circuit", list(Circuit))
@pytest.mark.parametrize("code", [300, 700])
def test_a_disruption_teaches_nothing(circuit: Circuit, code: int) -> None:
    before = replace(CLOSED, circuit=circuit, window=4, level=2, until=NOW + 9 if circuit is Circuit.OPEN else None)
    status = learned(before, *(fail(n, code, disruption="DeletionByTaintManager") for n in range(1, 20)))
    assert (status.circuit, status.level, status.window) == (circuit, 2, 4)
    assert status.outcomes == {Class.DISRUPTED: 19}


def test_startds_that_are_taken_away_at_work_are_replaced_at_once_beside_the_window() -> None:
    status = replace(CLOSED, sequence=60, window=4, proven=tuple(range(1, 51)))
    taken = [fail(number, 700, disruption="DeletionByTaintManager") for number in range(1, 41)]
    staying = [fail(number, 700, phase="Running", finished=None, message=None) for number in range(41, 51)]
    lost = decide(Snapshot(name="s", spec=SPEC, status=status, pods=(*taken, *staying)), NOW, 0)
    assert (made_by(lost), lost.status.owed, lost.status.circuit) == (44, 40, Circuit.CLOSED)
    again = decide(Snapshot(name="s", spec=SPEC, status=lost.status, pods=(*taken, *staying)), NOW, 0)
    assert (made_by(again), again.status.owed) == (44, 40)


def test_a_startd_that_was_taken_away_before_its_proof_was_in_the_window_and_leaves_its_place_there() -> None:
    lost = decide(
        Snapshot(name="s", spec=SPEC, status=CLOSED, pods=(fail(1, 700, disruption="DeletionByTaintManager"),)), NOW, 0
    )
    assert (made_by(lost), lost.status.owed) == (16, 0)


def test_what_replaces_them_proves_itself_or_the_window_rules_again() -> None:
    owing = replace(CLOSED, window=4, owed=40)
    assert learned(owing, fail(21, 200, phase="Succeeded")).owed == 39
    assert learned(owing, fail(21, 300)).owed == 0


def test_the_window_is_never_wider_than_the_limits() -> None:
    small = replace(SPEC, pods=6)
    wave = [fail(number, 200, phase="Succeeded") for number in range(1, 5)]
    assert learned(replace(CLOSED, window=5), *wave, spec=small).window == 6


def test_deaths_without_a_reason_count_only_when_they_are_many() -> None:
    assert learned(CLOSED, *(fail(number, 700) for number in range(1, 10))).circuit is Circuit.CLOSED
    assert learned(CLOSED, *(fail(number, 700) for number in range(1, 11))).circuit is Circuit.OPEN


def test_a_proof_multiplies_the_window_over_a_wave_up_to_its_maximum() -> None:
    wave = [fail(number, 200, phase="Succeeded") for number in range(1, 5)]
    assert learned(replace(CLOSED, window=4), *wave).window == 16
    assert learned(replace(CLOSED, window=20), *wave).window == 25 == widest(SPEC)
    assert learned(replace(CLOSED, window=60), *wave, spec=replace(SPEC, window_maximum=64)).window == 64


def test_a_startd_proves_itself_once() -> None:
    running = fail(1, 700, phase="Running", ready=NOW - 5, finished=None, message=None)
    once = learned(CLOSED, running)
    assert (once.window, once.proven) == (19, (1,))
    assert learned(once, running).window == 19
    assert learned(once, fail(1, 200, phase="Succeeded")).window == 19


def test_a_proof_closes_the_circuit() -> None:
    status = learned(replace(CLOSED, circuit=Circuit.HALF_OPEN, window=1, level=3), fail(1, 200))
    assert (status.circuit, status.window) == (Circuit.CLOSED, SPEC.window_initial)


def test_the_old_wave_does_not_decide_about_the_probe() -> None:
    status = learned(replace(CLOSED, circuit=Circuit.HALF_OPEN, window=1, level=1, cut=10), fail(9, 300))
    assert status.circuit is Circuit.HALF_OPEN
    assert learned(status, fail(11, 300)).circuit is Circuit.OPEN


def test_a_new_template_starts_afresh_and_leaves_the_old_startds_alone() -> None:
    before = replace(CLOSED, circuit=Circuit.OPEN, until=NOW + 500, level=4, window=1)
    old = fail(20, 300, phase="Running", finished=None, message=None)
    decision = decide(Snapshot(name="s", spec=replace(SPEC, template="newer"), status=before, pods=(old,)), NOW, 0)
    assert (decision.status.circuit, decision.status.level) == (Circuit.CLOSED, 0)
    assert [type(action) for action in decision.actions] == [Create] * 3


def test_retry_now_probes_at_once() -> None:
    before = replace(CLOSED, circuit=Circuit.OPEN, until=NOW + 500, level=4, window=1)
    decision = decide(Snapshot(name="s", spec=SPEC, status=before, retry=True), NOW, 0)
    assert (decision.status.circuit, decision.status.level) == (Circuit.HALF_OPEN, 0)
    assert decision.actions == (ClearRetry(), Create(sequence=21))


@pytest.mark.parametrize(
    ("code", "what"), [(300, Class.NO_WORK), (500, Class.SITE_FAULT), (600, Class.GRID_FAULT), (400, Class.BANNED)]
)
def test_each_kind_of_failure_has_its_own_patience(code: int, what: Class) -> None:
    probing = replace(CLOSED, circuit=Circuit.HALF_OPEN, window=1)
    first, most = PATIENCE[what]
    sooner, later = learned(probing, fail(21, code)), learned(replace(probing, level=30), fail(21, code))
    assert 1 - JITTER <= ((sooner.until or 0) - NOW) / (first * SPEC.backoff_base) <= 1 + JITTER
    assert 1 - JITTER <= ((later.until or 0) - NOW) / (most * SPEC.backoff_cap) <= 1 + JITTER


@pytest.mark.parametrize(("said", "least", "most"), [(5, RETRY_MIN_SECONDS, RETRY_MIN_SECONDS), (900, 900, 900)])
def test_when_the_pool_says_when_to_come_again_that_is_the_pause(said: float, least: float, most: float) -> None:
    probing = replace(CLOSED, circuit=Circuit.HALF_OPEN, window=1)
    until = learned(probing, fail(21, 300, message=Message(code=300, reason="r", retry_after=said))).until
    assert least <= (until or 0) - NOW <= most * (1 + JITTER)


def test_a_pool_that_never_wants_to_see_us_again_is_asked_at_the_cap() -> None:
    probing = replace(CLOSED, circuit=Circuit.HALF_OPEN, window=1)
    until = learned(probing, fail(21, 300, message=Message(code=300, reason="r", retry_after=1e9))).until
    assert SPEC.backoff_cap <= (until or 0) - NOW <= SPEC.backoff_cap * (1 + JITTER)


def test_core_seconds_are_kept_by_what_became_of_the_startd() -> None:
    size = Size(millicores=8000)
    worked = Message(code=200, reason="Worked", busy_seconds=60, lost_seconds=5, cpu_seconds=420)
    usage = learned(CLOSED, fail(1, 200, size=size, message=worked), fail(2, 300, size=size)).usage
    assert usage == Usage(held={Class.WORKED: 640, Class.NO_WORK: 640}, busy=480, lost=40, cpu=420)


@thorough
@given(snapshots(), st.integers())
def test_a_bound_that_is_known_holds_and_one_that_is_not_rules_nothing(snapshot: Snapshot, seed: int) -> None:
    unknown = replace(snapshot, bounds=(Bound(name="nodes", startds=None, because="nobody knows"),))
    assert decide(unknown, NOW, seed).actions == decide(snapshot, NOW, seed).actions
    known = replace(snapshot, bounds=(Bound(name="nodes", startds=5, because="five fit"),))
    made = made_by(decide(known, NOW, seed))
    assert made == 0 or len(living(snapshot)) + made <= 5


def test_a_thousand_startds_are_proven_in_seven_waves() -> None:
    snapshot, waves = Snapshot(name="s", spec=replace(SPEC, pods=1000), status=Status()), 0
    while len(snapshot.status.proven) < 1000:
        snapshot = carried_out(snapshot, decide(snapshot, NOW, 0))
        waves += 1
        proven = tuple(replace(pod, phase="Running", scheduled=NOW, started=NOW, ready=NOW) for pod in snapshot.pods)
        snapshot = replace(snapshot, pods=proven)
        snapshot = replace(snapshot, status=decide(snapshot, NOW, 0).status)
        snapshot = replace(snapshot, status=replace(snapshot.status, creating=()))
    assert waves <= 7


def test_lifetimes_are_spread_so_that_startds_do_not_end_together() -> None:
    mortal = replace(SPEC, lifetime=1000)
    actions = decide(Snapshot(name="s", spec=mortal, status=CLOSED), NOW, 0).actions
    lifetimes = {action.lifetime for action in actions if isinstance(action, Create)}
    assert len(lifetimes) > 10
    assert all(900 <= (lifetime or 0) <= 1000 for lifetime in lifetimes)


def running(number: int, **more: object) -> Pod:
    return fail(number, 700, **{"phase": "Running", "finished": None, "message": None, **more})


ROLLING = replace(SPEC, template="newer", update=UpdatePolicy.DRAIN, pods=40)


def retired(snapshot: Snapshot) -> list[int]:
    return [action.pod.sequence for action in decide(snapshot, NOW, 0).actions if isinstance(action, Retire)]


def test_a_new_template_drains_the_old_startds_few_at_a_time_and_more_as_the_new_ones_prove_themselves() -> None:
    old = [running(number) for number in range(1, 21)]
    status = replace(CLOSED, template="newer", window=4, proven=tuple(range(1, 21)))
    full = replace(ROLLING, pods=20, window_maximum=5)
    assert retired(Snapshot(name="s", spec=full, status=status, pods=tuple(old))) == [1, 2, 3, 4]
    leaving = [running(number, requested=Reason.PEACEFUL) for number in range(1, 5)]
    assert retired(Snapshot(name="s", spec=full, status=status, pods=(*leaving, *old[4:]))) == []
    new = [running(number, template="newer") for number in range(21, 25)]
    assert retired(Snapshot(name="s", spec=full, status=status, pods=(*new, *old[4:]))) == []
    proven = [replace(pod, ready=NOW - 5) for pod in new]
    assert retired(Snapshot(name="s", spec=full, status=status, pods=(*proven, *old[4:]))) == [5, 6, 7, 8, 9]


def test_a_new_template_that_does_not_work_leaves_the_old_startds_alone() -> None:
    old = tuple(running(number) for number in range(1, 21))
    broken = replace(CLOSED, template="newer", circuit=Circuit.OPEN, until=NOW + 500, level=1, window=1)
    assert retired(Snapshot(name="s", spec=ROLLING, status=broken, pods=old)) == []
    assert retired(Snapshot(name="s", spec=replace(ROLLING, update=UpdatePolicy.ON_FINISH), pods=old)) == []


def test_startds_on_nodes_that_are_to_become_empty_end_their_payloads_and_leave_and_are_replaced() -> None:
    pods = tuple(running(number, node="old" if number <= 3 else "new", ready=NOW - 5) for number in range(1, 6))
    status = replace(CLOSED, proven=tuple(range(1, 6)))
    snapshot = Snapshot(name="s", spec=replace(SPEC, pods=5), status=status, pods=pods, retiring=frozenset({"old"}))
    assert retired(snapshot) == [1, 2, 3]
    asked = tuple(replace(pod, requested=Reason.PEACEFUL) if pod.node == "old" else pod for pod in pods)
    assert retired(replace(snapshot, pods=asked)) == []
    assert retired(replace(snapshot, blind=True)) == []


def test_a_startd_that_left_in_peace_is_judged_by_what_it_did() -> None:
    assert learned(CLOSED, fail(1, 200, requested=Reason.PEACEFUL)).outcomes == {Class.WORKED: 1}
    assert learned(CLOSED, fail(1, 200, requested=Reason.DRAIN)).outcomes == {Class.REQUESTED: 1}


@pytest.mark.parametrize(
    ("more", "grace"),
    [
        ({}, 3600),
        ({"drain_mode": DrainMode.FAST}, FAST_SECONDS),
        ({"deletion": DeletionPolicy.KILL}, KILL_SECONDS),
        ({"drain_mode": DrainMode.FAST, "drain_seconds": 10}, 10),
    ],
)
def test_a_set_that_is_deleted_ends_its_startds_as_it_says(more: dict[str, object], grace: int) -> None:
    spec = replace(SPEC, **more)  # type: ignore[arg-type]
    pods = (running(1), running(2, deadline=NOW + 9000, requested=Reason.DRAIN), running(3, deadline=NOW))
    decision = decide(Snapshot(name="s", spec=spec, status=CLOSED, pods=pods, deleting=True), NOW, 0)
    stops = [action for action in decision.actions if isinstance(action, Stop)]
    assert [(stop.pod.sequence, stop.grace_seconds) for stop in stops] == [(1, grace), (2, grace)]


def test_a_set_that_is_deleted_may_leave_its_startds_behind() -> None:
    spec = replace(SPEC, deletion=DeletionPolicy.ORPHAN)
    snapshot = Snapshot(name="s", spec=spec, status=CLOSED, pods=(running(1), fail(2, 200)), deleting=True)
    decision = decide(snapshot, NOW, 0)
    assert [
        (type(action), action.pod.sequence) for action in decision.actions if isinstance(action, Orphan | Stop)
    ] == [(Orphan, 1)]
    assert decision.status.outcomes == {Class.WORKED: 1}
    assert ReleaseSet() in decide(carried_out(snapshot, decision), NOW, 0).actions


def waiting(number: int, age: float) -> Pod:
    return Pod(
        name=f"s-{number}", uid=str(number), sequence=number, template="new", created=NOW - age, unschedulable=True
    )


def test_pods_that_fit_no_node_are_few_and_left_alone_while_young() -> None:
    seen = tuple(waiting(number, PROVISION_SECONDS - 1) for number in (1, 2, 3))
    decision = decide(Snapshot(name="s", spec=SPEC, status=CLOSED, pods=seen), NOW, 0)
    assert decision.actions == (Create(sequence=21),)
    assert decision.wake == NOW + 1


def test_when_no_node_comes_one_pod_stays_to_tell_when_there_is_room() -> None:
    seen = tuple(waiting(number, PROVISION_SECONDS + 1) for number in (1, 2, 3))
    decision = decide(Snapshot(name="s", spec=SPEC, status=CLOSED, pods=seen), NOW, 0)
    assert [(action.pod.sequence, action.reason) for action in decision.actions if isinstance(action, Stop)] == [
        (2, Reason.CAPACITY),
        (3, Reason.CAPACITY),
    ]
    assert made_by(decision) == 0
    assert decision.status.state is State.THROTTLED
    assert decision.status.circuit is Circuit.CLOSED


@pytest.mark.parametrize(("invalid", "state"), [(False, State.THROTTLED), (True, State.INVALID)])
def test_a_refusal_is_obeyed_until_it_ends(*, invalid: bool, state: State) -> None:
    denial = Denial(message="exceeded quota: site", until=NOW + 5, invalid=invalid)
    snapshot = Snapshot(name="s", spec=SPEC, status=CLOSED, denial=denial)
    refused = decide(snapshot, NOW, 0)
    assert (refused.actions, refused.status.state, refused.wake) == ((), state, NOW + 5)
    assert "exceeded quota" in refused.status.message
    assert made_by(decide(snapshot, NOW + 5, 0)) == 16


def test_a_pod_that_was_reserved_before_a_crash_is_made_under_its_number() -> None:
    decision = decide(Snapshot(name="s", spec=replace(SPEC, pods=2), status=replace(CLOSED, creating=(20,))), NOW, 0)
    assert decision.actions == (Create(sequence=20), Create(sequence=21))


def test_the_smallest_term_of_the_explanation_is_what_is_made() -> None:
    decision = decide(Snapshot(name="s", spec=replace(SPEC, pods=7), status=CLOSED), NOW, 0)
    assert min((term.allows, term.name) for term in decision.explanation if term.allows is not None) == (7, "pods")
    assert made_by(decision) == 7
