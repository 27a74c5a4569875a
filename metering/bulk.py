"""Many customers' plain prices rated at once with numpy; whatever is not plain is left to the reference.

A meter is plain under an agreement when one price reads it, by period, without cells, filters, weights
or proration, and no price change begins the tiers anew. Most customers of a large book are plain.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from metering.catalog.resolved import Catalog
from metering.rating.cards import ONE, Price
from metering.rating.terms import Agreement, Period, Span
from metering.rating.usage import ADDITIVE, HourUse
from metering.rating.vector import charges

LARGEST = 2**62


class Plain(NamedTuple):
    """One price through the stretches of a period: where each begins (epoch s), and its version."""

    price_id: str
    starts: tuple[int, ...]
    prices: tuple[Price, ...]


class Split(NamedTuple):
    """Amounts of plain usage by customer and price (micro-units), and the usage that is left."""

    amounts: dict[tuple[str, str], int]
    left: list[HourUse]


def rate_plain(catalog: Catalog, uses: Iterable[HourUse], period: Period) -> Split:
    """Rate what is plain; customers with anything else are left as a whole."""
    plains: dict[int, dict[str, Plain]] = {}
    by_customer: defaultdict[str, list[HourUse]] = defaultdict(list)
    for use in uses:
        by_customer[use.customer].append(use)
    totals: defaultdict[tuple[int, str], dict[str, list[int]]] = defaultdict(dict)
    left: list[HourUse] = []
    for customer, found in by_customer.items():
        agreement = _alone(catalog, customer)
        if agreement is not None and id(agreement) not in plains:
            plains[id(agreement)] = plain_meters(agreement, period)
        known = plains.get(id(agreement), {}) if agreement is not None else {}
        sums = _sums(known, found)
        if sums is None:
            left += found
            continue
        for meter, quantities in sums.items():
            totals[id(agreement), meter][customer] = quantities
    amounts: dict[tuple[str, str], int] = {}
    for (place, meter), by_name in totals.items():
        amounts |= _rate(plains[place][meter], by_name)
    return Split(amounts, left)


def _alone(catalog: Catalog, customer: str) -> Agreement | None:
    members = catalog.members(catalog.account_of(customer))
    return members[customer].agreement if len(members) == 1 else None


def plain_meters(agreement: Agreement, period: Period) -> dict[str, Plain]:
    """The meters of an agreement that are plain in a period; none when lines follow from spend."""
    spans = agreement.within(period.starts, period.ends)
    if not spans or spans[0].starts > period.starts or any(_has_lines(span) for span in spans):
        return {}
    found = {}
    for meter in spans[0].by_meter:
        names = {span.by_meter.get(meter) for span in spans}
        name = next(iter(names)) if len(names) == 1 else None
        if name and len(name) == 1 and all(_is_plain(span, name[0], period) for span in spans):
            prices = tuple(span.prices[name[0]] for span in spans)
            found[meter] = Plain(name[0], tuple(span.starts for span in spans), prices)
    return found


def _has_lines(span: Span) -> bool:
    return bool(span.flats or span.shares or span.discounts or span.minimums or span.cap is not None)


def _is_plain(span: Span, name: str, period: Period) -> bool:
    price = span.prices.get(name)
    if price is None or (span.change != "continue" and span.starts > period.starts):
        return False
    whole = price.scope == "period" and price.proration == "none" and len(price.meters) == 1
    return whole and price.meters[0][1] == ONE and not (price.cells or price.where)


def _sums(known: Mapping[str, Plain], uses: list[HourUse]) -> dict[str, list[int]] | None:
    """Quantities by meter and stretch; None when something is not plain."""
    sums: dict[str, list[int]] = {}
    for use in uses:
        plain = known.get(use.meter)
        if plain is None or use.usage.kind not in ADDITIVE or abs(use.usage.quantity) >= LARGEST:
            return None
        quantities = sums.setdefault(use.meter, [0] * len(plain.starts))
        stretch = sum(1 for start in plain.starts if start <= use.hour) - 1
        quantities[stretch] += use.usage.quantity
    return None if any(sum(map(abs, found)) >= LARGEST for found in sums.values()) else sums


def _rate(plain: Plain, quantities: Mapping[str, list[int]]) -> dict[tuple[str, str], int]:
    """F(after) - F(before) of each stretch under its own version, for all customers at once."""
    after = np.cumsum(np.array(list(quantities.values()), np.int64), axis=1)
    total = np.zeros(len(after), np.int64)
    before = np.zeros(len(after), np.int64)
    for number, price in enumerate(plain.prices):
        total += charges(price, after[:, number]) - charges(price, before)
        before = after[:, number].copy()
    return {(name, plain.price_id): int(amount) for name, amount in zip(quantities, total, strict=True)}
