"""What was used, as mergeable states: each aggregation is a commutative monoid.

An hour's state is merged into the state of the period; the order does not matter. What cannot be
merged exactly (a median, a distinct count by estimate) is no aggregation here.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from metering.rating.cards import ONE

Aggregation = Literal["sum", "count", "max", "min", "latest", "unique", "average", "each", "priced"]
ADDITIVE = frozenset({"sum", "count"})

Dimensions = tuple[tuple[str, str], ...]


class Usage(NamedTuple):
    """The state of some usage events.

    `quantity` is in micro-units: the sum (also of an average), the extreme, or the latest value.
    `values` are weights by key: unique values (weight 1), event sizes in micro-units with their
    number (each), prices of 10^-12 with their micro-units (priced). `last` orders `latest`: event
    time (epoch ms), then id.
    """

    kind: Aggregation
    quantity: int
    events: int
    values: Mapping[str, int] = {}
    last: tuple[int, str] = (0, "")


class HourUse(NamedTuple):
    """The usage of one customer's meter and dimensions in one hour (epoch s).

    `digest` is the sum of its events' fingerprints modulo 2^64.
    """

    hour: int
    customer: str
    meter: str
    dimensions: Dimensions
    usage: Usage
    digest: int = 0


def merge(a: Usage, b: Usage) -> Usage:
    """The state of both sets of events together."""
    if a.kind != b.kind:
        raise ValueError(f"{a.kind} and {b.kind} cannot be merged")
    if not a.events or not b.events:  # an hour whose events were all taken back
        return a if a.events else b
    events = a.events + b.events
    if a.kind in ("sum", "count", "average"):
        return Usage(a.kind, a.quantity + b.quantity, events)
    if a.kind == "max":
        return Usage(a.kind, max(a.quantity, b.quantity), events)
    if a.kind == "min":
        return Usage(a.kind, min(a.quantity, b.quantity), events)
    if a.kind == "latest":
        newer = max(a, b, key=lambda usage: usage.last)
        return newer._replace(events=events)
    return _merge_values(a, b)


def _merge_values(a: Usage, b: Usage) -> Usage:
    events = a.events + b.events
    if a.kind == "unique":
        values = {**a.values, **b.values}
        return Usage(a.kind, len(values) * ONE, events, values)
    small, large = sorted((a.values, b.values), key=len)
    values = dict(large)
    for key, weight in small.items():
        values[key] = values.get(key, 0) + weight
    return Usage(a.kind, a.quantity + b.quantity, events, values)


def quantity_of(usage: Usage) -> int:
    """The quantity that a price sees, micro-units; an average is rounded half away from zero."""
    if usage.kind != "average" or not usage.events:
        return usage.quantity
    magnitude: int = (2 * abs(usage.quantity) + usage.events) // (2 * usage.events)
    return magnitude if usage.quantity >= 0 else -magnitude


def weighted(usage: Usage, weight: int, *, alone: bool = True) -> Usage:
    """Usage that counts `weight` (micro-units) times; exact, or ValueError.

    Not `alone`, it is part of a group of meters and becomes a sum.
    """
    if weight == ONE and alone:
        return usage
    quantity, rest = divmod(usage.quantity * weight, ONE)
    if rest or usage.kind not in ADDITIVE:
        raise ValueError("a weight needs a sum or count whose product has at most 6 decimals")
    return Usage("sum", quantity, usage.events)
