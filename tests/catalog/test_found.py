"""Defects that were found by looking for them, each with the smallest case that shows it."""

from typing import Any

import pytest

from metering.catalog.diff import affected
from metering.catalog.load import CatalogError, load_texts
from metering.catalog.resolved import Catalog
from metering.rating import load_card
from metering.rating.cards import Origin, Segment
from metering.rating.hourly import hourly_rows
from metering.rating.period import rate_period
from metering.rating.usage import HourUse, Usage
from metering.state.calendar import period
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from tests.state.folding import HOUR, START, catalog, chunk, event, tick
from tests.state.test_corrections import FEES, TEXT, fees, run, total, watermark

NOV, DEC = period("2023-11"), period("2023-12")
BASE = {
    "meters": "{id: m, event_type: t, aggregation: sum, value: n, dimensions: [d], scale: 6}",
    "prices": '{id: p, meter: m, model: unit, unit_price: "1"}',
    "later": "",
    "plan": "",
    "more": "",
    "customer": "plan: plan, start: 2023-01-01T00:00:00Z",
}


def load(**changes: str) -> Catalog:
    f = BASE | changes
    return load_texts(
        {
            "c.yaml": f"""
meters: [{f["meters"]}]
rate_cards: [{{id: card, currency: USD, versions: [{{from: 2023-01-01T00:00:00Z, prices: [{f["prices"]}]}}{f["later"]}]}}]
plans: [{{id: plan, name: P, rate_card: card{f["plan"]}}}]
{f["more"]}
customers: [{{id: a, name: A, currency: USD, {f["customer"]}}}]
"""
        }
    )


def use(quantity: int, at: int = NOV.starts, kind: Any = "sum", d: str = "x") -> HourUse:
    return HourUse(at, "a", "m", (("d", d),), Usage(kind, quantity, 1))


def amounts(catalog: Catalog, *uses: HourUse, closing: bool = True) -> dict[str, int]:
    rows = rate_period(catalog.members("a"), uses, NOV, closing=closing).rows
    return {row.price: row.amount for row in rows}


def test_late_usage_that_passes_the_minimum_takes_the_whole_true_up_back() -> None:
    """A line that is gone when the period is rated again was never taken back."""
    found = fees(FEES, total("2023-11", 0, 600, 1), watermark("2023-11"), total("2023-11", 0, 1000, 2))
    assert found["a", "2023-12", "minimum@2023-11"] == "-10.000000"


def test_late_usage_of_a_customer_that_left_the_catalog_is_an_error_row() -> None:
    """An account without members stopped the rating worker for good."""
    gone = TEXT.replace("  - {id: b, name: B, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}\n", "")
    late = total("2023-11", 1, 600, 2, customer="b")
    run([[total("2023-11", 0, 600, 1)], [watermark("2023-11")], [late]], [TEXT, TEXT, gone])


@pytest.mark.parametrize(("grace", "days", "ticks"), [(24, 36, 0), (240, 37, 1)])
def test_an_id_that_may_be_forgotten_is_not_counted_in_an_open_period_either(
    grace: int, days: int, ticks: int
) -> None:
    """Only closed periods were looked at: no tick in 36 days, or a long grace, and a second copy counted."""
    fold = MeterFold(MeterRules(0, 1, "events", "hourly", "rejected", grace_hours=grace))
    fold.fold([chunk(0, [event(1)], START)], catalog())
    fold.changes()
    fold.fold([chunk(1, [*[tick()] * ticks, event(1)], START + days * 24 * HOUR)], catalog())
    assert fold.counters.accepted == 1


def test_publishing_a_later_version_does_not_end_a_contract_window_today() -> None:
    """The scope was that of the last version, also of one that starts next year."""
    tiers = 'tiers: [{up_to: 10, unit_price: "1"}, {unit_price: "0.5"}]'
    catalog = load(
        prices=f"{{id: p, meter: m, model: graduated, scope: contract, {tiers}}}",
        later=', {from: 2024-06-01T00:00:00Z, prices: [{id: p, meter: m, model: unit, unit_price: "1"}]}',
    )
    november = rate_period(catalog.members("a"), [use(10**7)], NOV, closing=True)
    december = rate_period(catalog.members("a"), [use(10**7, DEC.starts)], DEC, carried=november.carries)
    assert [row.amount for row in december.rows] == [5 * 10**6]


