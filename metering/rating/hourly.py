"""Hourly rows of one price: F(after) - F(before), for each customer and hour of a period."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from metering.rating.cards import ONE, Price, Segment
from metering.rating.charge import START, Position, position
from metering.rating.matrix import NO_CELL, cell_of
from metering.rating.rows import ChargeRow, Label, Unpriced, row_between
from metering.rating.terms import Period
from metering.rating.usage import Dimensions, HourUse, Usage, merge, weighted
from metering.rating.windows import Stretch, Windows, window_of

LARGEST = 10**25  # micro-units of a quantity or an amount: ten to the nineteenth


Used = Mapping[tuple[str, Dimensions], Usage]  # by meter and dimensions


class Carry(NamedTuple):
    """The usage of a window that goes on in the next period (scope: contract)."""

    window: int
    used: Used


class HourlyRows(NamedTuple):
    """The rows of a price, what it could not rate, and where its window stands."""

    rows: list[ChargeRow]
    unpriced: list[Unpriced]
    carry: Carry | None
    kept: "Walk | None" = None  # before the hour `keep`


class Walk:
    """One pass through the hours of a price.

    Usage is kept by meter and dimensions: a new version may read other meters or have other cells, so
    what was used before is grouped anew under it.
    """

    def __init__(self, carry: Carry | None = None) -> None:
        self.used: dict[tuple[str, Dimensions], Usage] = dict(carry.used) if carry else {}
        self.window = carry.window if carry else -1
        self._price: Price | None = None
        self._groups: dict[str, Usage] = {}
        self._position: Position | None = None

    def copy(self) -> "Walk":
        """The same place, to go on from more than once."""
        made = Walk(Carry(self.window, self.used))
        made._price, made._groups, made._position = self._price, dict(self._groups), self._position
        return made

    def enter(self, window: int, price: Price) -> None:
        """Go to a stretch: its window may begin anew, its price may group differently."""
        if window != self.window:
            self.used, self.window, self._price = {}, window, None
        if price is self._price:
            return
        self._price, self._groups, self._position = price, {}, None
        for (meter, dimensions), usage in self.used.items():
            group = group_of(price, meter, dimensions)
            if group is not None and any(name == meter for name, _ in price.meters):
                self._join(group, weighted(usage, _weight(price.meters, meter), alone=_is_alone(price)))

    def position(self) -> Position:
        """F of all that was used so far, under the price of the stretch."""
        if self._position is None:
            assert self._price is not None, "enter a stretch first"
            self._position = position(self._price, self._groups)
        return self._position

    def add(self, group: str, use: HourUse) -> None:
        """Count usage into its group."""
        assert self._price is not None, "enter a stretch first"
        place = (use.meter, use.dimensions)
        held = self.used.get(place)
        self.used[place] = use.usage if held is None else merge(held, use.usage)
        weight = _weight(self._price.meters, use.meter)
        self._join(group, weighted(use.usage, weight, alone=_is_alone(self._price)))

    def _join(self, group: str, usage: Usage) -> None:
        held = self._groups.get(group)
        self._groups[group] = usage if held is None else merge(held, usage)
        self._position = None


def hourly_rows(
    segments: Sequence[Segment],
    uses: Iterable[HourUse],
    period: Period,
    *,
    active: tuple[int, int] | None = None,
    carry: Carry | None = None,
    since: int = 0,
    begun: Walk | None = None,
    keep: int | None = None,
) -> HourlyRows:
    """Rate the usage of one price in a period.

    `uses` are ordered by hour, then customer. Rows before the hour `since` are known and left out.
    `active` is the customer's part of the period, by which tiers are prorated. `begun` has walked through
    the hours before those of `uses`; the walk is `kept` as it stands before the hour `keep`.
    """
    windows = Windows(segments, period, active or (period.starts, period.ends))
    walk, rows, unpriced = begun.copy() if begun is not None else Walk(carry), [], []
    last, kept = None, None
    for (hour, customer), bunch in groupby(uses, key=lambda use: (use.hour, use.customer)):
        assert last is None or (hour, customer) > last, "hours must rise"
        last = (hour, customer)
        if keep is not None and kept is None and hour >= keep:
            kept = walk.copy()
        stretch = windows.at(hour)
        if stretch is None:
            unpriced += [_uncovered(use) for use in bunch]
            continue
        walk.enter(window_of(stretch, hour), stretch.price)
        row, missing = _hour(walk, stretch, list(bunch), hour >= since)
        unpriced += missing
        if row is not None:
            rows.append(row)
    carried = Carry(walk.window, dict(walk.used)) if windows.goes_on and walk.used else None
    return HourlyRows(rows, unpriced, carried, walk if kept is None else kept)


def _hour(
    walk: Walk, stretch: Stretch, bunch: list[HourUse], wanted: bool
) -> tuple[ChargeRow | None, list[Unpriced]]:
    price, missing = stretch.price, []
    before = walk.position() if wanted else START
    events = digest = 0
    for use in bunch:
        group = group_of(price, use.meter, use.dimensions)
        if group is None:
            missing.append(_no_cell(use, stretch.segment.price_id))
            continue
        walk.add(group, use)
        events += use.usage.events
        digest += use.digest
    if not wanted or len(missing) == len(bunch):
        return None, missing
    after = walk.position()
    if not _in_range(after):
        return None, missing + [_out_of_range(use) for use in bunch]
    segment, meter = stretch.segment, _meter_name(price, bunch)
    label = Label(
        bunch[0].customer, segment.price_id, bunch[0].hour, "usage", meter, price.model, segment.origin
    )
    return row_between(label, before, after, events, digest % (1 << 64)), missing


def _in_range(found: Position) -> bool:
    """Whether the books can hold it: their columns have 38 digits, 18 of them decimals of a part."""
    parts = max((abs(part.amount) for part in found.parts), default=0)
    return max(abs(found.quantity), abs(found.amount), parts // ONE**2) < LARGEST


def _out_of_range(use: HourUse) -> Unpriced:
    detail = f"The period's usage or charge passes {LARGEST // ONE:,}; correct the usage or the price."
    return Unpriced(use.customer, use.meter, use.hour, use.usage.quantity, "out_of_range", detail)


def group_of(price: Price, meter: str, dimensions: Dimensions) -> str | None:
    """What accumulates together: a cell, a capacity's meter, or all; None for what is not priced."""
    if price.cells:
        label = cell_of(price, dimensions)
        return None if label == NO_CELL else label
    return meter if price.model == "capacity" else ""


