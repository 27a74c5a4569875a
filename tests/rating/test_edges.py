"""Edges of windows, limits and lines that whole bills seldom touch; each was found by `mutate.py`."""

from typing import Any

import pytest

from metering.catalog.load import load_texts
from metering.rating import load_card
from metering.rating.cards import Change, Origin, Price, Segment, Tier
from metering.rating.charge import EXACT_IN_MICRO, charge, position
from metering.rating.hourly import hourly_rows
from metering.rating.money import MICRO, parse_decimal
from metering.rating.period import Rated, rate_period
from metering.rating.rows import PART_IN_EXACT
from metering.rating.usage import HourUse, Usage
from metering.rating.windows import prorated
from metering.state.calendar import period

NOVEMBER, HOUR = period("2023-11"), 3600
MIDDLE = NOVEMBER.starts + 15 * 24 * HOUR
ONCE, TWICE = (Price("unit", (Tier(None, rate * 10**12),), meters=(("m", 10**6),)) for rate in (1, 2))
CATALOG = """
meters: [{id: m, event_type: t, aggregation: sum, value: n, scale: 6}]
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2023-01-01T00:00:00Z
        prices:
          - {id: p, meter: m, model: unit, unit_price: "1"}
      - from: 2023-11-16T00:00:00Z
        prices:
          - {id: p, meter: m, model: unit, unit_price: "2"}
plans: [{id: plan, name: Plan, rate_card: card}, {id: other, name: Other, rate_card: card}]
customers: [{id: a, name: A, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}]
"""


def micro(text: Any) -> int:
    return parse_decimal(str(text), MICRO)


def sizes(*found: str) -> Usage:
    keys = [str(micro(size)) for size in found]
    return Usage("each", sum(map(int, keys)), len(keys), {key: keys.count(key) for key in keys})


def use(at: int, quantity: object) -> HourUse:
    return HourUse(at, "a", "m", (), Usage("sum", micro(quantity), 1))


def closed(*changes: tuple[str, str], used: object = 10) -> Rated:
    """November of the catalog with some texts changed, closed."""
    text = CATALOG
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    members = load_texts({"catalog.yaml": text}).members("a")
    return rate_period(members, [use(NOVEMBER.starts + 48 * HOUR, used)], NOVEMBER, closing=True)


