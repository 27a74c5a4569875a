"""The charge function F for many cumulative quantities at once, exact, in numpy's int64.

A quantity's tier gives a price and a base: F = (count × price + base) // 10^12, where the base holds
the tiers below, the fee and the half that rounds; the count is the quantity, or its packages.
Common factors are cancelled first. Where the product is still too large, the count is split into
`high` × `low` + rest: nested floors give the same integer, so there is one rounding all the same.

`limit` is the largest quantity whose intermediates stay within 2^62, found in unbounded integers.
Quantities beyond it, and prices that no table describes, go through `charge` one by one.
"""

from functools import lru_cache
from itertools import accumulate, pairwise
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metering.rating.cards import ONE, RATE_ONE, WHOLE_QUANTITY, EventFee, Price, Tier
from metering.rating.charge import charge, parts

Ints = NDArray[np.int64]

BLOCK = 32_768  # quantities in one pass, so that they and the buffers stay in the cache of a core
SAFE: int = 2**62
LARGEST: int = 2**63 - 1
MODELS = frozenset(
    "unit graduated volume package graduated_package stairstep stairstep_accumulate percentage".split()
)


class _Row(NamedTuple):
    """A tier from `above` to `end`: units count from `start`, `base` (10^-18) is charged before."""

    above: int
    end: int
    start: int
    price: int
    base: int


class _Table(NamedTuple):
    """The tiers as arrays for quantities up to `limit`; `low` is 1 where no count needs a split."""

    bounds: Ints
    starts: Ints
    prices: Ints
    bases: Ints
    rests: Ints
    low: int
    high: int
    limit: int


class _Plan(NamedTuple):
    """The tables of a price: counts as they are, whole units, counts cut in two."""

    direct: _Table
    whole: _Table
    split: _Table
    package: int
    least: int
    maximum: int


def charges(price: Price, quantities: Ints) -> Ints:
    """F of each cumulative quantity, both in micro-units; OverflowError if one does not fit int64."""
    if quantities.dtype != np.int64:
        raise TypeError(f"quantities are int64 of micro-units, not {quantities.dtype}")
    plan, found, work = _plan(price), np.empty(quantities.size, np.int64), np.empty((4, BLOCK), np.int64)
    flat = quantities.reshape(-1)
    for first in range(0, len(flat), BLOCK):
        block, out = flat[first : first + BLOCK], found[first : first + BLOCK]
        if plan is None:
            out[:] = np.array([charge(price, quantity) for quantity in block.tolist()], np.int64)
            continue
        for place in _rate_block(plan, block, out, work[:, : len(block)]):
            out[place] = charge(price, int(block[place]))
    return found.reshape(quantities.shape)