@pytest.mark.parametrize(
    ("meters", "prices", "kind"),
    [
        ("{id: m, event_type: t, aggregation: max, value: n}", '{id: p, meters: [{meter: m, weight: 2}], model: unit, unit_price: "1"}', "max"),
        ("{id: m, event_type: t, aggregation: max, value: n}", '{id: p, meters: [{meter: m, weight: 2}], model: capacity, tiers: [{limits: {m: 5}}, {}]}', "max"),
        (BASE["meters"], '{id: p, meters: [{meter: m, weight: "1e-3"}], model: unit, unit_price: "1"}', "sum"),
    ],
    ids=["gauge", "capacity", "exponent"],
)  # fmt: skip
def test_a_weight_that_cannot_be_exact_is_refused_by_the_catalog(meters: str, prices: str, kind: Any) -> None:
    """It passed the check, and stopped the rating worker."""
    try:
        catalog = load(meters=meters, prices=prices)
    except CatalogError:
        return
    rate_period(catalog.members("a"), [HourUse(NOV.starts, "a", "m", (), Usage(kind, 1, 1))], NOV)


def test_cells_of_different_values_are_different_cells() -> None:
    """Labels are joined by `/`: a/b + c and a + b/c fell into one cell."""
    cells = [
        {"when": {"d": "a/b", "e": "c"}, "unit_price": "1"},
        {"when": {"d": "a", "e": "b/c"}, "unit_price": "5"},
    ]
    price = load_card(
        {"model": "unit", "matrix": {"dimensions": ["d", "e"], "unrated": "error", "cells": cells}}
    ).price
    uses = [HourUse(NOV.starts, "a", "meter", (("d", "a/b"), ("e", "c")), Usage("sum", 10**6, 1))]
    (row,) = hourly_rows([Segment(0, None, price, "p", Origin("c", "v", "USD"))], uses, NOV).rows
    assert row.amount == 10**6


def test_a_price_that_an_override_adds_to_a_priced_meter_is_refused_or_billed() -> None:
    """Overlaps were checked for cards, not behind overrides: `extra` was never billed."""
    added = ', overrides: [{price: extra, replace: true, set: {meter: m, model: unit, unit_price: "9"}}]'
    with pytest.raises(CatalogError):
        load(plan=added)


def test_an_override_of_the_model_keeps_the_condition() -> None:
    """`where` was dropped with the model: the price then took the usage of its neighbour."""
    both = ", ".join(
        f'{{id: {d}, meter: m, model: unit, unit_price: "{n}", where: {{d: [{d}]}}}}'
        for d, n in (("x", 1), ("y", 5))
    )
    try:
        catalog = load(prices=both, plan=', overrides: [{price: x, set: {model: unit, unit_price: "2"}}]')
    except CatalogError:
        return
    assert amounts(catalog, use(10**6, d="y")) == {"y": 5 * 10**6}


def test_a_price_of_the_second_plan_can_be_overridden() -> None:
    """It was checked against the first plan too, although dated behind it."""
    second = '{id: c2, currency: USD, versions: [{from: 2023-01-01T00:00:00Z, prices: [{id: q, meter: m, model: unit, unit_price: "1"}]}]}'
    texts = {
        "c.yaml": f"""
meters: [{BASE["meters"]}]
rate_cards: [{{id: card, currency: USD, versions: [{{from: 2023-01-01T00:00:00Z, prices: [{BASE["prices"]}]}}]}}, {second}]
plans: [{{id: plan, name: P, rate_card: card}}, {{id: p2, name: P, rate_card: c2}}]
customers:
  - {{id: a, name: A, currency: USD, start: 2023-01-01T00:00:00Z,
     plans: [{{plan: plan, from: 2023-01-01T00:00:00Z}}, {{plan: p2, from: 2023-11-16T00:00:00Z}}],
     overrides: [{{price: q, from: 2023-11-16T00:00:00Z, set: {{unit_price: "3"}}}}]}}
"""
    }
    load_texts(texts)


