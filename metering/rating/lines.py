"""Lines on what a customer's prices come to: shares of spend, discounts, a cap, true-ups.

Each is a function of the cumulative spend, walked hour by hour, so it telescopes like a price, and
later hours never change earlier ones. The order is fixed: shares of other charges, percent
discounts, fixed discounts, cap, and at the close the true-up to a minimum.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from metering.rating.cards import ONE, PERCENT_ONE, RATE_ONE, Discount, Minimum, PercentOf, Price, Tier
from metering.rating.charge import EXACT_IN_MICRO, START, Position, position, round_exact
from metering.rating.parts import part
from metering.rating.rows import PART_IN_EXACT, ChargeRow, Kind, Label, row_between
from metering.rating.terms import Period, Span, Terms
from metering.rating.usage import Usage
from metering.rating.windows import HOUR, proportion

Amounts = Mapping[int, int]  # micro-units by hour
Function = Callable[[int], Position]  # cumulative spend (micro-units) to the line's charge
CAP = "cap"


def spend_lines(terms: Terms, rows: list[ChargeRow], period: Period, *, closing: bool) -> list[ChargeRow]:
    """The lines that follow from a customer's charges of a period."""
    made: list[ChargeRow] = []
    spans = terms.agreement.within(period.starts, period.ends)
    for name in _in_order(spans):
        base = _by_hour(r for r in [*rows, *made] if _is_shared(terms, name, r))
        made += _line(terms, name, "share", base, partial(_share, name=name))
    gross = _by_hour([*rows, *made])
    for name in _discount_ids(spans, percent=True):
        made += _line(terms, name, "discount", gross, partial(_percent, name=name))
    for name in _discount_ids(spans, percent=False):
        rest = _by_hour([*rows, *made])
        made += _line(terms, name, "discount", rest, partial(_fixed, name=name))
    if any(span.cap is not None for span in spans):
        made += _line(terms, CAP, "cap", _by_hour([*rows, *made]), _cap)
    if closing:
        made += true_ups(terms, [*rows, *made], period)
    return made


def _by_hour(rows: Iterable[ChargeRow]) -> Amounts:
    found: defaultdict[int, int] = defaultdict(int)
    for row in rows:
        found[row.hour] += row.amount
    return found


def _line(
    terms: Terms, name: str, kind: Kind, base: Amounts, function_at: Callable[[Span], Function | None]
) -> list[ChargeRow]:
    """Walk the hours; spend counts towards a line only where the line is in force."""
    rows, spent = [], 0
    for hour in sorted(base):
        span = terms.agreement.at(hour)
        function = function_at(span) if span is not None else None
        if span is None or function is None:
            continue
        before, after = function(spent), function(spent + base[hour])
        spent += base[hour]
        label = Label(terms.customer, name, hour, kind, "", kind, span.origin)
        row = row_between(label, before, after)
        if row.amount or row.slices or row.effects:
            rows.append(row)
    return rows


# -- shares of other charges ---------------------------------------------------------------------


def _in_order(spans: list[Span]) -> list[str]:
    """Shares of all spans, each behind those that it reads in any of them."""
    reads: dict[str, set[str]] = {name: set() for span in spans for name in span.shares}
    for span in spans:
        for name, share in span.shares.items():
            reads[name] |= set(share.of) & reads.keys()
    found: list[str] = []
    while reads:
        ready = [name for name in reads if reads[name] <= set(found)] or [next(iter(reads))]
        found += ready
        for name in ready:
            del reads[name]
    return found


def _is_shared(terms: Terms, name: str, row: ChargeRow) -> bool:
    span = terms.agreement.at(row.hour)
    share = span.shares.get(name) if span is not None else None
    if share is None:
        return False
    return row.price in share.of if share.of else row.kind in ("usage", "flat")


def _share(span: Span, name: str) -> Function | None:
    share = span.shares.get(name)
    if share is None:
        return None
    price = price_of_share(share)
    return lambda spent: position(price, {"": Usage("sum", spent, 1)})


def price_of_share(share: PercentOf) -> Price:
    """A share of spend is a unit price whose quantity is money."""
    return Price("unit", (Tier(None, share.rate),), maximum=share.maximum)


# -- discounts and cap ---------------------------------------------------------------------------


def _discount_ids(spans: list[Span], *, percent: bool) -> list[str]:
    return sorted({d.id for span in spans for d in span.discounts if bool(d.percent) is percent})


