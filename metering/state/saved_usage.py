"""Usage and windows as plain values for the journal, and back."""

from typing import Any

from metering.rating.hourly import Carry
from metering.rating.usage import Usage


def usage_value(usage: Usage) -> tuple[object, ...]:
    """A usage state as plain values; quantities can pass 64 bits, so they are text."""
    values = {k: str(weight) for k, weight in usage.values.items()}
    return (usage.kind, str(usage.quantity), usage.events, values, usage.last)


def usage_of_value(plain: list[Any]) -> Usage:
    """The usage state of plain values."""
    kind, quantity, events, values, last = plain
    return Usage(kind, int(quantity), events, {k: int(w) for k, w in values.items()}, (last[0], last[1]))


def carry_value(carry: Carry) -> tuple[object, ...]:
    """A window that goes on, as plain values."""
    used = [
        (meter, [part for pair in dimensions for part in pair], usage_value(usage))
        for (meter, dimensions), usage in carry.used.items()
    ]
    return (carry.window, used)


def carry_of(plain: list[Any]) -> Carry:
    """The window of plain values."""
    used = {}
    for meter, names, usage in plain[1]:
        dimensions = tuple(zip(names[::2], names[1::2], strict=True))
        used[meter, dimensions] = usage_of_value(usage)
    return Carry(plain[0], used)
