"""Limits in money: what usage costs and how much a rest can pay, by the charge function itself.

Only a price that is a function of its meter's quantity in the billing period can carry one.
"""

from collections.abc import Iterator

from metering.rating.cards import WHOLE_QUANTITY, Price
from metering.rating.charge import charge

LARGEST = 10**24  # micro-units: a rest that pays for this much pays for everything
SIMPLE = frozenset(
    {"unit", "graduated", "volume", "package", "graduated_package", "stairstep", "stairstep_accumulate"}
)


def spend_problems(price: Price) -> Iterator[str]:
    """Why a price cannot carry a limit in money; nothing when it can."""
    if price.model not in SIMPLE:
        yield f"its model {price.model} depends on more than one quantity"
    if price.cells or price.where:
        yield "it prices dimension values differently"
    if len(price.meters) != 1:
        yield "it reads several meters together"
    if price.scope != "period":
        yield f"its scope is {price.scope}, not the billing period"
    if price.proration != "none":
        yield "it is prorated"


def cost(price: Price, used: int, quantity: int) -> int:
    """What the charge moves when `quantity` follows `used` in a billing period; may be negative."""
    return charge(price, used + quantity) - charge(price, used)


def highest_cost(price: Price, used: int, quantity: int) -> int:
    """The highest cost on the way from `used` to `used + quantity`: a volume price can fall again."""
    if quantity <= 0:
        return 0
    base = charge(price, used)
    ends = [end for end in _ends(price, used) if end < used + quantity]
    return max(0, *(charge(price, end) - base for end in (*ends, used + quantity)))


def affordable(price: Price, used: int, rest: int) -> int | None:
    """The largest quantity whose highest cost is at most `rest`; None when any is."""
    if rest < 0:
        return 0
    base = charge(price, used)
    reached = used
    for end in (*_ends(price, used), used + LARGEST):
        if charge(price, end) - base <= rest:
            reached = end
            continue
        return _search(price, reached, end, base + rest) - used
    return None


def _search(price: Price, low: int, high: int, most: int) -> int:
    """Inside one tier a charge never falls: the last quantity in it that costs at most `most`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if charge(price, middle) <= most else (low, middle)
    return low


def _ends(price: Price, used: int) -> list[int]:
    """Where tiers end behind `used`: only there can a price that looks at the whole quantity fall."""
    if price.model not in WHOLE_QUANTITY:
        return []
    ends = [price.included] if price.included else []
    ends += [price.included + tier.up_to for tier in price.tiers if tier.up_to is not None]
    return [end for end in ends if end > used]
