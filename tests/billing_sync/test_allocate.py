"""The law of allocation: nothing is lost, nothing is charged twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_sync.allocate import allocate
from billing_sync.currencies import exponent_and_step, unit_micro
from metering.errors import UserError

currencies = st.sampled_from(["USD", "EUR", "JPY", "KWD", "ISK"])
lines = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(-(10**9), 10**11), max_size=8)
carries = st.integers(-(10**8), 10**8)


@given(lines, carries, currencies)
def test_minor_units_and_carry_are_what_was_rated(found: dict[str, int], carry: int, currency: str) -> None:
    result = allocate(found, carry, currency)
    _, step = exponent_and_step(currency)
    billed = result.total_minor // step * unit_micro(currency)
    assert billed + result.carry_out == sum(found.values()) + carry


@given(lines, carries, currencies)
def test_never_more_is_billed_than_was_rated(found: dict[str, int], carry: int, currency: str) -> None:
    result = allocate(found, carry, currency)
    if result.minor:
        assert 0 <= result.carry_out < unit_micro(currency)


@given(lines, currencies)
def test_amounts_respect_the_currency_step(found: dict[str, int], currency: str) -> None:
    _, step = exponent_and_step(currency)
    assert all(minor % step == 0 for minor in allocate(found, 0, currency).minor.values())


@given(lines, carries)
def test_the_order_of_lines_changes_nothing(found: dict[str, int], carry: int) -> None:
    turned = dict(reversed(found.items()))
    assert allocate(found, carry, "USD") == allocate(turned, carry, "USD")


@given(lines.filter(bool))
def test_without_a_carry_each_line_is_within_one_unit(found: dict[str, int]) -> None:
    result = allocate(found, 0, "USD")
    assert all(abs(minor * 10_000 - found[line]) < 10_000 for line, minor in result.minor.items())


def test_less_than_a_cent_is_carried() -> None:
    assert allocate({"a": 9_999}, 0, "USD") == ({}, 9_999)


def test_a_negative_total_is_carried() -> None:
    assert allocate({"a": -50_000}, 20_000, "USD") == ({}, -30_000)


def test_the_missing_cents_go_to_the_largest_remainders() -> None:
    thirds = {"a": 3_333, "b": 3_333, "c": 3_334}
    assert allocate(thirds, 0, "USD").minor == {"a": 0, "b": 0, "c": 1}


def test_yen_have_no_cents() -> None:
    assert allocate({"a": 1_999_999}, 0, "JPY") == ({"a": 1}, 999_999)


def test_kronur_are_sent_with_two_decimals() -> None:
    assert allocate({"a": 5_000_000}, 0, "ISK").minor == {"a": 500}


def test_a_currency_with_contradictory_rules_is_refused() -> None:
    with pytest.raises(UserError, match="contradict"):
        allocate({"a": 1}, 0, "UGX")