def hourly_charges(price: Price, totals: Ints) -> Ints:
    """The charge of each hour, from the quantities by key and hour: F(after) - F(before)."""
    if totals.dtype != np.int64:
        raise TypeError(f"quantities are int64 of micro-units, not {totals.dtype}")
    found = np.empty(totals.shape, np.int64)
    step = max(1, BLOCK // max(1, totals.shape[1]))
    for first in range(0, len(totals), step):
        block, rows = totals[first : first + step], found[first : first + step]
        if not _rate_keys(price, block, rows):
            for used, row in zip(block, rows, strict=True):
                row[:] = _rate_key(price, used.tolist())
    return found


def _rate_keys(price: Price, totals: Ints, rows: Ints) -> bool:
    """Fill the rows; False where a sum or a charge might not fit int64."""
    if _plan(price) is None or not totals.size:
        return False
    if max(int(totals.max()), -int(totals.min())) * totals.shape[1] > LARGEST:
        return False
    try:
        after = charges(price, np.cumsum(totals, axis=1))
    except OverflowError:
        return False
    rows[:, 0] = after[:, 0]
    np.subtract(after[:, 1:], after[:, :-1], out=rows[:, 1:])
    return True


def _rate_key(price: Price, used: list[int]) -> Ints:
    amounts = [charge(price, quantity) for quantity in accumulate(used)]
    return np.array([after - before for before, after in pairwise([0, *amounts])], np.int64)


def _rate_block(plan: _Plan, block: Ints, out: Ints, work: Ints) -> list[int]:
    """Fill a block; the places left to the integer reference, where what stands is void."""
    largest = int(block.max())
    table, count = _choose(plan, block, largest, out, work[0])
    tiers = table.bounds.searchsorted(block, side="left")
    if plan.package:
        _packages(plan, table, block, tiers, out)
    _apply(table, tiers, count, out, work)
    np.minimum(out, plan.maximum, out=out)
    return np.flatnonzero(block > table.limit).tolist() if largest > table.limit else []


def _choose(plan: _Plan, block: Ints, largest: int, out: Ints, work: Ints) -> tuple[_Table, Ints]:
    """The shortest path that holds the block, and what it counts: the quantities, or `out`."""
    if plan.package:
        return plan.direct if largest <= plan.direct.limit else plan.split, out
    if largest <= plan.direct.limit:
        return plan.direct, block
    if largest <= plan.whole.limit and not int(block[0]) % ONE:
        np.floor_divide(block, ONE, out=out)
        if np.array_equal(np.multiply(out, ONE, out=work), block):
            return plan.whole, out
    return plan.split, block


def _packages(plan: _Plan, table: _Table, block: Ints, tiers: NDArray[np.intp], out: Ints) -> None:
    """Count the packages of each quantity within its tier, a begun one too."""
    table.starts.take(tiers, out=out, mode="clip")
    out -= block
    np.floor_divide(out, plan.package, out=out)  # of the negated quantity: rounds up
    np.negative(out, out=out)  # what is less than nothing has a price of 0
    np.maximum(out, plan.least, out=out)


def _apply(table: _Table, tiers: NDArray[np.intp], count: Ints, out: Ints, work: Ints) -> None:
    """Price the counts; `out` may be their array."""
    prices, bases, high, rest = work
    table.prices.take(tiers, out=prices, mode="clip")
    table.bases.take(tiers, out=bases, mode="clip")
    if table.low > 1:
        np.floor_divide(count, table.low, out=high)
        np.multiply(high, table.low, out=rest)
        np.subtract(count, rest, out=rest)
        rest *= prices
        rest += table.rests.take(tiers, out=out, mode="clip")
        rest //= table.low
        bases += rest
        count = high
    prices *= count
    bases += prices
    np.floor_divide(bases, table.high, out=out)


@lru_cache(maxsize=1_024)
def _plan(price: Price) -> _Plan | None:
    if not _has_table(price):
        return None
    maximum = LARGEST if price.maximum is None else min(LARGEST, price.maximum)
    if price.model == "percentage":  # allowance, packages and flat fees do not apply to it
        price = Price("unit", (Tier(None, price.tiers[0].unit_price),))
    rows, package = _rows(price), price.package
    step, least = (ONE, max(0, price.min_packages)) if package else (1, 0)
    direct, split = (_table(rows, step, package or 1, least, cut) for cut in (False, True))
    whole = _table(rows, ONE, ONE, 0, False)
    return _Plan(direct, whole, split, package, min(least, LARGEST), maximum)


def _has_table(price: Price) -> bool:
    if price.model not in MODELS or price.cells or price.discounts or price.scope == "event":
        return False
    amounts = [price.included, price.maximum or 0, price.package]
    for tier in price.tiers:
        amounts += [tier.unit_price, tier.flat_fee]
    plain = (price.conversion, price.cap, price.event) == (RATE_ONE, None, EventFee())
    return plain and min(amounts) >= 0 and price.package <= SAFE


def _rows(price: Price) -> list[_Row]:
    """A row that charges nothing, for the allowance; then the tiers behind it."""
    above, whole = price.included, price.model in WHOLE_QUANTITY
    rows = [_Row(0, above, 0, 0, 0)]
    for tier in price.tiers:
        end = LARGEST if tier.up_to is None else price.included + tier.up_to
        start = price.included if whole else above
        base = tier.flat_fee * RATE_ONE
        if not whole:
            base += sum(part.amount for part in parts(price, above))
        if not price.package:  # the count is the quantity: take the units before the start off
            base, start = base - start * tier.unit_price, 0
        rows.append(_Row(above, min(end, LARGEST), start, tier.unit_price, base))
        above = end
    return rows


def _table(rows: list[_Row], step: int, size: int, least: int, cut: bool) -> _Table:
    """The tiers for counts of `size` micro-units, each charged like `step` micro-units."""
    common = gcd(RATE_ONE, *(row.price * step for row in rows))
    divisor, highest = RATE_ONE // common, max(row.price for row in rows) * step // common
    low = _low(divisor, highest) if cut else 1
    kept, limit = [(0, 0, 0, 0, 0)], min(rows[0].end, LARGEST)
    for row in rows[1:]:
        price = row.price * step // common
        base, rest = divmod((row.base + RATE_ONE // 2) // common, low)
        room = _room(price, base, low)
        reach = min(row.start + room * size, row.end)
        if room < least or reach <= row.above:
            break
        kept.append((row.above, row.start, price, base, rest))
        limit = reach
        if reach < row.end:
            break
    above, *arrays = (np.array(column, np.int64) for column in zip(*kept, strict=True))
    starts, prices, bases, rests = arrays
    return _Table(above[1:], starts, prices, bases, rests, low, divisor // low, limit)


def _low(divisor: int, price: int) -> int:
    """The largest part of the divisor, by powers of ten, whose product with the price is safe."""
    lows = (gcd(divisor, 10**digits) for digits in range(13))
    return max((low for low in lows if low * (price + 1) <= SAFE), default=1)


def _room(price: int, base: int, low: int) -> int:
    """The largest count that keeps every product and sum within 2^62; 0 where none does."""
    room: int = ((SAFE - 2 - abs(base)) // max(1, price) - 1) * low
    return max(0, min(room, LARGEST))
