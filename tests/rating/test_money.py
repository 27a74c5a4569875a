"""The edges of the integers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.rating.cards import Price, Tier
from metering.rating.charge import charge
from metering.rating.money import format_exact, format_micro, parse_decimal


@given(st.integers(), st.integers(0, 18))
def test_text_and_back_is_the_same_integer(value: int, decimals: int) -> None:
    assert parse_decimal(format_exact(value, decimals), decimals) == value


@pytest.mark.parametrize("value", [1.5, 0.1, True, None])
def test_what_is_not_exact_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        parse_decimal(value, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "abc", "", "1,5"])
def test_what_is_not_a_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_decimal(text, 6)


def test_more_decimals_than_allowed_are_refused_not_rounded() -> None:
    with pytest.raises(ValueError, match="not rounded"):
        parse_decimal("0.0000001", 6)


def test_trailing_zeros_are_not_decimals() -> None:
    assert parse_decimal("1.5000000", 6) == 1_500_000


def test_an_exponent_is_read_exactly() -> None:
    assert parse_decimal(Decimal("1E-6"), 6) == 1


def test_amounts_always_have_six_decimals() -> None:
    assert format_micro(-41_327_119) == "-41.327119"


def test_a_float_cannot_be_charged() -> None:
    with pytest.raises(TypeError):
        charge(Price("unit", (Tier(None, 1),)), 1.0)  # type: ignore[arg-type]


def test_a_price_whose_last_tier_is_closed_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="last tier must be open"):
        Price("graduated", (Tier(10, 1),))


def test_bounds_that_do_not_rise_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="must rise"):
        Price("graduated", (Tier(10, 1), Tier(10, 1), Tier(None, 1)))
