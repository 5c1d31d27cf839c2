"""How sets share a site."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given, settings, strategies as st

from services.vacuum import share
from services.vacuum.share import Claim, NodeUse, apportion, reserve

pytestmark = pytest.mark.fast
thorough = settings(deadline=None, max_examples=40)

SMALL = Claim(name="small", weight=1, floor=0, wanted=1000, alone=1000, millicores=1000)
LARGE = Claim(name="large", weight=1, floor=0, wanted=125, alone=125, millicores=8000)


def startds(*claims: Claim) -> dict[str, int | None]:
    return {name: bound.startds for name, bound in apportion(claims).items()}


@pytest.mark.parametrize(
    ("small", "large", "expected"),
    [
        ({}, {}, (504, 62)),
        ({"weight": 3}, {}, (752, 31)),
        ({}, {"wanted": 10}, (920, 10)),
        ({"wanted": 0}, {}, (0, 125)),
        ({"floor": 900}, {}, (904, 12)),
        ({"floor": 1000}, {"floor": 125}, (504, 62)),
        ({"wanted": 100}, {"wanted": 20}, (100, 20)),
        ({"alone": 0}, {}, (0, 125)),
    ],
)
def test_a_site_is_shared_by_weight_between_floors_and_wishes(
    small: dict[str, int], large: dict[str, int], expected: tuple[int, int]
) -> None:
    one, other = replace(SMALL, **small), replace(LARGE, **large)  # type: ignore[arg-type]
    assert startds(one, other) == {"small": expected[0], "large": expected[1]}


def test_a_set_by_itself_shares_with_nobody() -> None:
    assert apportion([SMALL]) == {}


def test_what_nobody_knows_is_told_and_does_not_rule() -> None:
    shares = apportion([SMALL, replace(LARGE, alone=None)])
    assert (shares["large"].startds, shares["small"].startds) == (None, 1000)


claims = st.lists(
    st.builds(
        Claim,
        name=st.sampled_from("abcdef"),
        weight=st.integers(1, 20),
        floor=st.integers(0, 30),
        wanted=st.integers(0, 200),
        alone=st.integers(1, 100),
    ),
    min_size=2,
    max_size=5,
    unique_by=lambda claim: claim.name,
)


def part(claim: Claim, number: int | None) -> Fraction:
    return Fraction(number or 0, claim.alone or 1)


@thorough
@given(claims)
def test_no_more_is_given_than_there_is_and_nobody_gets_more_than_he_wants(asked: list[Claim]) -> None:
    given_ = startds(*asked)
    assert sum(part(claim, given_[claim.name]) for claim in asked) <= 1
    assert all((given_[claim.name] or 0) <= min(claim.wanted, claim.alone or 0) for claim in asked)


@thorough
@given(claims)
def test_nothing_is_left_over_while_somebody_wants_one_more_that_fits(asked: list[Claim]) -> None:
    given_ = startds(*asked)
    left = 1 - sum(part(claim, given_[claim.name]) for claim in asked)
    hungry = [claim for claim in asked if (given_[claim.name] or 0) < min(claim.wanted, claim.alone or 0)]
    # Whole startds: each may lose less than one to the cut.
    assert not hungry or left < sum(part(claim, 1) for claim in asked)


@thorough
@given(claims)
def test_everyone_gets_his_weighted_part_or_all_he_wants_but_for_less_than_one_startd(asked: list[Claim]) -> None:
    asked = [replace(claim, floor=0) for claim in asked]
    given_ = startds(*asked)
    weights = sum(claim.weight for claim in asked)
    for claim in asked:
        fair = min(claim.wanted, claim.weight * (claim.alone or 0) // weights)
        assert (given_[claim.name] or 0) >= fair


@thorough
@given(claims, st.randoms(use_true_random=False))
def test_the_order_of_the_sets_does_not_matter(asked: list[Claim], random: object) -> None:
    shuffled = list(asked)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert startds(*shuffled) == startds(*asked)


@thorough
@given(claims, st.integers(1, 5))
@example(
    [
        Claim(name="b", weight=4, floor=0, wanted=5, alone=5),
        Claim(name="a", weight=2, floor=0, wanted=1, alone=1),
        Claim(name="c", weight=1, floor=0, wanted=1, alone=3),
    ],
    1,
)
def test_more_weight_never_gives_less_than_the_part_that_less_weight_gave(asked: list[Claim], more: int) -> None:
    # What is left of the cut goes to whom it fits, which weight does not decide.
    heavier = replace(asked[0], weight=asked[0].weight + more)
    after = startds(heavier, *asked[1:])[heavier.name] or 0
    assert after >= int(share._fill(asked)[heavier.name] * (heavier.alone or 0))


NODES = [NodeUse(name=f"n{number:02}", total=40_000, free=1000 * (number % 5)) for number in range(25)]


def test_while_a_large_startd_waits_within_its_share_the_nodes_nearest_to_having_room_take_no_smaller_ones() -> None:
    waiting = replace(LARGE, have=10, waiting=4)
    asked = [SMALL, waiting]
    avoid = reserve(asked, apportion(asked), NODES)
    assert avoid == {"small": frozenset({"n04"}), "large": frozenset()}
    many = [SMALL, replace(LARGE, have=40, waiting=40)]
    assert reserve(many, apportion(many), NODES)["small"] == {"n04", "n09"}


@pytest.mark.parametrize("large", [{"waiting": 0}, {"have": 63, "waiting": 1}, {"alone": None, "waiting": 4}])
def test_otherwise_no_node_is_kept_free(large: dict[str, int | None]) -> None:
    asked = [SMALL, replace(LARGE, **large)]  # type: ignore[arg-type]
    assert reserve(asked, apportion(asked), NODES) == {"small": frozenset(), "large": frozenset()}


def test_no_node_is_kept_that_could_never_hold_it() -> None:
    asked = [SMALL, replace(LARGE, waiting=4)]
    little = [NodeUse(name="little", total=4000, free=4000)]
    assert reserve(asked, apportion(asked), little)["small"] == frozenset()
