"""Which nodes are blamed, and what of it reaches the payload loop and the next startds."""

from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from services.vacuum.blame import (
    FIRST_SECONDS,
    FORGET_SECONDS,
    LONGEST_SECONDS,
    NODES_SHARE,
    blamed,
    learn,
    on_trial,
    suspected,
)
from services.vacuum.decide import decide
from services.vacuum.model import (
    Circuit,
    Class,
    Create,
    Message,
    NodeMemory,
    Outcome,
    Pod,
    Size,
    Snapshot,
    Spec,
    Status,
)

pytestmark = pytest.mark.fast

NOW = 1_000_000.0
WORKING = ("n1", "n2", "n3")
BAD = Class.SITE_FAULT


def end(what: Class = BAD, node: str = "hole", at: float = NOW) -> Outcome:
    return Outcome(name="s-1", what=what, reason="SoftwareMissing", code=500, at=at, seconds=60, node=node)


def names(memory: tuple[NodeMemory, ...], nodes: int = 25, now: float = NOW) -> list[str]:
    return [node.name for node in blamed(memory, nodes=nodes, now=now)]


def test_a_node_that_fails_three_of_five_while_others_work_is_avoided_for_an_hour() -> None:
    memory = learn((), [end(), end()], working=WORKING, now=NOW)
    assert names(memory) == []
    memory = learn(memory, [end(Class.WORKED), end()], working=WORKING, now=NOW)
    assert names(memory) == ["hole"]
    assert names(memory, now=NOW + FIRST_SECONDS) == []
    assert on_trial(memory, NOW + FIRST_SECONDS) == {"hole"}


def test_when_nothing_works_elsewhere_it_is_not_the_node() -> None:
    assert names(learn((), [end()] * 5, working=(), now=NOW)) == []
    assert names(learn((), [end()] * 5, working=("hole",), now=NOW)) == []


def test_when_others_fail_too_it_is_not_the_node() -> None:
    failures = [*[end()] * 3, end(node="n1"), end(node="n2")]
    assert names(learn((), failures, working=WORKING, now=NOW)) == []
    assert names(learn((), failures, working=WORKING * 4, now=NOW)) == ["hole"]


@pytest.mark.parametrize(("nodes", "blames"), [(1, 0), (4, 0), (5, 1), (9, 1), (10, 2), (100, 2)])
def test_never_more_than_a_fifth_of_the_nodes_is_avoided_and_then_none_is(nodes: int, blames: int) -> None:
    memory = learn((), [end(node="a")] * 3, working=WORKING, now=NOW)
    memory = learn(memory, [end(node="b")] * 3, working=WORKING * 9, now=NOW)
    assert len(names(memory, nodes=nodes)) in {0, blames}
    assert len(names(memory[:1], nodes=nodes)) == min(1, blames)


def test_what_fails_again_on_trial_is_avoided_twice_as_long_up_to_a_day() -> None:
    memory, now, spans = learn((), [end()] * 3, working=WORKING, now=NOW), NOW, []
    for _ in range(7):
        (node,) = blamed(memory, nodes=25, now=now)
        spans.append(node.until - now)
        now = node.until
        memory = learn(memory, [end(at=now)], working=WORKING, now=now)
    assert spans == [FIRST_SECONDS * factor for factor in (1, 2, 4, 8, 16, 24, 24)]
    assert spans[-1] == LONGEST_SECONDS


def test_a_node_that_does_well_on_trial_starts_afresh() -> None:
    memory = learn((), [end()] * 3, working=WORKING, now=NOW)
    later = NOW + FIRST_SECONDS
    memory = learn(memory, [end(Class.WORKED, at=later)], working=WORKING, now=later)
    assert on_trial(memory, later) == frozenset()
    assert names(memory, now=later) == []
    assert learn(memory, [end(Class.WORKED)] * 5, working=WORKING, now=later) == ()


def test_what_is_not_the_sites_fault_is_not_the_nodes() -> None:
    others = [end(what) for what in Class if what is not BAD]
    assert learn((), others, working=WORKING, now=NOW) == ()


def test_an_old_failure_is_forgotten() -> None:
    memory = learn((), [end(at=NOW)], working=WORKING, now=NOW)
    assert learn(memory, [], working=WORKING, now=NOW + FORGET_SECONDS) == ()


def test_a_probe_avoids_where_the_last_one_failed_if_it_can() -> None:
    memory = learn((), [end(node="a"), end(node="b"), end(Class.WORKED, node="b")], working=(), now=NOW)
    assert suspected(memory, nodes=2) == {"a"}
    assert suspected(memory, nodes=1) == frozenset()


