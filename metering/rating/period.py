"""A billing period of an account: every row of every price, from usage to true-up.

An account is one customer, or a pool of customers that run through the tiers together.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from metering.rating.flats import flat_rows
from metering.rating.hourly import Carry, HourlyRows, Walk, by_hour, carries, hourly_rows
from metering.rating.lines import spend_lines
from metering.rating.rows import ChargeRow, Unpriced
from metering.rating.terms import Period, Span, Terms
from metering.rating.usage import HourUse


class Begun(NamedTuple):
    """How far the prices of a period were walked through: all usage before an hour."""

    hour: int
    walks: Mapping[str, Walk]

    @property
    def values(self) -> int:
        """Distinct values that are kept in it."""
        return sum(len(usage.values) for walk in self.walks.values() for usage in walk.used.values())


class Rated(NamedTuple):
    """A rated period: its rows, the usage without a price, and the windows that go on.

    Usage rows and `unpriced` are complete from the hour `since` on; earlier ones are as they were.
    """

    rows: list[ChargeRow]
    unpriced: list[Unpriced]
    carries: dict[str, Carry]
    since: int
    begun: Begun | None = None


def rate_period(
    members: Mapping[str, Terms],
    uses: Iterable[HourUse],
    period: Period,
    *,
    carried: Mapping[str, Carry] | None = None,
    closing: bool = False,
    since: int = 0,
    begun: Begun | None = None,
    keep: int | None = None,
) -> Rated:
    """Rate one period of an account.

    `members` are the terms of the account's customers; a pool's members share one agreement. The
    rows are a function of the set of usage, whatever order it came in. Rows of hours before `since`
    may be left out, because nothing earlier has changed.

    With what another call kept in `begun`, under the same terms, `uses` are those from its hour on; not
    where lines need all hours. The hour `keep` is where a later call may begin.
    """
    if needs_all_hours(members, period, closing=closing):
        assert begun is None, "earlier hours are needed as well"
        since = 0
    routed, unpriced = _route(members, by_hour(uses))
    found: dict[str, HourlyRows] = {}
    agreement = next(iter(members.values())).agreement
    active = _active(members, period)
    walks = begun.walks if begun is not None else {}
    for price in sorted(routed.keys() | (carried or {}).keys() | walks.keys()):
        found[price] = hourly_rows(
            agreement.segments(price),
            routed.get(price, ()),
            period,
            active=active,
            carry=(carried or {}).get(price),
            since=since,
            begun=walks.get(price),
            keep=keep,
        )
    rows = [row for made in found.values() for row in made.rows]
    unpriced += [missing for made in found.values() for missing in made.unpriced]
    for terms in members.values():
        own = [row for row in rows if row.customer == terms.customer]
        own += flat_rows(terms, period, closing=closing)
        own += spend_lines(terms, own, period, closing=closing)
        rows += [row for row in own if row.kind != "usage"]
    kept = {price: made.kept for price, made in found.items() if made.kept is not None}
    return Rated(rows, unpriced, carries(found), since, Begun(keep, kept) if keep is not None else None)


def needs_all_hours(members: Mapping[str, Terms], period: Period, *, closing: bool = False) -> bool:
    """Whether lines follow from what every hour came to; a true-up only does at the close."""
    return any(_needs_all_hours(terms, period, closing) for terms in members.values())


def _needs_all_hours(terms: Terms, period: Period, closing: bool) -> bool:
    spans = terms.agreement.within(period.starts, period.ends)
    lines = any(s.shares or s.discounts or s.cap is not None for s in spans)
    return lines or (closing and any(s.minimums for s in spans))


def _active(members: Mapping[str, Terms], period: Period) -> tuple[int, int]:
    parts = [terms.active(period) for terms in members.values()]
    return min(first for first, _ in parts), max(last for _, last in parts)


def _route(
    members: Mapping[str, Terms], uses: Sequence[HourUse]
) -> tuple[dict[str, list[HourUse]], list[Unpriced]]:
    """Each use to the price that reads it, or to an error that says why there is none."""
    routed: defaultdict[str, list[HourUse]] = defaultdict(list)
    unpriced = []
    for use in uses:
        span = members[use.customer].agreement.at(use.hour)
        price = price_for(span, use) if span is not None else None
        if price is not None:
            routed[price].append(use)
        elif span is None or use.meter not in span.free:
            unpriced.append(_no_price(span, use))
    return routed, unpriced


def price_for(span: Span, use: HourUse) -> str | None:
    """The price of a span that reads a use."""
    for name in span.by_meter.get(use.meter, ()):
        where = span.prices[name].where
        if not where:
            return name
        values = dict(use.dimensions)
        if all(values.get(dimension) in wanted for dimension, wanted in where):
            return name
    return None


def _no_price(span: Span | None, use: HourUse) -> Unpriced:
    if span is None:
        detail = "No plan or version of a rate card covers this hour; add one that starts earlier."
    elif span.by_meter.get(use.meter):
        values = ", ".join(f"{name} {value}" for name, value in use.dimensions)
        detail = f"No price of the rate card takes {values}; widen its `where`, or add one."
    else:
        detail = "The customer's rate card has no price for this meter; add one."
    return Unpriced(use.customer, use.meter, use.hour, use.usage.quantity, "no_price", detail)
