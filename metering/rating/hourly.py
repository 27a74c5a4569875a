"""Hourly rows: F(after) - F(before) for each hour of a period, with the slices that explain it.

A price switch inside the period carries the position on (`continue`): the hours of a segment are
charged by its own F, starting from the quantity that came before.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from metering.rating.cards import Price, Segment
from metering.rating.charge import EXACT, TierPart, parts, round_exact


class HourCharge(NamedTuple):
    """One hour's charge: quantities in 10^-scale units, `amount` in micro-units.

    The exact amounts of `slices` plus `rounding` (both 10^-18) are the amount.
    """

    hour: int
    quantity: int
    before: int
    after: int
    amount: int
    slices: tuple[TierPart, ...]
    rounding: int
    segment: Segment


class Unpriced(NamedTuple):
    """Usage that no price covers: an error to be shown, never a zero."""

    hour: int
    quantity: int
    reason: str
    detail: str


def hourly_charges(
    segments: Sequence[Segment], hours: Iterable[tuple[int, int]], scale: int
) -> list[HourCharge | Unpriced]:
    """Rate the hours of one customer, meter and billing period.

    `hours` are (epoch second, quantity) in rising order; `segments` are in time order.
    """
    rated: list[HourCharge | Unpriced] = []
    position, last_hour = 0, None
    for hour, quantity in hours:
        assert last_hour is None or hour > last_hour, "hours must rise"
        last_hour = hour
        segment = _segment_at(segments, hour)
        if segment is None:
            rated.append(_unpriced(segments, hour, quantity))
        else:
            rated.append(_hour_charge(segment, hour, position, position + quantity, scale))
        position += quantity
    return rated


def _segment_at(segments: Sequence[Segment], hour: int) -> Segment | None:
    # Latest first: an hour at the switch instant belongs to the new version.
    for segment in reversed(segments):
        if segment.starts <= hour and (segment.ends is None or hour < segment.ends):
            return segment
    return None


def _unpriced(segments: Sequence[Segment], hour: int, quantity: int) -> Unpriced:
    if not segments:
        detail = "The customer's rate card has no price for this meter; add one."
    else:
        detail = "No version of the rate card covers this hour; add a version that starts earlier."
    return Unpriced(hour, quantity, "no_price", detail)


def _hour_charge(segment: Segment, hour: int, before: int, after: int, scale: int) -> HourCharge:
    slices = delta_slices(segment.price, before, after, scale)
    old, new = (_exact(segment.price, q, scale) for q in (before, after))
    amount = round_exact(new) - round_exact(old)
    rounding = amount * 10 ** (EXACT - 6) - sum(part.amount for part in slices)
    assert sum(p.amount for p in slices) == new - old, "slices must explain the exact difference"
    return HourCharge(hour, after - before, before, after, amount, slices, rounding, segment)


def _exact(price: Price, quantity: int, scale: int) -> int:
    return sum(part.amount for part in parts(price, quantity, scale))


def delta_slices(price: Price, before: int, after: int, scale: int) -> tuple[TierPart, ...]:
    """How the charge moves from one cumulative quantity to another, tier by tier.

    Parts that stay are left out. Where a volume price changes its tier, the old position is taken
    back and the new one posted, so that a reader sees why a row can be negative.
    """
    moves: dict[tuple[int, int], TierPart] = {}
    for sign, quantity in ((-1, before), (1, after)):
        for part in parts(price, quantity, scale):
            place = (part.tier, part.unit_price)
            held = moves.get(place, TierPart(part.tier, 0, part.unit_price, 0, 0))
            moves[place] = TierPart(
                part.tier,
                held.units + sign * part.units,
                part.unit_price,
                held.flat_fee + sign * part.flat_fee,
                held.amount + sign * part.amount,
            )
    return tuple(m for m in moves.values() if m.units or m.flat_fee or m.amount)