ends = st.lists(
    st.builds(end, what=st.sampled_from([BAD, Class.WORKED, Class.NO_WORK]), node=st.sampled_from("abcdefgh")),
    max_size=40,
)


@settings(deadline=None, max_examples=40)
@given(st.lists(ends, max_size=4), st.integers(1, 40), st.lists(st.sampled_from("abcdefgh"), max_size=20))
def test_whatever_fails_at_most_a_fifth_is_avoided(
    batches: list[list[Outcome]], nodes: int, working: list[str]
) -> None:
    memory: tuple[NodeMemory, ...] = ()
    for step, batch in enumerate(batches):
        memory = learn(memory, batch, working=working, now=NOW + 4000 * step)
        assert len(names(memory, nodes, NOW + 4000 * step)) <= NODES_SHARE * nodes


SPEC = Spec(template="t", size=Size(), pods=30)


def pod(number: int, node: str, *, failed: bool, **more: object) -> Pod:
    base = Pod(
        name=f"s-{number}",
        uid=str(number),
        sequence=number,
        template="t",
        created=NOW - 100,
        node=node,
        scheduled=NOW - 90,
        started=NOW - 80,
        phase="Failed" if failed else "Running",
        finished=NOW - 5 if failed else None,
        ready=None if failed else NOW - 10,
        message=Message(code=500, reason="SoftwareMissing") if failed else None,
    )
    return replace(base, **more)  # type: ignore[arg-type]


def test_what_a_blamed_node_spoils_does_not_close_the_window_and_new_startds_avoid_it() -> None:
    working = [pod(number, f"n{number}", failed=False) for number in range(1, 6)]
    spoilt = [pod(number, "hole", failed=True) for number in range(6, 12)]
    status = Status(template="t", sequence=11, window=8, proven=(1, 2, 3, 4, 5))
    decision = decide(Snapshot(name="s", spec=SPEC, status=status, pods=(*working, *spoilt), nodes=25), NOW, 0)
    assert [node.name for node in decision.status.blamed] == ["hole"]
    assert (decision.status.circuit, decision.status.window) == (Circuit.CLOSED, 8)
    creates = [action for action in decision.actions if isinstance(action, Create)]
    assert creates
    assert all(create.avoid == ("hole",) for create in creates)
    assert (decision.wake or 0) <= decision.status.blamed[0].until


def test_where_it_may_be_the_site_the_same_failures_open_the_circuit() -> None:
    spoilt = tuple(pod(number, "hole", failed=True) for number in range(6, 12))
    status = Status(template="t", sequence=11, window=8)
    decision = decide(Snapshot(name="s", spec=SPEC, status=status, pods=spoilt, nodes=25), NOW, 0)
    assert decision.status.circuit is Circuit.OPEN
    assert decision.status.blamed == ()


def test_when_its_time_is_over_one_startd_at_a_time_tries_a_node_again() -> None:
    memory = NodeMemory(name="hole", recent="bbb", at=NOW - 4000, until=NOW - 10, level=1)
    status = Status(template="t", sequence=3, window=4, nodes=(memory,))
    snapshot = Snapshot(name="s", spec=SPEC, status=status, nodes=25)
    creates = [action for action in decide(snapshot, NOW, 0).actions if isinstance(action, Create)]
    assert [create.avoid for create in creates] == [(), ("hole",), ("hole",), ("hole",)]
    trying = replace(snapshot, pods=(pod(3, "hole", failed=False, ready=None),))
    creates = [action for action in decide(trying, NOW, 0).actions if isinstance(action, Create)]
    assert all(create.avoid == ("hole",) for create in creates)


def test_a_probe_of_the_circuit_goes_to_another_node_than_the_last_one() -> None:
    memory = NodeMemory(name="hole", recent="b", at=NOW - 4000)
    status = Status(template="t", sequence=3, window=1, circuit=Circuit.HALF_OPEN, level=1, nodes=(memory,))
    decision = decide(Snapshot(name="s", spec=SPEC, status=status, nodes=2), NOW, 0)
    assert [action.avoid for action in decision.actions if isinstance(action, Create)] == [("hole",)]
    lonely = decide(Snapshot(name="s", spec=SPEC, status=status, nodes=1), NOW, 0)
    assert [action.avoid for action in lonely.actions if isinstance(action, Create)] == [()]
