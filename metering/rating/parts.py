"""One part of a charge, exact: so many units at a price, and a fee."""

from typing import NamedTuple

from metering.rating.cards import Tier

PART_DECIMALS = 18  # 12 of a unit price and 6 of a quantity
_FEE_TO_PART: int = 10 ** (PART_DECIMALS - 6)


class TierPart(NamedTuple):
    """A part of a charge: `billed` × `unit_price` + `flat_fee` = `amount` (10^-18), exact.

    `units` is the usage that it covers, `billed` what is multiplied: the same, or packages or
    events, as 10^-6. Tier 0 is included usage. `label` names a cell, a meter or a rule. Negative
    where a position is taken back.
    """

    tier: int
    units: int
    billed: int
    unit_price: int
    flat_fee: int
    amount: int
    label: str = ""


def tier_part(number: int, units: int, billed: int, tier: Tier, label: str = "") -> TierPart:
    """The part of a tier that holds `units`."""
    return part(number, units, billed, tier.unit_price, tier.flat_fee, label)


def part(tier: int, units: int, billed: int, unit_price: int, fee: int, label: str = "") -> TierPart:
    """A part with its exact amount."""
    return TierPart(tier, units, billed, unit_price, fee, billed * unit_price + fee * _FEE_TO_PART, label)


def difference(
    before: "list[TierPart] | tuple[TierPart, ...]", after: "list[TierPart]"
) -> tuple[TierPart, ...]:
    """How a charge moves from one position to another, part by part.

    Parts that stay are left out. Where a volume price changes its tier, the old position is taken
    back and the new one posted, so that a reader sees why a row can be negative.
    """
    moves: dict[tuple[str, int, int], TierPart] = {}
    for sign, found in ((-1, before), (1, after)):
        for p in found:
            place = (p.label, p.tier, p.unit_price)
            held = moves.get(place)
            moves[place] = TierPart(
                p.tier,
                (held.units if held else 0) + sign * p.units,
                (held.billed if held else 0) + sign * p.billed,
                p.unit_price,
                (held.flat_fee if held else 0) + sign * p.flat_fee,
                (held.amount if held else 0) + sign * p.amount,
                p.label,
            )
    return tuple(m for m in moves.values() if m.units or m.billed or m.flat_fee or m.amount)
