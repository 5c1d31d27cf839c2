"""Money: exact, in a known currency, divided without a rest."""

from decimal import Decimal

import pytest
from hypothesis import given, settings, strategies as st

from services.accounting.money import Refused, currency, micros, shown, split

pytestmark = pytest.mark.fast


def test_an_amount_is_taken_as_it_is_written() -> None:
    assert [micros(amount) for amount in (0.1, "0.1", Decimal("0.1"), 1, -2.5, 1e-6, "1E+3")] == [
        100_000,
        100_000,
        100_000,
        1_000_000,
        -2_500_000,
        1,
        1_000_000_000,
    ]
    assert micros(0.1) + micros(0.2) == micros(0.3)


@pytest.mark.parametrize("amount", ["", "abc", None, True, float("nan"), "Infinity", [1], "1e30"])
def test_what_is_no_amount_is_refused(amount: object) -> None:
    with pytest.raises(Refused, match="a number is needed") as refused:
        micros(amount)
    assert refused.value.reason == "AmountUnreadable"


def test_a_currency_that_nobody_has_is_refused() -> None:
    assert currency("eur") == "EUR"
    with pytest.raises(Refused, match="ISO 4217"):
        currency("EURO")


def test_people_read_hundredths() -> None:
    assert [shown(amount) for amount in (12_345_678, -500_000, 0)] == ["12.35", "-0.50", "0.00"]


@settings(deadline=None)
@given(st.integers(-(10**15), 10**15), st.dictionaries(st.text(max_size=3), st.integers(0, 10**12), max_size=8))
def test_the_parts_of_an_amount_add_up_to_it(amount: int, weights: dict[str, int]) -> None:
    parts = split(amount, weights)
    assert sum(parts.values()) == (amount if sum(weights.values()) else 0)
    whole = sum(weights.values())
    assert all(abs(part * whole - amount * weights[name]) < whole for name, part in parts.items())
