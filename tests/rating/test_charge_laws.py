"""The laws of the charge function, over every model and boundary quantities."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from metering.rating import HourCharge, Price, Segment, Tier, charge, hourly_charges

SCALE = 6
UNIT = 10**SCALE


@st.composite
def prices(draw: st.DrawFn) -> Price:
    model = draw(st.sampled_from(["unit", "graduated", "volume"]))
    count = 1 if model == "unit" else draw(st.integers(1, 4))
    bounds = sorted(draw(st.sets(st.integers(1, 3000 * UNIT), min_size=count - 1, max_size=count - 1)))
    tiers = [
        Tier(bound, draw(st.integers(0, 10**13)), draw(st.integers(0, 10**8))) for bound in [*bounds, None]
    ]
    return Price(model, tuple(tiers))


def quantities(price: Price) -> st.SearchStrategy[int]:
    edges = [0, 1, 2**53 - 1, 2**53, 2**53 + 1]
    for tier in price.tiers:
        if tier.up_to is not None:
            edges += [tier.up_to - 1, tier.up_to, tier.up_to + 1]
    return st.one_of(st.sampled_from(edges), st.integers(0, 4000 * UNIT))


def naive(price: Price, quantity: int) -> Fraction:
    """The exact charge, written as a person would: no shared code with the engine."""
    used, total, start = Fraction(quantity, UNIT), Fraction(0), Fraction(0)
    if not used:
        return total
    for tier in price.tiers:
        end = None if tier.up_to is None else Fraction(tier.up_to, UNIT)
        unit, fee = Fraction(tier.unit_price, 10**12), Fraction(tier.flat_fee, 10**6)
        if price.model == "volume":
            if end is None or used <= end:
                return used * unit + fee
        elif used > start:
            inside = (used if end is None else min(used, end)) - start
            total += inside * unit + fee
            start = end if end is not None else start
    return total


def round_half_away(amount: Fraction) -> int:
    scaled = abs(amount) * 10**6
    whole = int(scaled + Fraction(1, 2))
    return whole if amount >= 0 else -whole


def segment(price: Price) -> Segment:
    return Segment(0, None, price, "p", "card", "v1", "USD")


def rate(price: Price, used: list[int]) -> list[HourCharge]:
    rated = hourly_charges([segment(price)], [(h * 3600, q) for h, q in enumerate(used)], SCALE)
    assert all(isinstance(r, HourCharge) for r in rated)
    return rated  # type: ignore[return-value]


@given(st.data())
def test_the_charge_is_the_exact_amount_rounded_once(data: st.DataObject) -> None:
    price = data.draw(prices())
    quantity = data.draw(quantities(price))
    assert charge(price, quantity, SCALE) == round_half_away(naive(price, quantity))


@given(prices())
def test_nothing_used_costs_nothing(price: Price) -> None:
    assert charge(price, 0, SCALE) == 0


@given(prices(), st.lists(st.integers(0, 500 * UNIT), max_size=30))
def test_hours_add_up_to_the_charge_of_the_whole(price: Price, used: list[int]) -> None:
    assert sum(r.amount for r in rate(price, used)) == charge(price, sum(used), SCALE)


@given(prices(), st.lists(st.integers(0, 500 * UNIT), min_size=2, max_size=20))
def test_cutting_hours_differently_changes_no_sum(price: Price, used: list[int]) -> None:
    joined = [used[0] + used[1], *used[2:]]
    assert sum(r.amount for r in rate(price, used)) == sum(r.amount for r in rate(price, joined))


@given(prices(), st.lists(st.integers(0, 500 * UNIT), max_size=20))
def test_slices_and_rounding_are_the_amount(price: Price, used: list[int]) -> None:
    for row in rate(price, used):
        assert sum(s.amount for s in row.slices) + row.rounding == row.amount * 10**12


@given(prices(), st.lists(st.integers(0, 500 * UNIT), max_size=20))
def test_slices_hold_every_unit_once(price: Price, used: list[int]) -> None:
    for row in rate(price, used):
        assert sum(s.units for s in row.slices) == row.quantity


@given(prices(), st.lists(st.integers(0, 500 * UNIT), max_size=30))
def test_the_sum_is_within_half_a_micro_unit_of_the_exact_amount(price: Price, used: list[int]) -> None:
    total = sum(r.amount for r in rate(price, used))
    assert abs(Fraction(total, 10**6) - naive(price, sum(used))) <= Fraction(1, 2 * 10**6)


@given(prices(), prices(), st.lists(st.integers(0, 500 * UNIT), min_size=2, max_size=20), st.data())
def test_a_price_switch_carries_the_position_on(
    old: Price, new: Price, used: list[int], data: st.DataObject
) -> None:
    switch = data.draw(st.integers(0, len(used)))
    segments = [
        Segment(0, switch * 3600, old, "p", "card", "v1", "USD"),
        Segment(switch * 3600, None, new, "p", "card", "v2", "USD"),
    ]
    rated = hourly_charges(segments, [(h * 3600, q) for h, q in enumerate(used)], SCALE)
    before, total = sum(used[:switch]), sum(used)
    expected = charge(old, before, SCALE) + charge(new, total, SCALE) - charge(new, before, SCALE)
    assert sum(r.amount for r in rated) == expected  # type: ignore[union-attr]


@given(prices().filter(lambda p: p.model != "volume"), st.lists(st.integers(0, 500 * UNIT), max_size=20))
def test_unit_and_graduated_hours_are_never_negative(price: Price, used: list[int]) -> None:
    assert all(r.amount >= 0 for r in rate(price, used))