def test_a_price_that_the_plan_adds_can_be_overridden_by_the_customer() -> None:
    """The card has no such price, but the plan has."""
    load(
        meters=BASE["meters"] + ", {id: k, event_type: t, aggregation: count}",
        prices=BASE["prices"] + ", {id: c, meter: k, model: unit, unit_price: '1', where: {}}",
        plan=', overrides: [{price: extra, replace: true, set: {model: flat, amount: "9"}}]',
        customer='plan: plan, start: 2023-01-01T00:00:00Z, overrides: [{price: extra, set: {amount: "3"}}]',
    )


def test_a_minimum_above_the_cap_of_a_plan_is_refused() -> None:
    """The true-up would lift the bill above its cap."""
    with pytest.raises(CatalogError):
        load(plan=', cap: "50", minimum: {amount: "100"}')


def test_two_discounts_of_one_id_in_a_plan_are_refused() -> None:
    """The first was dropped silently."""
    with pytest.raises(CatalogError):
        load(plan=", discounts: [{id: x, percent: 10}, {id: x, percent: 20}]")


def test_discounts_of_a_plan_beyond_everything_are_refused() -> None:
    """The rest was cut silently."""
    with pytest.raises(CatalogError):
        load(plan=", discounts: [{id: x, percent: 60}, {id: y, percent: 60}]")


@pytest.mark.parametrize("bound", ["1e-3", "0.001e0"])
def test_an_exponent_does_not_hide_decimals(bound: str) -> None:
    """Characters behind the point were counted: a bound finer than the meter passed."""
    meters = "{id: m, event_type: t, aggregation: count}"
    with pytest.raises(CatalogError):
        load(
            meters=meters,
            prices=f'{{id: p, meter: m, model: volume, tiers: [{{up_to: "{bound}", unit_price: "1"}}, {{unit_price: "1"}}]}}',
        )


@pytest.mark.parametrize(
    "text",
    [
        "rate_cards: [{id: c, currency: USD, versions: [{from: 2023-13-01T00:00:00Z, prices: []}]}]",
        "plans: [\x01]",
        "? [a]\n: b",
        "plans: [!!int x]",
    ],
)
def test_a_file_that_cannot_be_read_is_a_mistake_with_its_line(text: str) -> None:
    """A traceback instead of file and line."""
    with pytest.raises(CatalogError):
        load_texts({"a.yaml": text})


def test_a_leading_zero_is_not_octal() -> None:
    """YAML 1.1: `unit_price: 010` is 8, and 1:30 is 90; only quoted numbers or plain digits should pass."""
    try:
        catalog = load(prices="{id: p, meter: m, model: unit, unit_price: 010}")
    except CatalogError:
        return
    assert amounts(catalog, use(10**6)) == {"p": 10 * 10**6}


def test_a_new_change_policy_affects_its_customers() -> None:
    """The policy of a version is part of the terms."""
    later = ', {from: 2023-11-16T00:00:00Z, change: %s, prices: [{id: p, meter: m, model: unit, unit_price: "2"}]}'
    assert affected(load(later=later % "continue"), load(later=later % "reset"))


def test_one_price_written_in_two_ways_is_one_version() -> None:
    """The hash was of the text: "1.0" posted every row of open periods again."""
    assert affected(load(), load(prices=BASE["prices"].replace('"1"', '"1.0"'))) == {}


def test_limits_of_a_capacity_rise() -> None:
    """A later tier with lower limits can never be reached."""
    meters = "{id: m, event_type: t, aggregation: max, value: n}"
    with pytest.raises(CatalogError):
        load(
            meters=meters,
            prices="{id: p, meter: m, model: capacity, tiers: [{limits: {m: 5}}, {limits: {m: 3}}, {}]}",
        )


def test_an_empty_condition_is_refused() -> None:
    """It would take nothing: every event becomes an error row."""
    with pytest.raises(CatalogError):
        load(prices='{id: p, meter: m, model: unit, unit_price: "1", where: {d: []}}')