def _is_alone(price: Price) -> bool:
    return len(price.meters) < 2 or price.model == "capacity"


def _weight(meters: tuple[tuple[str, int], ...], meter: str) -> int:
    for name, weight in meters:
        if name == meter:
            return weight
    return ONE


def _meter_name(price: Price, bunch: list[HourUse]) -> str:
    return "+".join(name for name, _ in price.meters) if len(price.meters) > 1 else bunch[0].meter


def _uncovered(use: HourUse) -> Unpriced:
    detail = "No version of the rate card covers this hour; add a version that starts earlier."
    return Unpriced(use.customer, use.meter, use.hour, use.usage.quantity, "no_price", detail)


def _no_cell(use: HourUse, price_id: str) -> Unpriced:
    values = ", ".join(f"{name} {value}" for name, value in use.dimensions)
    detail = f"Matrix price `{price_id}` has no cell for {values}; add one, or a default with `*`."
    return Unpriced(use.customer, use.meter, use.hour, use.usage.quantity, "no_cell", detail)


def by_hour(uses: Iterable[HourUse]) -> list[HourUse]:
    """Usage in the order in which it is rated."""
    return sorted(uses, key=lambda u: (u.hour, u.customer, u.meter, u.dimensions))


def carries(found: Mapping[str, HourlyRows]) -> dict[str, Carry]:
    """The windows that go on, by price."""
    return {price: made.carry for price, made in found.items() if made.carry is not None}
