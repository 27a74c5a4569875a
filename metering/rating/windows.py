"""Which price an hour has, and over which window its quantity accumulates.

`continue` carries the position in the tiers across a switch; `reset` starts a new window;
`retroactive` rates the whole window under the newest version.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from metering.rating.cards import Cell, Price, Segment, Tier
from metering.rating.terms import Period

HOUR = 3_600
DAY = 86_400


class Stretch(NamedTuple):
    """A segment as it applies in a period: the price that rates it, and where its window starts."""

    starts: int
    ends: int
    segment: Segment
    price: Price
    window: int


class Windows:
    """The stretches of one price in one period."""

    def __init__(self, segments: Sequence[Segment], period: Period, active: tuple[int, int]) -> None:
        self._stretches = _stretches(segments, period, active)
        self._starts = [stretch.starts for stretch in self._stretches]

    @property
    def goes_on(self) -> bool:
        """Whether the window at the end of the period is the contract's."""
        return bool(self._stretches) and self._stretches[-1].price.scope == "contract"

    def at(self, hour: int) -> Stretch | None:
        """The stretch of an hour; None where no version covers it."""
        index = bisect_right(self._starts, hour) - 1
        if index < 0 or hour >= self._stretches[index].ends:
            return None
        return self._stretches[index]


def window_of(stretch: Stretch, hour: int) -> int:
    """The first second of the window that an hour of a stretch accumulates in."""
    if stretch.price.scope == "hour":
        return hour
    if stretch.price.scope == "day":
        return max(stretch.window, hour - hour % DAY)
    return stretch.window


def _stretches(segments: Sequence[Segment], period: Period, active: tuple[int, int]) -> list[Stretch]:
    found: list[Stretch] = []
    for group in _groups([s for s in segments if s.starts < period.ends]):
        contract = group[-1].price.scope == "contract"
        here = [s for s in group if s.ends is None or s.ends > period.starts]
        if not here:
            continue
        window = group[0].starts if contract else max(group[0].starts, period.starts)
        newest = max((n for n, s in enumerate(here) if s.change == "retroactive"), default=0)
        cut = [_cut(s, period) for s in here]
        share = sum(max(0, min(b, active[1]) - max(a, active[0])) for a, b in cut)
        for number, (segment, (starts, ends)) in enumerate(zip(here, cut, strict=True)):
            ruling = here[newest] if number < newest else segment
            price = ruling.price if contract else prorated(ruling.price, share, period.seconds)
            found.append(Stretch(starts, ends, ruling, price, window))
    return found


def _groups(segments: Sequence[Segment]) -> list[list[Segment]]:
    groups: list[list[Segment]] = []
    for segment in segments:
        if not groups or segment.change == "reset":
            groups.append([])
        groups[-1].append(segment)
    return groups


def _cut(segment: Segment, period: Period) -> tuple[int, int]:
    ends = period.ends if segment.ends is None else min(segment.ends, period.ends)
    return max(segment.starts, period.starts), ends


def prorated(price: Price, active: int, whole: int) -> Price:
    """A price for a part of the period: fees, or fees, bounds and allowance, in proportion.

    Each is rounded half away from zero to a micro-unit; a bound stays above the one before it.
    """
    if price.proration == "none" or active >= whole or active <= 0:
        return price
    bounds = price.proration == "tiers"
    return replace(
        price,
        tiers=_prorated_tiers(price.tiers, active, whole, bounds),
        cells=tuple(Cell(c.when, _prorated_tiers(c.tiers, active, whole, bounds)) for c in price.cells),
        included=proportion(price.included, active, whole) if bounds else price.included,
        maximum=_share(price.maximum, active, whole),
        cap=_share(price.cap, active, whole),
    )


def _prorated_tiers(tiers: tuple[Tier, ...], active: int, whole: int, bounds: bool) -> tuple[Tier, ...]:
    found: list[Tier] = []
    above = 0
    for tier in tiers:
        up_to = tier.up_to
        if up_to is not None and bounds:
            up_to = above = max(proportion(up_to, active, whole), above + 1)
        found.append(Tier(up_to, tier.unit_price, proportion(tier.flat_fee, active, whole), tier.limits))
    return tuple(found)


def _share(limit: int | None, active: int, whole: int) -> int | None:
    return None if limit is None else proportion(limit, active, whole)


def proportion(value: int, active: int, whole: int) -> int:
    """Value × active / whole, rounded half away from zero; `value` is not negative."""
    return (2 * value * active + whole) // (2 * whole)
