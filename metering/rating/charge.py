"""The charge function F: the exact charge of a cumulative quantity, rounded once.

F(S) is half away from zero at 6 decimals and F(0) = 0. Everything else follows from it: the charge
of an hour is F(after) - F(before), so hours add up to the period to the micro-unit.
"""

from typing import NamedTuple

from metering.rating.cards import Price

EXACT = 18  # decimals of an exact amount: 12 of a unit price and at most 6 of a quantity
_MICRO_IN_EXACT: int = 10 ** (EXACT - 6)


class TierPart(NamedTuple):
    """A tier's part of a charge: `units` × `unit_price` + `flat_fee` = `amount` (10^-18), exact.

    Negative where a position is taken back.
    """

    tier: int
    units: int
    unit_price: int
    flat_fee: int
    amount: int


def charge(price: Price, quantity: int, scale: int) -> int:
    """F(S) in micro-units of the currency, for a quantity of 10^-scale units."""
    return round_exact(sum(part.amount for part in parts(price, quantity, scale)))


def parts(price: Price, quantity: int, scale: int) -> list[TierPart]:
    """The tiers that make up the charge of a cumulative quantity; none for nothing used."""
    _require_integer(quantity, scale)
    if quantity <= 0:
        return []
    if price.model == "volume":
        return [_volume_part(price, quantity, scale)]
    return _graduated_parts(price, quantity, scale)


def _volume_part(price: Price, quantity: int, scale: int) -> TierPart:
    for number, tier in enumerate(price.tiers, 1):
        if tier.up_to is None or quantity <= tier.up_to:
            return _part(number, quantity, tier.unit_price, tier.flat_fee, scale)
    raise AssertionError("the last tier is open")


def _graduated_parts(price: Price, quantity: int, scale: int) -> list[TierPart]:
    found, start = [], 0
    for number, tier in enumerate(price.tiers, 1):
        if quantity <= start:
            break
        end = quantity if tier.up_to is None else min(quantity, tier.up_to)
        found.append(_part(number, end - start, tier.unit_price, tier.flat_fee, scale))
        start = end
    return found


def _part(tier: int, units: int, unit_price: int, flat_fee: int, scale: int) -> TierPart:
    amount = units * unit_price * 10 ** (EXACT - 12 - scale) + flat_fee * _MICRO_IN_EXACT
    return TierPart(tier, units, unit_price, flat_fee, amount)


def round_exact(amount: int) -> int:
    """10^-18 to micro-units, half away from zero."""
    magnitude: int = (abs(amount) + _MICRO_IN_EXACT // 2) // _MICRO_IN_EXACT
    return magnitude if amount >= 0 else -magnitude


def _require_integer(quantity: int, scale: int) -> None:
    if type(quantity) is not int:
        raise TypeError(f"a quantity is an integer of 10^-{scale} units, not {quantity!r}")
    if not 0 <= scale <= EXACT - 12:
        raise ValueError(f"a scale is 0 to {EXACT - 12}, not {scale}")
