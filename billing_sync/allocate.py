"""Micro-amounts to minor units, once per invoice, so that nothing is lost or charged twice.

Each line gets its floor; the units that are missing to the invoice's total go to the lines with the
largest remainders; what is less than a unit is carried to the customer's next invoice. The law:
Σ minor × unit + carry out = Σ micro + carry in. Never is more invoiced than was rated.
"""

from collections.abc import Mapping
from typing import NamedTuple

from billing_sync.currencies import exponent_and_step, unit_micro

CARRY_LINE = "carry"  # what earlier invoices left, when it is at least a unit


class Allocation(NamedTuple):
    """Minor units by line id, empty when everything is carried; `carry_out` in micro-units."""

    minor: dict[str, int]
    carry_out: int

    @property
    def total_minor(self) -> int:
        """The invoice's total in minor units."""
        return sum(self.minor.values())


def allocate(
    lines: Mapping[str, int], carry_in: int, currency: str, minimum_minor: int = 0, *, is_credit: bool = False
) -> Allocation:
    """Allocate an invoice's lines (micro-units by line id).

    A total below one unit, below the minimum, or negative is no invoice: all of it is carried. A credit
    takes a negative total, rounded in the customer's favour; the rest that is carried stays positive.
    """
    unit = unit_micro(currency)
    _, step = exponent_and_step(currency)
    total = sum(lines.values()) + carry_in
    is_too_small = total > -unit if is_credit else total < max(unit, minimum_minor // step * unit)
    if is_too_small:
        return Allocation({}, total)
    target = total // unit
    parts = dict(lines)
    if abs(carry_in) >= unit:
        parts[CARRY_LINE] = carry_in
    units = {line: micro // unit for line, micro in parts.items()}
    missing = target - sum(units.values())
    # A small carry can add or take at most one unit beyond what the remainders hold.
    by_remainder = sorted(parts, key=lambda line: (-(parts[line] % unit), line))
    for line in by_remainder[:missing] if missing >= 0 else by_remainder[missing:]:
        units[line] += 1 if missing >= 0 else -1
    spare = target - sum(units.values())
    units[by_remainder[0]] += spare
    return Allocation({line: count * step for line, count in units.items()}, total - target * unit)
