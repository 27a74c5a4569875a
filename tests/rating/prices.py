"""Random prices of every model with usage that fits them, and the naive charge of each.

The naive charge is written with fractions, as a person would; it shares no code with the engine.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

from hypothesis import strategies as st

from metering.rating.cards import (
    ONE,
    RATE_ONE,
    Cell,
    Discount,
    EventFee,
    Model,
    Origin,
    Price,
    Segment,
    Tier,
)
from metering.rating.usage import HourUse, Usage

ORIGIN = Origin("card", "v1", "USD")
TIERED: list[Model] = [
    "unit",
    "graduated",
    "volume",
    "package",
    "graduated_package",
    "stairstep",
    "stairstep_accumulate",
]
PER_EVENT: list[Model] = ["percentage", "increment"]
EDGES = [0, 1, ONE - 1, ONE, 2**53 - 1, 2**53, 2**53 + 1, 10**24 - 1]


def segment(price: Price, starts: int = 0, ends: int | None = None, **changes: Any) -> Segment:
    return replace(Segment(starts, ends, price, "p", ORIGIN), **changes)


@st.composite
def tiers(draw: st.DrawFn, model: Model) -> tuple[Tier, ...]:
    count = 1 if model in ("unit", "package", "percentage", "increment") else draw(st.integers(1, 4))
    bounds = sorted(draw(st.sets(st.integers(1, 3000 * ONE), min_size=count - 1, max_size=count - 1)))
    priced = not model.startswith("stairstep")
    return tuple(
        Tier(bound, draw(st.integers(0, 10**13)) if priced else 0, draw(st.integers(0, 10**8)))
        for bound in [*bounds, None]
    )


@st.composite
def effects(draw: st.DrawFn, price: Price) -> Price:
    limit = st.one_of(st.none(), st.integers(0, 10**10))
    percent = draw(st.integers(0, ONE))
    discounts = draw(st.sampled_from([(), (Discount("a", percent),), (Discount("b", amount=10**7),)]))
    return replace(
        price,
        maximum=draw(limit),
        cap=draw(limit),
        discounts=discounts,
        conversion=draw(st.sampled_from([RATE_ONE, 4 * 10**10, 1, 333_333_333_333])),
    )


@st.composite
def tiered_prices(draw: st.DrawFn, models: list[Model] = TIERED) -> Price:
    model = draw(st.sampled_from(models))
    package = draw(st.integers(1, 500 * ONE)) if "package" in model else 0
    price = Price(
        model,
        draw(tiers(model)),
        package=package,
        min_packages=draw(st.integers(0, 3)) if model == "package" else 0,
        included=draw(st.sampled_from([0, 0, 700 * ONE])),
    )
    return draw(effects(price))


@st.composite
def event_prices(draw: st.DrawFn) -> Price:
    model = draw(st.sampled_from(PER_EVENT))
    low = draw(st.one_of(st.none(), st.integers(0, 10**7)))
    high = draw(st.one_of(st.none(), st.integers(low or 0, 10**9)))
    if model == "increment":
        size, least = draw(st.integers(1, 60 * ONE)), draw(st.integers(0, 60 * ONE))
        fee = EventFee(draw(st.integers(0, 10**7)), size=size, least=least)
    else:
        fee = EventFee(draw(st.integers(0, 10**7)), low, high)
    return draw(effects(Price(model, draw(tiers(model)), event=fee)))


@st.composite
def quantities(draw: st.DrawFn, price: Price) -> int:
    edges = list(EDGES)
    for tier in price.tiers:
        if tier.up_to is not None:
            edges += [tier.up_to + price.included + step for step in (-1, 0, 1)]
    if price.package:
        edges += [price.package * n + step for n in (1, 2) for step in (-1, 0, 1)]
    return max(0, draw(st.one_of(st.sampled_from(edges), st.integers(0, 4000 * ONE))))


def event_usage(sizes: list[int]) -> Usage:
    values = {str(size): sizes.count(size) for size in sizes}
    return Usage("each", sum(sizes), len(sizes), values)


@dataclass
class Month:
    """Hours of usage for one price."""

    price: Price
    hours: list[Usage]

    def uses(self) -> list[HourUse]:
        return [HourUse(h * 3600, "a", "m", (), usage) for h, usage in enumerate(self.hours)]


@st.composite
def months(draw: st.DrawFn, size: int = 20) -> Month:
    """A price of any model with a month that fits it."""
    kind = draw(st.sampled_from(["tiered", "event", "gauge", "dynamic"]))
    amounts = st.lists(st.integers(0, 500 * ONE), min_size=1, max_size=size)
    if kind == "tiered":
        return Month(draw(tiered_prices()), [Usage("sum", q, 1) for q in draw(amounts)])
    if kind == "event":
        sizes = st.lists(st.integers(0, 300 * ONE), min_size=1, max_size=4)
        hours = draw(st.lists(sizes, min_size=1, max_size=size))
        return Month(draw(event_prices()), [event_usage(hour) for hour in hours])
    if kind == "dynamic":
        pairs = st.dictionaries(
            st.integers(0, 10**13).map(str), st.integers(0, 10**9), min_size=1, max_size=3
        )
        found = draw(st.lists(pairs, min_size=1, max_size=size))
        return Month(
            draw(effects(Price("dynamic"))), [Usage("priced", sum(v.values()), len(v), v) for v in found]
        )
    gauge = draw(st.sampled_from(["max", "min", "latest", "average"]))
    return Month(
        draw(tiered_prices()),
        [Usage(gauge, q, 1, last=(h, "")) for h, q in enumerate(draw(amounts))],  # type: ignore[arg-type]
    )


def matrix_price(rates: dict[tuple[str | None, ...], int]) -> Price:
    cells = tuple(Cell(when, (Tier(None, rate),)) for when, rate in rates.items())
    return Price("unit", dimensions=("region", "size"), cells=cells)


# -- the naive charge ----------------------------------------------------------------------------


def naive(price: Price, usage: Usage) -> Fraction:
    """The exact charge before rounding."""
    return _limited(price, _gross(price, usage) * Fraction(price.conversion, RATE_ONE))


def _gross(price: Price, usage: Usage) -> Fraction:
    if price.model == "dynamic":
        return sum(
            (Fraction(int(p), 10**12) * Fraction(q, ONE) for p, q in usage.values.items()), Fraction(0)
        )
    if price.model in ("percentage", "increment"):
        fees = (_event(price, Fraction(int(size), ONE)) * n for size, n in usage.values.items())
        return sum(fees, Fraction(0))
    quantity = Fraction(usage.quantity, ONE)
    if usage.kind == "average":
        quantity = Fraction(round_half_away(quantity / usage.events), ONE)
    return _tiered(price, quantity)


def _event(price: Price, size: Fraction) -> Fraction:
    rate, fixed = Fraction(price.tiers[0].unit_price, 10**12), Fraction(price.event.fixed, ONE)
    if price.model == "increment":
        step = Fraction(price.event.size, ONE)
        first = Fraction(price.event.least, ONE)
        return (first + ceil(max(Fraction(0), size - first) / step) * step) * rate + fixed
    fee = size * rate + fixed
    if price.event.minimum is not None:
        fee = max(fee, Fraction(price.event.minimum, ONE))
    return fee if price.event.maximum is None else min(fee, Fraction(price.event.maximum, ONE))


def _tiered(price: Price, used: Fraction) -> Fraction:
    used -= Fraction(price.included, ONE)
    if used <= 0:
        return Fraction(0)
    total, start = Fraction(0), Fraction(0)
    for tier in price.tiers:
        end = None if tier.up_to is None else Fraction(tier.up_to, ONE)
        if price.model in ("volume", "stairstep"):
            if end is None or used <= end:
                return _tier(price, tier, used)
        elif used > start:
            total += _tier(price, tier, (used if end is None else min(used, end)) - start)
            start = end if end is not None else start
    return total


def _tier(price: Price, tier: Tier, units: Fraction) -> Fraction:
    if price.package:
        units = Fraction(max(ceil(units / Fraction(price.package, ONE)), price.min_packages))
    return units * Fraction(tier.unit_price, 10**12) + Fraction(tier.flat_fee, ONE)


def _limited(price: Price, amount: Fraction) -> Fraction:
    if price.maximum is not None:
        amount = min(amount, Fraction(price.maximum, ONE))
    amount -= sum(amount * Fraction(d.percent, ONE) for d in price.discounts)
    for discount in price.discounts:
        amount -= min(amount, Fraction(discount.amount, ONE))
    return amount if price.cap is None else min(amount, Fraction(price.cap, ONE))


def round_half_away(amount: Fraction) -> int:
    whole = int(abs(amount) * ONE + Fraction(1, 2))
    return whole if amount >= 0 else -whole
