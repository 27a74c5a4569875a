"""Prices of single events: they need each event's size, not only the sum.

The state is the multiset of sizes (`each`) or the units at each price (`priced`), which merges
exactly; so a new price can rate old usage, and the order of events does not matter.
"""

from collections.abc import Callable, Iterable

from metering.rating.cards import ONE, Price
from metering.rating.parts import TierPart, part
from metering.rating.usage import Usage


def sizes(usage: Usage) -> Iterable[tuple[int, int]]:
    """Event sizes in micro-units with their number, smallest first."""
    if usage.kind != "each":
        raise ValueError(f"a price of single events needs a meter of aggregation `each`, not {usage.kind}")
    return sorted((int(size), count) for size, count in usage.values.items())


def dynamic(usage: Usage) -> list[TierPart]:
    """The price stands on the event: one part for each price, highest first."""
    if usage.kind != "priced":
        raise ValueError(f"a dynamic price needs a meter of aggregation `priced`, not {usage.kind}")
    by_price = sorted(((int(price), units) for price, units in usage.values.items()), reverse=True)
    return [part(1, units, units, price, 0) for price, units in by_price]


def each(rate: Callable[[int], list[TierPart]], usage: Usage) -> list[TierPart]:
    """Tiers that each event runs through alone: the parts of all events, tier by tier."""
    found: dict[int, TierPart] = {}
    for size, count in sizes(usage):
        for one in rate(size):
            held = found.get(one.tier, TierPart(one.tier, 0, 0, one.unit_price, 0, 0))
            found[one.tier] = TierPart(
                one.tier,
                held.units + count * one.units,
                held.billed + count * one.billed,
                one.unit_price,
                held.flat_fee + count * one.flat_fee,
                held.amount + count * one.amount,
            )
    return [found[tier] for tier in sorted(found)]


def fees(price: Price, rate: int, usage: Usage) -> list[TierPart]:
    """A percentage of each event's amount, or its duration in increments."""
    if price.model == "increment":
        return _increments(price, rate, usage)
    if price.event.minimum is None and price.event.maximum is None and usage.kind != "each":
        return [part(1, usage.quantity, usage.quantity, rate, price.event.fixed * usage.events)]
    return _clamped(price, rate, usage)


def _increments(price: Price, rate: int, usage: Usage) -> list[TierPart]:
    """A first interval of `least`, then whole increments; the connection fee once an event.

    Σ of rounded parts of a session would be more than the session: an event is a whole session.
    """
    size, least = price.event.size, price.event.least
    units = billed = 0
    for duration, count in sizes(usage):
        units += duration * count
        billed += (least + -(-max(0, duration - least) // size) * size) * count
    return [part(1, units, billed, rate, price.event.fixed * usage.events)]


def _clamped(price: Price, rate: int, usage: Usage) -> list[TierPart]:
    """Events between the limits by the rate, those beyond at the limit: up to three parts."""
    by_rate = at_least = at_most = (0, 0)  # units, events
    low, high = price.event.minimum, price.event.maximum
    for size, count in sizes(usage):
        fee = part(1, size, size, rate, price.event.fixed).amount
        if low is not None and fee < low * ONE**2:
            at_least = (at_least[0] + size * count, at_least[1] + count)
        elif high is not None and fee > high * ONE**2:
            at_most = (at_most[0] + size * count, at_most[1] + count)
        else:
            by_rate = (by_rate[0] + size * count, by_rate[1] + count)
    found = [part(1, by_rate[0], by_rate[0], rate, price.event.fixed * by_rate[1])]
    for label, limit, (units, count) in (("minimum", low, at_least), ("maximum", high, at_most)):
        if count and limit is not None:
            found.append(part(1, units, count * ONE, limit * ONE, 0, label))
    return [p for p in found if p.units or p.amount]
