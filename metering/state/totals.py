"""One hourly total while it is being counted: every aggregation, its wire form and its saved form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from metering.events import UsageEvent
from metering.rating.money import format_exact, parse_decimal
from metering.rating.usage import Aggregation, Dimensions, Usage
from metering.records import HourlyTotal
from metering.state.measure import MICRO, ONE, PRICE_DECIMALS, Measure

LARGEST_VALUES = 50_000  # distinct values in one total: it travels whole in one record
DIGESTS = 1 << 64
_RESTATED = {"kind": "total", "customer": "", "meter": "", "hour": 0, "version": "0"}
_WITH_VALUES = frozenset({"unique", "each", "priced"})


class Some(NamedTuple):
    """Some events of one total together: how many, how many of them late, the sum of their digests."""

    events: int
    late: int
    digest: int


@dataclass(slots=True)
class Total:
    """The state of one customer, meter, dimensions and hour; see `rating.usage.Usage`."""

    kind: Aggregation = "sum"
    quantity: int = 0
    events: int = 0
    late: int = 0
    digest: int = 0
    values: dict[str, int] = field(default_factory=dict)
    last: tuple[int, str] = (0, "")

    def has_room(self, measure: Measure) -> bool:
        """Whether one more distinct value fits."""
        return len(self.values) < LARGEST_VALUES or measure.value in self.values

    def add(self, measure: Measure, event: UsageEvent) -> None:
        """Count one event."""
        quantity = measure.quantity
        if self.kind in ("sum", "count", "average"):
            self.quantity += quantity
        elif self.kind in _WITH_VALUES:
            self._add_value(measure)
        elif self.kind == "max":
            self.quantity = max(self.quantity, quantity)
        elif self.kind == "min":
            self.quantity = quantity if not self.events else min(self.quantity, quantity)
        elif (last := _order(event)) >= self.last:
            self.quantity, self.last = quantity, last
        self.events += 1

    def add_some(self, quantity: int, some: Some) -> None:
        """Count some events whose sum, or extreme, is known; only for kinds that keep no values."""
        kind = self.kind
        if kind in ("sum", "count", "average"):
            self.quantity += quantity
        elif kind == "max":
            self.quantity = max(self.quantity, quantity)
        else:
            assert kind == "min", "values are counted one by one"
            self.quantity = quantity if not self.events else min(self.quantity, quantity)
        events, late, digest = some
        self.events += events
        self.late += late
        self.digest = (self.digest + digest) % DIGESTS

    def _add_value(self, measure: Measure) -> None:
        held = self.values.get(measure.value, 0)
        if self.kind == "unique":
            self.values[measure.value] = held + 1
            self.quantity = len(self.values) * ONE
            return
        self.values[measure.value] = held + (1 if self.kind == "each" else measure.quantity)
        self.quantity += measure.quantity

    def take_back(self, measure: Measure, event: UsageEvent) -> bool:
        """Count one event less; False when the total cannot tell what is left without it."""
        if not self._can_take_back(measure, event):
            return False
        if self.kind in ("sum", "count", "average"):
            self.quantity -= measure.quantity
        elif self.kind in _WITH_VALUES:
            self._take_value_back(measure)
        self.events -= 1
        if not self.events:
            self.quantity, self.values, self.last = 0, {}, (0, "")
        return True

    def _take_value_back(self, measure: Measure) -> None:
        # A price that nothing was bought at may be gone already.
        left = self.values.pop(measure.value, 0) - (measure.quantity if self.kind == "priced" else 1)
        if left:
            self.values[measure.value] = left
        self.quantity = len(self.values) * ONE if self.kind == "unique" else self.quantity - measure.quantity

    def _can_take_back(self, measure: Measure, event: UsageEvent) -> bool:
        if self.events <= 1 or self.kind in ("sum", "count", "average", "each", "priced"):
            return self.events > 0
        if self.kind == "latest":
            # States of before kept the id alone.
            return self.last not in (_order(event), (event.at, event.id))
        if self.kind == "unique":  # totals of before kept no number of events by value
            return sum(self.values.values()) == self.events
        return measure.quantity != self.quantity

    def restate(self, plain: Mapping[str, Any]) -> bool:
        """Take a state computed from the archive, if it was computed from this one."""
        if plain.get("digest") != f"{self.digest:016x}":
            return False
        record = msgspec.convert({**_RESTATED, **plain, "aggregation": self.kind}, HourlyTotal)
        stated = usage_of(record)
        self.quantity, self.events = stated.quantity, stated.events
        self.values, self.last = dict(stated.values), stated.last
        if self.kind == "unique":
            self.values = {value: int(weight) for value, weight in record.values.items()}
        return True

    def saved(self) -> bytes:
        """The total as an entry of the journal."""
        # Quantities can pass 64 bits: text, as everywhere on a wire.
        plain = (str(self.quantity), self.events, self.late, self.digest, self.kind)
        if self.kind in ("sum", "count"):
            return msgspec.msgpack.encode(plain)
        values = {key: str(weight) for key, weight in self.values.items()}
        return msgspec.msgpack.encode((*plain, values, self.last))

    @classmethod
    def restored(cls, raw: bytes) -> "Total":
        """The total of an entry."""
        quantity, events, late, digest, kind, *rest = msgspec.msgpack.decode(raw)
        values = {key: int(weight) for key, weight in rest[0].items()} if rest else {}
        last = (rest[1][0], rest[1][1]) if rest else (0, "")
        return cls(kind, int(quantity), events, late, digest, values, last)


def _order(event: UsageEvent) -> tuple[int, str]:
    """What decides which of two values is the latest: time, then id, then source, whatever came first.

    Names hold no control characters, so NUL orders like the pair (id, source).
    """
    return event.at, f"{event.id}\0{event.source}" if event.source else event.id


def record_of(
    total: Total, customer: str, meter: str, dimensions: Dimensions, hour: int, stamp: str
) -> HourlyTotal:
    """The absolute record of a total."""
    return HourlyTotal(
        customer=customer,
        meter=meter,
        hour=hour,
        quantity=format_exact(total.quantity, MICRO),
        events=total.events,
        version=stamp,
        late=total.late,
        dimensions=dict(dimensions),
        aggregation=total.kind,
        values={
            _key_text(total.kind, k): _weight_text(total.kind, w) for k, w in sorted(total.values.items())
        },
        last=total.last,
        digest=f"{total.digest:016x}",
    )


def usage_of(record: HourlyTotal) -> Usage:
    """What rating reads from an hourly total."""
    return Usage(
        kind=record.aggregation,
        quantity=parse_decimal(record.quantity, MICRO),
        events=record.events,
        values=_parsed(record.aggregation, record.values),
        last=record.last,
    )


def _key_text(kind: Aggregation, key: str) -> str:
    if kind == "unique":
        return key
    return format_exact(int(key), MICRO if kind == "each" else PRICE_DECIMALS)


def _weight_text(kind: Aggregation, weight: int) -> str:
    return format_exact(weight, MICRO) if kind == "priced" else str(weight)


def _parsed(kind: Aggregation, values: Mapping[str, str]) -> dict[str, int]:
    if kind == "unique":
        return dict.fromkeys(values, 1)
    if kind == "priced":
        return {str(parse_decimal(k, PRICE_DECIMALS)): parse_decimal(w, MICRO) for k, w in values.items()}
    return {str(parse_decimal(k, MICRO)): int(w) for k, w in values.items()}
