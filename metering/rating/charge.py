"""The charge function F: the exact charge of a cumulative quantity, rounded once.

F(S) is half away from zero at 6 decimals and F(nothing) = 0. Everything else follows from it: the
charge of an hour is F(after) - F(before), so hours add up to the period to the micro-unit.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metering.rating import per_event
from metering.rating.cards import ONE, PER_EVENT, PERCENT_ONE, RATE_ONE, WHOLE_QUANTITY, Price, Tier
from metering.rating.parts import PART_DECIMALS, TierPart, tier_part
from metering.rating.usage import Usage, quantity_of

EXACT = 36  # decimals of an exact amount: 18 of a part, 12 of a conversion, 6 of a percentage
EXACT_IN_MICRO: int = 10 ** (EXACT - 6)
_PART_TO_EXACT: int = 10 ** (EXACT - PART_DECIMALS - 12)

Groups = Mapping[str, Usage]  # usage by cell of a matrix or by meter of a capacity; "" otherwise


class Position(NamedTuple):
    """F of a cumulative usage with all that explains it.

    Σ parts (10^-18) + Σ effects (10^-36) = `exact` (10^-36); `amount` is that, rounded, in
    micro-units of the currency.
    """

    parts: Sequence[TierPart]
    effects: Sequence[tuple[str, int]]
    exact: int
    amount: int
    quantity: int


START = Position((), (), 0, 0, 0)


def charge(price: Price, quantity: int) -> int:
    """F(S) in micro-units of the currency, for a quantity in micro-units."""
    return position(price, {"": Usage("sum", quantity, 1)}).amount


def position(price: Price, groups: Groups) -> Position:
    """F of what was used so far, with its parts and effects.

    Less than nothing costs nothing: what corrections took away stays in the usage.
    """
    found = usage_parts(price, groups)
    gross = sum(part.amount for part in found) * _PART_TO_EXACT * RATE_ONE
    quantity = sum(quantity_of(usage) for usage in groups.values())
    if gross < 0:
        return Position((), (), 0, 0, quantity)
    if not _has_effects(price):
        return Position(found, (), gross, round_exact(gross), quantity)
    effects, exact = _effects(price, gross)
    return Position(found, effects, exact, round_exact(exact), quantity)


def usage_parts(price: Price, groups: Groups) -> list[TierPart]:
    """The parts that make up a charge, before limits and discounts; none for nothing used."""
    if price.model == "capacity":
        return _capacity(price.tiers, groups)
    if price.cells:
        by_label = {cell.label: cell.tiers for cell in price.cells}
        found: list[TierPart] = []
        for label in sorted(groups):
            found += [p._replace(label=label) for p in _parts(price, by_label[label], groups[label])]
        return found
    usage = groups.get("")
    return _parts(price, price.tiers, usage) if usage is not None else []


def parts(price: Price, quantity: int) -> list[TierPart]:
    """The parts of a plain cumulative quantity in micro-units."""
    return usage_parts(price, {"": Usage("sum", quantity, 1)})


def _parts(price: Price, tiers: tuple[Tier, ...], usage: Usage) -> list[TierPart]:
    if price.model == "dynamic":
        return per_event.dynamic(usage)
    if price.model in PER_EVENT:
        return per_event.fees(price, tiers[0].unit_price, usage)
    if price.scope == "event":
        return per_event.each(lambda size: tiered(price, tiers, size), usage)
    return tiered(price, tiers, quantity_of(usage))


def tiered(price: Price, tiers: tuple[Tier, ...], quantity: int) -> list[TierPart]:
    """The tiers that a cumulative quantity fills; the included allowance stands as tier 0."""
    if type(quantity) is not int:
        raise TypeError(f"a quantity is an integer of micro-units, not {quantity!r}")
    if quantity <= 0:
        return []
    found = []
    if price.included:
        free = min(quantity, price.included)
        found.append(TierPart(0, free, free, 0, 0, 0))
        quantity -= free
        if not quantity:
            return found
    if price.model in WHOLE_QUANTITY:
        return [*found, _whole(price, tiers, quantity)]
    return found + _graduated(price, tiers, quantity)


def _whole(price: Price, tiers: tuple[Tier, ...], quantity: int) -> TierPart:
    for number, tier in enumerate(tiers, 1):
        if tier.up_to is None or quantity <= tier.up_to:
            return tier_part(number, quantity, _billed(price, quantity), tier)
    raise AssertionError("the last tier is open")


def _graduated(price: Price, tiers: tuple[Tier, ...], quantity: int) -> list[TierPart]:
    found, start = [], 0
    for number, tier in enumerate(tiers, 1):
        if quantity <= start:
            break
        end = quantity if tier.up_to is None else min(quantity, tier.up_to)
        found.append(tier_part(number, end - start, _billed(price, end - start), tier))
        start = end
    return found


def _billed(price: Price, units: int) -> int:
    """What is multiplied by the unit price: the units, or the packages that hold them."""
    if not price.package:
        return units
    return max(-(-units // price.package), price.min_packages) * ONE


def _capacity(tiers: tuple[Tier, ...], groups: Groups) -> list[TierPart]:
    used = {meter: quantity_of(usage) for meter, usage in groups.items()}
    if not any(quantity > 0 for quantity in used.values()):
        return []
    for number, tier in enumerate(tiers, 1):
        if all(used.get(meter, 0) <= bound for meter, bound in tier.limits):
            return [tier_part(number, sum(used.values()), 0, tier)]
    raise AssertionError("the last tier is open")


def _has_effects(price: Price) -> bool:
    return (
        price.conversion != RATE_ONE
        or price.maximum is not None
        or bool(price.discounts)
        or price.cap is not None
    )


def _effects(price: Price, gross: int) -> tuple[list[tuple[str, int]], int]:
    """Conversion, maximum, percent discounts, fixed discounts, cap: always in this order."""
    found: list[tuple[str, int]] = []
    exact = gross // RATE_ONE * price.conversion  # exact: `gross` is a multiple of it
    found.append(("conversion", exact - gross))
    if price.maximum is not None:
        found.append(("maximum", min(0, price.maximum * EXACT_IN_MICRO - exact)))
        exact += found[-1][1]
    whole = exact
    for discount in sorted(price.discounts, key=lambda d: (d.percent == 0, d.id)):
        if discount.percent:
            off, rest = divmod(whole * discount.percent, PERCENT_ONE)
            assert not rest, "36 decimals hold 18 of a part, 12 of a conversion, 6 of a percentage"
        else:
            off = min(exact, discount.amount * EXACT_IN_MICRO)
        found.append((f"discount {discount.id}", -off))
        exact -= off
    if price.cap is not None:
        found.append(("cap", min(0, price.cap * EXACT_IN_MICRO - exact)))
        exact += found[-1][1]
    return [effect for effect in found if effect[1]], exact


def round_exact(amount: int) -> int:
    """10^-36 to micro-units, half away from zero."""
    magnitude: int = (abs(amount) + EXACT_IN_MICRO // 2) // EXACT_IN_MICRO
    return magnitude if amount >= 0 else -magnitude
