"""What a plan would do: the meter fold and the rate fold themselves, in memory, over the archive."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from metering.backfill.archive import Archived, Book, plain_of
from metering.catalog.resolved import Catalog
from metering.rating.money import MICRO, parse_decimal
from metering.records import Charge, DeadLetter, HourlyTotal, RatingError, Watermark, decode, encode, version
from metering.state import calendar
from metering.state.accounts import Accounts
from metering.state.calendar import HOUR_MS, is_closed, period_of
from metering.state.fold import Changes, Chunk
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.rate_fold import RateFold, RateRules

_encode = msgspec.json.Encoder(order="deterministic").encode
TotalPlace = tuple[str, str, int, tuple[tuple[str, str], ...]]  # customer, meter, hour, dimensions


class Moment(NamedTuple):
    """How far time has come in the partition of an account, epoch ms.

    `begun` is the first append of its log, `now` the append of what would be sent.
    """

    begun: int
    now: int
    watermark: int


class Metered(NamedTuple):
    """Totals before and behind the plan; refusals by the number of the record: reason and detail."""

    before: dict[TotalPlace, HourlyTotal]
    after: dict[TotalPlace, HourlyTotal]
    refused: dict[int, tuple[str, str]]


class Amount(NamedTuple):
    """What a price of a period comes to, micro-units; `adjusted_in` is where a closed one is corrected."""

    customer: str
    period: str
    price: str
    currency: str
    before: int
    after: int
    adjusted_in: str


class Rated(NamedTuple):
    """The amounts that change, and usage that no price covers: customer, meter, detail."""

    amounts: list[Amount]
    unpriced: list[tuple[str, str, str]]


def meter(
    rules: MeterRules, moment: Moment, book: Book, records: Sequence[bytes], catalog: Catalog
) -> Metered:
    """Fold what the archive has, in its order, and then the records of a plan."""
    fold = MeterFold(rules)
    fold.fold([Chunk(0, 1, [], [], moment.begun)], catalog)
    for one in sorted(_all(book), key=lambda archived: archived.place):
        _fold(fold, [_encode(plain_of(one.event))], one.appended, catalog)
    before = fold.changes()
    fold.watermark = max(fold.watermark, moment.watermark)
    first = _fold(fold, records, moment.now, catalog)
    changed = fold.changes()
    letters = [r for r in _records(changed) if isinstance(r, DeadLetter)]
    totals = _totals(before)
    return Metered(
        before=totals,
        after=totals | _totals(changed),
        refused={letter.offset - first: (letter.reason, letter.detail) for letter in letters},
    )


def _all(book: Book) -> Iterable[Archived]:
    for held in book.values():
        yield held.first
        yield from held.corrections


def _fold(fold: Any, values: Sequence[bytes], appended: int, catalog: Catalog) -> int:
    """Fold records at the end; the offset of the first."""
    first: int = fold.offset or 0
    following = first + len(values)
    fold.fold([Chunk(first, following, range(first, following), list(values), appended)], catalog)
    return first


def _records(changes: Changes | None) -> list[Any]:
    return [decode(output.value) for output in changes.outputs if output.value] if changes else []


def _totals(changes: Changes | None) -> dict[TotalPlace, HourlyTotal]:
    return {place_of(r): r for r in _records(changes) if isinstance(r, HourlyTotal)}


def place_of(total: HourlyTotal) -> TotalPlace:
    """Which total it is, in whatever order its dimensions are written."""
    return total.customer, total.meter, total.hour, tuple(sorted(total.dimensions.items()))


class Terms(NamedTuple):
    """The account's part of the catalog: in force, and as it closed each period."""

    in_force: Catalog
    closed: dict[str, Catalog]

    def at_close(self, period: str) -> Catalog:
        """The catalog that closed a period; the one in force, when the account had nothing in it."""
        return self.closed.get(period, self.in_force)


def rate(
    rules: RateRules,
    terms: Terms,
    totals: Iterable[HourlyTotal],
    changed: Iterable[HourlyTotal],
    watermark: int,
) -> Rated:
    """Rate the totals of an account, period by period as they closed, and then those that change.

    What comes of a change of a closed period is the adjustment that the rate fold would post.
    """
    fold, changes = RateFold(rules), list(changed)
    since = min(period_of(total.hour) for total in changes)
    before = _history(fold, terms, totals, since, watermark)
    stamp = str(version(rules.epoch, 2))
    later = [encode(_normal(total, stamp)) for total in changes]
    _fold(fold, later, 0, terms.in_force)
    return _difference(before, _records(fold.changes()))


def _history(
    fold: RateFold, terms: Terms, totals: Iterable[HourlyTotal], since: str, watermark: int
) -> list[Any]:
    by_period: defaultdict[str, list[HourlyTotal]] = defaultdict(list)
    for total in totals:
        by_period[period_of(total.hour)].append(total)
    names, first = [since, *by_period], str(version(fold.rules.epoch, 1))
    made: list[Any] = []
    for name in calendar.periods_between(min(names), max(period_of(watermark // 1_000), *names)):
        span, values = calendar.period(name), [encode(_normal(t, first)) for t in by_period[name]]
        values.insert(0, encode(Watermark(0, span.starts * 1_000, first)))
        closes = is_closed(name, watermark, fold.rules.grace_hours)
        if closes:
            until = span.ends * 1_000 + fold.rules.grace_hours * HOUR_MS
            values.append(encode(Watermark(0, until, first)))
        _fold(fold, values, 0, terms.at_close(name) if closes else terms.in_force)
        made += _records(fold.changes())
    _fold(fold, [encode(Watermark(0, watermark, first))], 0, terms.in_force)
    return made + _records(fold.changes())


def _normal(total: HourlyTotal, stamp: str) -> HourlyTotal:
    dimensions = dict(sorted(total.dimensions.items()))
    return msgspec.structs.replace(total, version=stamp, dimensions=dimensions)


def _difference(before: list[Any], changed: list[Any]) -> Rated:
    rows = _rows(before)
    later = rows | _rows(changed)
    sums: dict[tuple[str, str, str], list[int]] = {}
    currencies: dict[tuple[str, str, str], str] = {}
    adjusted: dict[tuple[str, str, str], str] = {}
    for number, found in enumerate((rows, later)):
        for row in found.values():
            place = (row.customer, row.corrects or row.period, row.price.partition("@")[0])
            sums.setdefault(place, [0, 0])[number] += parse_decimal(row.amount, MICRO)
            currencies[place] = row.currency or currencies.get(place, "")
            if row.corrects:
                adjusted[place] = row.period
    amounts = [
        Amount(*place, currencies[place], sums[place][0], sums[place][1], adjusted.get(place, ""))
        for place in sorted(sums)
        if sums[place][0] != sums[place][1]
    ]
    errors = {(r.customer, r.meter, r.hour): r for r in changed if isinstance(r, RatingError)}
    return Rated(amounts, [(r.customer, r.meter, r.detail) for r in errors.values() if r.reason])


def _rows(found: Iterable[Any]) -> dict[tuple[str, str, str, int], Charge]:
    """The rows that a sink would hold: the last of each place."""
    return {(r.customer, r.period, r.price, r.hour): r for r in found if isinstance(r, Charge)}


def goes_on(catalog: Catalog, account: str) -> bool:
    """Whether tiers of the account run through periods, so that its whole history matters."""
    return Accounts(catalog, 0, 1).has_contract_scope(account)
