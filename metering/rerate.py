"""A whole period rated again from the books' hourly totals, coarsely: no hour-by-hour rows.

Because hourly charges telescope, only the instants at which a price, a plan or a window changes have
to be kept apart; between them usage is added up in ClickHouse. The totals are exactly those of the
hourly rows.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from metering.bulk import rate_plain
from metering.catalog.resolved import Catalog
from metering.rating.money import MICRO, parse_decimal
from metering.rating.period import rate_period
from metering.rating.rows import Unpriced
from metering.rating.terms import Period
from metering.rating.usage import HourUse, Usage
from metering.rating.windows import DAY, HOUR
from metering.records import HourlyTotal
from metering.state.totals import usage_of

_ADDED_UP = "('sum', 'count', 'average')"


class Rerated(NamedTuple):
    """Micro-units by customer and price, and the usage without a price."""

    amounts: dict[tuple[str, str], int]
    unpriced: list[Unpriced]


def rerate(catalog: Catalog, uses: Iterable[HourUse], period: Period, *, closing: bool = True) -> Rerated:
    """What a period comes to under a catalog: closed, or as it stands while it is open."""
    plain = rate_plain(catalog, uses, period)
    by_account: defaultdict[str, list[HourUse]] = defaultdict(list)
    for use in plain.left:
        by_account[catalog.account_of(use.customer)].append(use)
    amounts: defaultdict[tuple[str, str], int] = defaultdict(int, plain.amounts)
    done = {customer for customer, _ in plain.amounts}  # plain customers have no fees either
    unpriced: list[Unpriced] = []
    for account in (by_account.keys() | catalog.accounts().keys()) - done:
        members = catalog.members(account)
        if not members:
            unpriced += [_unknown(use) for use in by_account[account]]
            continue
        rated = rate_period(members, by_account.get(account, ()), period, closing=closing)
        unpriced += rated.unpriced
        for row in rated.rows:
            amounts[row.customer, row.price] += row.amount
    return Rerated(dict(amounts), unpriced)


def _unknown(use: HourUse) -> Unpriced:
    detail = f"Customer `{use.customer}` is not in this catalog."
    return Unpriced(use.customer, use.meter, use.hour, use.usage.quantity, "unknown_customer", detail)


def cuts(period: Period, *catalogs: Catalog) -> list[int]:
    """The instants of a period that must be kept apart under some catalogs (epoch s)."""
    return sorted(set().union(*(_cuts(catalog, period) for catalog in catalogs)))


def _cuts(catalog: Catalog, period: Period) -> set[int]:
    found = {period.starts}
    agreements = {id(t.agreement): t.agreement for m in catalog.accounts().values() for t in m.values()}
    scopes = set()
    for agreement in agreements.values():
        for span in agreement.within(period.starts, period.ends):
            found.add(max(span.starts, period.starts))
            scopes |= {price.scope for price in span.prices.values()}
    if "hour" in scopes or any(len(m) > 1 for m in catalog.accounts().values()):
        return set(range(period.starts, period.ends, HOUR))  # a pool shares its tiers hour by hour
    if "day" in scopes:
        found |= set(range(period.starts, period.ends, DAY))
    return found


def read_usage(client: Any, apart: list[int], period: Period, customer: str = "") -> Iterator[HourUse]:
    """The usage of a period from `hourly_current`, added up between the instants to be kept apart."""
    parameters = {"starts": period.starts, "ends": period.ends, "customer": customer, "cuts": apart}
    where = "hour >= {starts:UInt32} AND hour < {ends:UInt32}"
    where += " AND customer = {customer:String}" if customer else ""
    begun = "toUInt32(arrayCount(c -> c <= toUnixTimestamp(hour), {cuts:Array(UInt32)}))"
    cut = f"arrayElement({{cuts:Array(UInt32)}}, {begun})"
    added = client.query(
        f"SELECT customer, meter, dimensions, {cut} AS cut, aggregation, sum(quantity), sum(events)"
        f" FROM hourly_current WHERE {where} AND aggregation IN {_ADDED_UP}"
        " GROUP BY customer, meter, dimensions, cut, aggregation",
        parameters=parameters,
    )
    for name, meter, dimensions, at, kind, quantity, events in added.result_rows:
        usage = Usage(kind, parse_decimal(quantity, MICRO), int(events))
        yield HourUse(int(at), name, meter, _dimensions(dimensions), usage)
    whole = client.query(
        "SELECT customer, meter, dimensions, toUnixTimestamp(hour), aggregation, quantity, events,"
        " value_keys, value_weights, toUnixTimestamp64Milli(last_time), last_id"
        f" FROM hourly_current WHERE {where} AND aggregation NOT IN {_ADDED_UP}",
        parameters=parameters,
    )
    for row in whole.result_rows:
        yield _whole(*row)


def _whole(
    customer: str,
    meter: str,
    dimensions: str,
    hour: int,
    kind: Any,
    quantity: Decimal,
    events: int,
    keys: list[str],
    weights: list[Decimal],
    last_time: int,
    last_id: str,
) -> HourUse:
    texts = (str(w) if kind == "priced" else str(int(w)) for w in weights)
    values = dict(zip(keys, texts, strict=True))
    record = HourlyTotal(
        customer, meter, hour, str(quantity), events, "0", 0, {}, kind, values, (int(last_time), last_id)
    )
    return HourUse(int(hour), customer, meter, _dimensions(dimensions), usage_of(record))


def _dimensions(text: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(json.loads(text).items()))
