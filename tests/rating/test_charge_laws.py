"""The laws of the charge function, over every model and boundary quantities."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.rating.cards import ONE, Price, Tier
from metering.rating.charge import EXACT_IN_MICRO, charge, position
from metering.rating.hourly import by_hour, hourly_rows
from metering.rating.rows import PART_IN_EXACT, ChargeRow
from metering.rating.terms import Period
from metering.rating.usage import HourUse, Usage, merge
from tests.rating.prices import (
    Month,
    effects,
    event_prices,
    matrix_price,
    months,
    naive,
    quantities,
    round_half_away,
    segment,
    tiered_prices,
)

PERIOD = Period("p", 0, 1000 * 3600)
SIGNED = {"volume", "stairstep"}


def rate(month: Month) -> list[ChargeRow]:
    return hourly_rows([segment(month.price)], month.uses(), PERIOD).rows


def whole(usages: list[Usage]) -> Usage:
    total = usages[0]
    for usage in usages[1:]:
        total = merge(total, usage)
    return total


def charge_of(price: Price, usage: Usage) -> int:
    return position(price, {"": usage}).amount


@given(st.data())
def test_the_charge_is_the_exact_amount_rounded_once(data: st.DataObject) -> None:
    price = data.draw(tiered_prices())
    quantity = data.draw(quantities(price))
    assert charge(price, quantity) == round_half_away(naive(price, Usage("sum", quantity, 1)))


@given(months())
def test_every_model_charges_the_exact_amount_rounded_once(month: Month) -> None:
    usage = whole(month.hours)
    assert charge_of(month.price, usage) == round_half_away(naive(month.price, usage))


@given(tiered_prices())
def test_nothing_used_costs_nothing(price: Price) -> None:
    assert charge(price, 0) == 0
    assert position(price, {}).amount == 0


@given(months())
def test_hours_add_up_to_the_charge_of_the_whole(month: Month) -> None:
    assert sum(row.amount for row in rate(month)) == charge_of(month.price, whole(month.hours))


@given(months(), st.data())
def test_cutting_hours_differently_changes_no_sum(month: Month, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(month.hours)))
    coarse = [whole(month.hours[:cut]), *month.hours[cut:]]
    assert sum(r.amount for r in rate(month)) == sum(r.amount for r in rate(Month(month.price, coarse)))


@given(months(), st.randoms(use_true_random=False))
def test_rows_are_a_function_of_the_set_of_usage(month: Month, chance: Any) -> None:
    uses = month.uses()
    shuffled = chance.sample(uses, k=len(uses))
    again = hourly_rows([segment(month.price)], by_hour(shuffled), PERIOD).rows
    assert again == rate(month)


@given(months())
def test_parts_effects_and_rounding_are_the_charge_of_every_row(month: Month) -> None:
    for row in rate(month):
        parts = sum(p.amount for p in row.slices) * PART_IN_EXACT
        assert parts + sum(e for _, e in row.effects) + row.rounding == row.amount * EXACT_IN_MICRO


@given(months())
def test_a_part_is_its_units_times_its_price_and_its_fee(month: Month) -> None:
    for row in rate(month):
        for p in row.slices:
            assert p.amount == p.billed * p.unit_price + p.flat_fee * 10**12


@given(months())
def test_roundings_of_a_period_stay_within_half_a_micro_unit(month: Month) -> None:
    assert abs(sum(row.rounding for row in rate(month))) * 2 <= EXACT_IN_MICRO


@given(st.data())
def test_tiers_hold_all_units(data: st.DataObject) -> None:
    price = data.draw(tiered_prices())
    quantity = data.draw(quantities(price))
    assert sum(p.units for p in position(price, {"": Usage("sum", quantity, 1)}).parts) == quantity


@given(months())
def test_moves_of_tiers_add_up_to_the_quantity_of_the_hour(month: Month) -> None:
    for row in rate(month):
        assert sum(p.units for p in row.slices) == row.quantity


@given(st.data())
def test_more_usage_never_costs_less_unless_all_units_change_price(data: st.DataObject) -> None:
    price = data.draw(st.one_of(tiered_prices(), event_prices()).filter(lambda p: p.model not in SIGNED))
    if price.model in ("percentage", "increment"):
        sizes = sorted(data.draw(st.lists(st.integers(0, 300 * ONE), min_size=2, max_size=2)))
        low, high = (Usage("each", s, 1, {str(s): 1}) for s in sizes)
    else:
        low, high = (Usage("sum", q, 1) for q in sorted([data.draw(quantities(price)) for _ in range(2)]))
    assert charge_of(price, low) <= charge_of(price, high)


@given(st.data())
def test_a_charge_is_never_negative(data: st.DataObject) -> None:
    month = data.draw(months())
    assert charge_of(month.price, whole(month.hours)) >= 0


@given(st.data())
def test_a_cap_holds_whatever_comes_before_it(data: st.DataObject) -> None:
    month = data.draw(months())
    amount = charge_of(month.price, whole(month.hours))
    assert month.price.cap is None or amount <= month.price.cap


@given(st.data())
def test_a_discount_takes_no_more_than_there_is(data: st.DataObject) -> None:
    price = data.draw(effects(Price("unit", (Tier(None, 10**12),))))
    for name, amount in position(price, {"": Usage("sum", data.draw(quantities(price)), 1)}).effects:
        assert amount <= 0 or name == "conversion"


@given(st.lists(st.integers(0, 500 * ONE), min_size=1, max_size=30), st.integers(0, 10**13))
def test_hours_stay_close_to_their_exact_sum(used: list[int], unit_price: int) -> None:
    price = Price("unit", (Tier(None, unit_price),))
    total = sum(row.amount for row in rate(Month(price, [Usage("sum", q, 1) for q in used])))
    exact = Fraction(sum(used) * unit_price, 10**18)
    assert abs(Fraction(total, ONE) - exact) <= Fraction(1, 2 * ONE)


CELLS = {("eu", "s"): 10**12, ("eu", None): 2 * 10**12, (None, None): 3 * 10**12}


@given(
    st.lists(
        st.tuples(st.sampled_from(["eu", "us"]), st.sampled_from("sl"), st.integers(0, 10**9)),
        min_size=1,
        max_size=20,
    )
)
def test_each_cell_of_a_matrix_is_charged_at_its_own_price(found: list[tuple[str, str, int]]) -> None:
    price = matrix_price(CELLS)
    uses = [
        HourUse(h * 3600, "a", "m", (("region", r), ("size", s)), Usage("sum", q, 1))
        for h, (r, s, q) in enumerate(found)
    ]
    rate_of = {("eu", "s"): 1, ("eu", "l"): 2, ("us", "s"): 3, ("us", "l"): 3}
    rows = hourly_rows([segment(price)], uses, PERIOD).rows
    assert sum(row.amount for row in rows) == sum(q * rate_of[r, s] for r, s, q in found)


@given(months(), st.integers(0, 20))
def test_rating_from_an_hour_on_gives_the_same_rows(month: Month, hour: int) -> None:
    suffix = hourly_rows([segment(month.price)], month.uses(), PERIOD, since=hour * 3600).rows
    assert suffix == [row for row in rate(month) if row.hour >= hour * 3600]


def test_a_float_is_no_quantity() -> None:
    with pytest.raises(TypeError, match="integer"):
        charge(Price("unit", (Tier(None, 1),)), 1.0)  # type: ignore[arg-type]
