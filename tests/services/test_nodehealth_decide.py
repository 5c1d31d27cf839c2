"""Which nodes are taken out of use: few at a time, none when it cannot be the nodes, and each is given back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from services.nodehealth.decide import decide, may_be_away
from services.nodehealth.model import BLACK_HOLE, CVMFS, KERNEL_MEMORY, Cordon, Fault, Held, Node, Sign, Uncordon

pytestmark = pytest.mark.fast

NOW, QUIET = 1_000_000.0, 1800.0
SLUB = Sign(kind=KERNEL_MEMORY, fault=Fault.OWN)
UNREADABLE = Sign(kind=CVMFS, fault=Fault.SHARED)
BLAMED = Sign(kind=BLACK_HOLE, fault=Fault.SHARED, until=NOW + 7200)
HELD = Held(why=KERNEL_MEMORY, since=NOW - 4000, until=NOW - 2200)


def pool(size: int, **bad: Any) -> list[Node]:
    """So many nodes, of which some are as is said by number."""
    return [replace(Node(name=f"n{number}", pool="p"), **bad.get(f"n{number}", {})) for number in range(size)]


def taken(nodes: Sequence[Node]) -> list[str]:
    return [action.node.name for action in decide(nodes, now=NOW, quiet=QUIET).actions if isinstance(action, Cordon)]


def given_back(nodes: Sequence[Node]) -> list[str]:
    return [action.node.name for action in decide(nodes, now=NOW, quiet=QUIET).actions if isinstance(action, Uncordon)]


def after(nodes: Sequence[Node]) -> list[Node]:
    """The nodes once the decision has been carried out."""
    changed = {}
    for action in decide(nodes, now=NOW, quiet=QUIET).actions:
        held = action.held if isinstance(action, Cordon) else None
        changed[action.node.name] = replace(action.node, held=held, unschedulable=held is not None)
    return [changed.get(node.name, node) for node in nodes]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 10])
def test_one_node_whose_kernel_fails_is_taken_out_of_a_pool_of_any_size(size: int) -> None:
    assert taken(pool(size, n0={"signs": (SLUB,)})) == ["n0"]


@pytest.mark.parametrize(("size", "expected"), [(1, []), (3, []), (4, ["n0"]), (10, ["n0"])])
def test_what_others_may_have_caused_counts_only_beside_enough_nodes_that_do_well(
    size: int, expected: list[str]
) -> None:
    assert taken(pool(size, n0={"signs": (UNREADABLE,)})) == expected


def test_no_more_than_a_tenth_goes_at_once() -> None:
    bad = {f"n{number}": {"signs": (SLUB,)} for number in range(6)}
    assert len(taken(pool(40, **bad))) == 4
    assert len(taken(pool(39, **bad))) == 3


def test_none_goes_when_more_than_three_tenths_look_bad() -> None:
    assert len(taken(pool(10, **{f"n{number}": {"signs": (SLUB,)} for number in range(3)}))) == 1
    nodes = pool(10, **{f"n{number}": {"signs": (SLUB,)} for number in range(4)})
    assert taken(nodes) == []
    (verdict,) = decide(nodes, now=NOW, quiet=QUIET).verdicts
    assert verdict.why == "4 of 10 nodes look bad: it is not the nodes"


def test_nodes_that_are_not_ready_count_as_bad_and_are_left_to_the_cloud() -> None:
    gone = {f"n{number}": {"ready": False} for number in range(3)}
    assert taken(pool(10, **gone)) == []
    assert taken(pool(10, **gone, n9={"signs": (SLUB,)})) == []


def test_what_a_person_cordoned_uses_up_the_room_and_stays_the_persons() -> None:
    nodes = pool(10, n0={"unschedulable": True, "signs": (SLUB,)}, n1={"signs": (SLUB,)})
    assert taken(nodes) == []
    assert given_back(nodes) == []
    (verdict,) = decide(nodes, now=NOW, quiet=QUIET).verdicts
    assert verdict.why == "1 of 10 nodes are away: no more than 1 may be at once"


def test_pools_are_judged_each_by_itself() -> None:
    other = [replace(node, name=f"o{node.name}", pool="q") for node in pool(10, n0={"signs": (SLUB,)})]
    assert taken([*pool(10, n0={"signs": (SLUB,)}), *other]) == ["n0", "on0"]


def test_a_node_is_held_until_the_blame_is_over_though_nobody_blames_it_while_it_is_away() -> None:
    action = decide(pool(10, n0={"signs": (BLAMED,)}), now=NOW, quiet=QUIET).actions[0]
    assert isinstance(action, Cordon)
    assert action.held == Held(why=BLACK_HOLE, since=NOW, until=NOW + 7200)
    away = pool(10, n0={"held": action.held, "unschedulable": True})
    assert not decide(away, now=NOW + 7199, quiet=QUIET).actions
    assert decide(away, now=NOW + 7200, quiet=QUIET).actions == (Uncordon(node=away[0]),)


@pytest.mark.parametrize("why", [{"signs": (SLUB,)}, {"ready": False}, {"blind": True}])
def test_a_node_is_not_given_back_while_anything_is_wrong_or_nobody_knows(why: dict[str, Any]) -> None:
    assert given_back(pool(5, n0={"held": HELD, "unschedulable": True, **why})) == []


def test_a_node_that_is_well_again_is_given_back() -> None:
    assert given_back(pool(5, n0={"held": HELD, "unschedulable": True})) == ["n0"]


def test_a_node_that_somebody_uncordoned_while_it_is_bad_is_taken_again_unless_it_is_to_be_left() -> None:
    bad = {"held": HELD, "signs": (SLUB,)}
    assert taken(pool(5, n0=bad)) == ["n0"]
    assert taken(pool(5, n0={**bad, "left": True})) == []
    assert given_back(pool(5, n0={**bad, "left": True})) == ["n0"]


signs = st.lists(st.sampled_from([SLUB, UNREADABLE, BLAMED]), max_size=2).map(tuple)
node_states = st.fixed_dictionaries(
    {
        "pool": st.sampled_from(["p", "q"]),
        "ready": st.sampled_from([True, True, True, False]),
        "left": st.sampled_from([False, False, False, True]),
        "blind": st.booleans(),
        "signs": st.one_of(st.just(()), st.just(()), signs),
        "away": st.sampled_from(["", "", "", "person", "ours", "old"]),
    }
)


def _node(number: int, state: dict[str, Any]) -> Node:
    away = state.pop("away")
    held = {"ours": replace(HELD, until=NOW + 60), "old": HELD}.get(away)
    return Node(name=f"n{number:02}", unschedulable=bool(away), held=held, **state)


clusters = st.lists(node_states, max_size=30).map(
    lambda states: [_node(number, dict(state)) for number, state in enumerate(states)]
)


@given(clusters)
def test_never_are_more_taken_than_may_be_away_and_never_one_without_a_sign(nodes: list[Node]) -> None:
    names = taken(nodes)
    for name in {node.pool for node in nodes}:
        some = [node for node in nodes if node.pool == name]
        new = [node for node in some if node.name in names]
        away = sum(node.unschedulable for node in some)
        assert not new or len(new) + away <= max(1, len(some) // 10) == may_be_away(len(some))
        bad = sum(bool(node.signs) or not node.ready for node in some)
        if bad > 1 and bad > 0.3 * len(some):
            assert not new
        assert all(node.signs and node.ready and not node.left and not node.unschedulable for node in new)
        if len(some) <= 3:
            assert all(SLUB in node.signs for node in new)


@given(clusters)
def test_only_what_we_hold_is_given_back(nodes: list[Node]) -> None:
    back = given_back(nodes)
    assert all(node.held is not None for node in nodes if node.name in back)
    assert not set(back) & set(taken(nodes))


@given(clusters)
def test_once_a_decision_is_carried_out_nothing_that_was_taken_comes_back_in_the_next_look(nodes: list[Node]) -> None:
    then = after(nodes)
    assert not set(given_back(then)) & set(taken(nodes))
    settled = after(after(then))
    assert not decide(settled, now=NOW, quiet=QUIET).actions