def _discount(span: Span, name: str) -> Discount | None:
    return next((d for d in span.discounts if d.id == name), None)


def _percent(span: Span, name: str) -> Function | None:
    """A percentage off, by id behind the ones before it: all together never more than there is."""
    before = 0
    for discount in sorted((d for d in span.discounts if d.percent), key=lambda d: d.id):
        after = min(PERCENT_ONE, before + discount.percent)
        if discount.id == name:
            return partial(_part_off, before=before, after=after)
        before = after
    return None


def _part_off(spent: int, before: int, after: int) -> Position:
    """What lies between two percentages of the sum: rounded at both, so that all of them add up."""
    spent = max(spent, 0)
    found = [part(1, spent, spent, -(after - before) * (RATE_ONE // PERCENT_ONE), 0)]
    low, high = (round_exact(spent * percent * EXACT_IN_MICRO // PERCENT_ONE) for percent in (before, after))
    return Position(found, (), found[0].amount * PART_IN_EXACT, low - high, spent)


def _fixed(span: Span, name: str) -> Function | None:
    discount = _discount(span, name)
    if discount is None:
        return None
    return lambda spent: _lowered(f"discount {name}", spent, -min(max(spent, 0), discount.amount))


def _cap(span: Span) -> Function | None:
    cap = span.cap
    return None if cap is None else lambda spent: _lowered(CAP, spent, min(0, cap - spent))


def _lowered(name: str, spent: int, amount: int) -> Position:
    exact = amount * EXACT_IN_MICRO
    return Position((), ((name, exact),) if exact else (), exact, amount, spent)


# -- the close -----------------------------------------------------------------------------------


def true_ups(terms: Terms, rows: list[ChargeRow], period: Period) -> list[ChargeRow]:
    """What is missing to each minimum; compared before credits, never spread over hours.

    The minima of single prices come first: their true-ups count towards wider ones.
    """
    made: list[ChargeRow] = []
    first, last = terms.active(period)
    if first >= last:
        return made
    wanted: dict[str, list[tuple[Minimum, Span, int]]] = defaultdict(list)
    for span in terms.agreement.within(first, last):
        ends = last if span.ends is None else min(last, span.ends)
        for minimum in span.minimums:
            wanted[minimum.id].append((minimum, span, ends - max(first, span.starts)))
    for name in sorted(wanted, key=lambda n: _width(wanted[n][0][0])):
        found = wanted[name]
        counted = sum(r.amount for r in [*rows, *made] if _counts(terms, name, r))
        due = _due([(m, seconds) for m, _, seconds in found], period)
        if due > counted:
            made.append(_true_up(terms, name, due, counted, found[-1][1], period))
    return made


def _width(minimum: Minimum) -> tuple[bool, int, str]:
    """Narrow minima first: of one price, of several, of all."""
    return (not minimum.of, len(minimum.of), minimum.id)


def _counts(terms: Terms, name: str, row: ChargeRow) -> bool:
    """Whether a row counts towards a minimum: only what falls into its time, and no wider true-up."""
    span = terms.agreement.at(row.hour)
    minimum = next((m for m in span.minimums if m.id == name), None) if span is not None else None
    if span is None or minimum is None:
        return False
    if row.kind == "true_up":
        narrower = next((m for m in span.minimums if m.id == row.price), None)
        return (
            narrower is not None
            and bool(narrower.of)
            and (not minimum.of or set(narrower.of) <= set(minimum.of))
        )
    return not minimum.of or row.price in minimum.of


def _due(found: list[tuple[Minimum, int]], period: Period) -> int:
    prorated = sum(m.amount * seconds for m, seconds in found if m.prorated)
    whole = max((m.amount for m, _ in found if not m.prorated), default=0)
    return proportion(prorated, 1, period.seconds) + whole


def _true_up(terms: Terms, name: str, due: int, counted: int, span: Span, period: Period) -> ChargeRow:
    amount = due - counted
    parts = [part(1, 0, 0, 0, due, "minimum"), part(2, counted, -counted, ONE * ONE, 0, "charged")]
    hour = period.ends - HOUR
    label = Label(terms.customer, name, hour, "true_up", "", "minimum", span.origin)
    return row_between(label, START, Position(parts, (), amount * EXACT_IN_MICRO, amount, 0))