def amounts(rated: Rated, kind: str) -> dict[tuple[str, int], int]:
    rows = (row for row in rated.rows if row.kind == kind)
    return {(row.price, (row.hour - NOVEMBER.starts) // HOUR): row.amount for row in rows}


# -- limits and discounts ------------------------------------------------------------------------


def test_a_fixed_discount_takes_what_the_percentage_leaves() -> None:
    discounts = [{"id": "a", "amount": "95"}, {"id": "b", "percent": 10}]
    price = load_card({"model": "unit", "unit_price": "1", "discounts": discounts}).price
    found = position(price, {"": Usage("sum", micro(100), 1)})
    assert tuple(found.effects) == (("discount b", -micro(10) * 10**30), ("discount a", -micro(90) * 10**30))
    assert found.amount == 0


FEES = {"model": "percentage", "rate": "10", "min_per_event": "1", "max_per_event": "5"}


def test_events_at_their_limits_are_charged_by_the_rate() -> None:
    (part,) = position(load_card(FEES).price, {"": sizes("10", "50")}).parts
    assert (part.label, part.units, part.amount) == ("", micro(60), 6 * 10**18)


def test_events_beyond_their_limits_show_their_units() -> None:
    found = position(load_card(FEES).price, {"": sizes("1", "2", "2", "60", "70", "20")}).parts
    shown = [(p.label, p.units, p.billed, p.amount) for p in found]
    assert shown == [
        ("", micro(20), micro(20), 2 * 10**18),
        ("minimum", micro(5), micro(3), 3 * 10**18),
        ("maximum", micro(130), micro(2), 10 * 10**18),
    ]


def test_tiers_of_single_events_add_up_in_the_explanation() -> None:
    tiers = [{"up_to": 10, "unit_price": "1", "flat_fee": "3"}, {"unit_price": "0.5"}]
    price = load_card({"model": "graduated", "scope": "event", "tiers": tiers}).price
    first, second = position(price, {"": sizes("12", "12", "4")}).parts
    assert first == (1, micro(24), micro(24), 10**12, micro(9), 33 * 10**18, "")
    assert second == (2, micro(4), micro(4), 5 * 10**11, 0, 2 * 10**18, "")


# -- windows and proration -----------------------------------------------------------------------


def segment(price: Price, starts: int, ends: int | None, change: Change = "continue") -> Segment:
    return Segment(starts, ends, price, "p", Origin("card", "v1", "USD"), change)


def test_the_hour_at_the_end_of_the_last_version_has_no_price() -> None:
    found = hourly_rows([segment(ONCE, 0, MIDDLE)], [use(MIDDLE - HOUR, 1), use(MIDDLE, 1)], NOVEMBER)
    assert [row.hour for row in found.rows] == [MIDDLE - HOUR]
    assert [(missing.hour, missing.reason) for missing in found.unpriced] == [(MIDDLE, "no_price")]


@pytest.mark.parametrize(("switch", "amount"), [(NOVEMBER.ends - HOUR, 2), (NOVEMBER.ends, 1)])
def test_a_retroactive_version_of_the_next_period_leaves_this_one(switch: int, amount: int) -> None:
    segments = [segment(ONCE, 0, switch), segment(TWICE, switch, None, "retroactive")]
    (row,) = hourly_rows(segments, [use(MIDDLE, 1)], NOVEMBER).rows
    assert row.amount == micro(amount)


def test_bounds_that_shrink_to_nothing_still_rise() -> None:
    price = Price("graduated", (Tier(1, 1), Tier(2, 2), Tier(None, 3)), proration="tiers")
    assert [tier.up_to for tier in prorated(price, 1, 10).tiers] == [1, 2, None]


@pytest.mark.parametrize("active", [-1, 0, 10, 11])
def test_a_price_is_prorated_only_for_a_part_of_the_period(active: int) -> None:
    price = Price("graduated", (Tier(1000, 1, 50), Tier(None, 2)), proration="tiers")
    assert prorated(price, active, 10) == price


# -- fees, minimums, lines -----------------------------------------------------------------------

VERSIONS = ('unit_price: "1"}\n', 'unit_price: "2"}\n')


def with_fees(first: str, second: str) -> tuple[tuple[str, str], ...]:
    """Both versions have a fee `f`."""
    return tuple(
        (end, f"{end}          - {{id: f, model: flat, {fee}}}\n")
        for end, fee in zip(VERSIONS, (first, second), strict=True)
    )


def test_a_fee_that_is_not_prorated_is_charged_once() -> None:
    in_advance = closed(*with_fees('amount: "30", prorate: false', 'amount: "40", prorate: false'))
    assert amounts(in_advance, "flat") == {("f", 0): micro(30)}
    arrears = "prorate: false, billed: arrears"
    at_the_end = closed(*with_fees(f'amount: "30", {arrears}', f'amount: "40", {arrears}'))
    assert amounts(at_the_end, "flat") == {("f", 719): micro(40)}


PLAN = "name: Plan, rate_card: card"
WHOLE_MINIMUM = 'minimum: {amount: "100", prorate: false}'


def test_a_customer_that_ended_when_the_period_began_owes_no_minimum() -> None:
    end = ("start: 2023-01-01T00:00:00Z}", "start: 2023-01-01T00:00:00Z, end: 2023-11-01T00:00:00Z}")
    text = CATALOG.replace(*end).replace(PLAN, f"{PLAN}, {WHOLE_MINIMUM}")
    members = load_texts({"catalog.yaml": text}).members("a")
    assert rate_period(members, [], NOVEMBER, closing=True).rows == []
    hour_more = load_texts({"catalog.yaml": text.replace("11-01T00", "11-01T01")}).members("a")
    (line,) = rate_period(hour_more, [], NOVEMBER, closing=True).rows
    assert line.amount == micro(100)


def test_the_larger_of_two_minimums_that_are_not_prorated_is_due() -> None:
    plans = "plans: [{plan: plan, from: 2023-01-01T00:00:00Z}, {plan: other, from: 2023-11-10T00:00:00Z}]"
    smaller = WHOLE_MINIMUM.replace("100", "60")
    found = closed(
        (PLAN, f"{PLAN}, {WHOLE_MINIMUM}"),
        ("name: Other, rate_card: card", f"name: Other, rate_card: card, {smaller}"),
        ("plan: plan, currency", f"{plans}, currency"),
    )
    assert amounts(found, "true_up") == {("minimum", 719): micro(90)}


def test_of_two_minimums_of_the_same_price_only_the_larger_is_paid() -> None:
    found = closed(
        ('unit_price: "1"}', 'unit_price: "1", minimum: "50"}'),
        ('unit_price: "2"}', 'unit_price: "2", minimum: "50"}'),
        (PLAN, f'{PLAN}, minimum: {{amount: "80", of: [p]}}'),
    )
    assert sum(row.amount for row in found.rows) == micro(80)


EVERYTHING = (
    *with_fees('amount: "10"', 'amount: "20", billed: arrears'),
    ("plans:", "          - {id: s, model: percent_of, rate: 3}\nplans:"),
    (PLAN, f'{PLAN}, cap: "5000", minimum: {{amount: "5000"}}, discounts: [%s]'),
    ("%s", '{id: x, percent: "12.5"}, {id: y, percent: "7.3"}, {id: z, amount: "0.01"}'),
    ("start: 2023-01-01T00:00:00Z}", "start: 2023-11-02T07:00:00Z}"),
)


@pytest.mark.parametrize("used", ["0.000007", "33.333333", "70"])
def test_every_line_is_explained_to_a_micro_unit(used: str) -> None:
    found = closed(*EVERYTHING, used=used).rows
    assert {"usage", "flat", "discount", "true_up"} <= {row.kind for row in found}
    for row in found:
        assert all(p.amount == p.billed * p.unit_price + p.flat_fee * 10**12 for p in row.slices)
        exact = sum(p.amount for p in row.slices) * PART_IN_EXACT + sum(e for _, e in row.effects)
        assert row.amount * EXACT_IN_MICRO == exact + row.rounding
        assert abs(row.rounding) <= EXACT_IN_MICRO, row.price


def test_a_prorated_fee_says_for_how_many_seconds() -> None:
    found = closed(*EVERYTHING)
    named = {row.hour: [name for name, _ in row.effects] for row in found.rows if row.kind == "flat"}
    began = NOVEMBER.starts + 31 * HOUR
    assert named == {
        began: [f"{MIDDLE - began} of {NOVEMBER.seconds} s"],
        NOVEMBER.ends - HOUR: [f"{NOVEMBER.ends - MIDDLE} of {NOVEMBER.seconds} s"],
    }


def test_a_quantity_below_zero_costs_nothing() -> None:
    assert [charge(ONCE, quantity) for quantity in (-1, 0, 1)] == [0, 0, 1]
