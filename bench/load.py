"""A seeded load of usage events, and what must come out of it: the same settings make the same bytes.

Customers have a long tail, event times run through some hours of one month, and the records hold
copies, late events, broken ones and envelopes as asked for.
"""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from metering.state.calendar import HOUR_MS
from metering.state.partitioning import partition_of

EVENT_TYPE, METER, DIMENSION = "use", "units", "region"
REGIONS = ("eu", "us")
START_MS = 1_767_571_200_000  # 2026-01-05T00:00:00Z: one period, whatever the load's hours
PERIOD = "2026-01"
UNIT_PRICE = "0.001"
_BLOCK = 10_000
_COPY_DISTANCE = 5_000  # events between an event and its copy
_LATE_HOURS = 2

Place = tuple[str, str, int]  # customer, region, hour (epoch s)


class Record(NamedTuple):
    """One Kafka record of the load."""

    partition: int
    key: bytes
    value: bytes


@dataclass
class Expected:
    """The naive model: exact totals by customer, region and hour, and what becomes of the events."""

    totals: dict[Place, list[int]] = field(default_factory=dict)  # quantity, events
    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    records: int = 0


@dataclass(frozen=True)
class Load:
    """What a load is made of; shares are of the events."""

    events: int = 1_000_000
    seed: int = 1
    customers: int = 1_000
    hours: int = 4
    copies: float = 0.0
    late: float = 0.0
    malformed: float = 0.0
    envelope: int = 1
    codec: str = "lz4"
    partitions: int = 4
    first: int = 0  # number of the first event: a second load that continues a first one

    def plain(self) -> dict[str, Any]:
        """The settings, for the results file."""
        return asdict(self)

    def customer(self, number: int) -> str:
        """The id of a customer."""
        return f"customer-{number:06d}"

    def records(self, expected: Expected) -> Iterator[Record]:
        """Every record in sending order; `expected` is filled on the way."""
        return _Maker(self, expected).records()


class _Maker:
    def __init__(self, load: Load, expected: Expected) -> None:
        self._load, self._expected = load, expected
        self._chance = random.Random(load.seed + load.first)
        self._names = [load.customer(n) for n in range(load.customers)]
        self._weights = list(accumulate(1 / (n + 3) for n in range(load.customers)))
        self._partition = {name: partition_of(name, load.partitions) for name in self._names}
        self._later: dict[int, list[tuple[str, bytes]]] = {}  # copies by the number they come behind
        self._waiting: dict[str, list[bytes]] = {}

    def records(self) -> Iterator[Record]:
        load = self._load
        for start in range(0, load.events, _BLOCK):
            for name, body in self._block(start, min(start + _BLOCK, load.events)):
                if load.envelope == 1:
                    yield self._record(name, body)
                else:
                    yield from self._enveloped(name, body)
        for number in sorted(self._later):
            for name, body in self._later[number]:
                yield self._record(name, body)
        for name, bodies in self._waiting.items():
            if bodies:
                yield self._record(name, b"[" + b",".join(bodies) + b"]")

    def _block(self, start: int, stop: int) -> Iterator[tuple[str, bytes]]:
        load, chance = self._load, self._chance
        names = chance.choices(self._names, cum_weights=self._weights, k=stop - start)
        values = chance.choices(range(1, 1_000), k=stop - start)
        shares = load.copies or load.late or load.malformed
        for number, name, value in zip(range(start, stop), names, values, strict=True):
            at = START_MS + load.hours * HOUR_MS * number // load.events
            if shares:
                at = self._delayed(at)
            region = REGIONS[value & 1]
            body = (
                f'{{"id":"e{load.first + number:024x}","customer":"{name}","source":"gateway",'
                f'"type":"use","time":{at},"data":{{"n":{value},"region":"{region}"}}}}'
            ).encode()
            self._count((name, region, at // HOUR_MS * 3_600), value)
            yield name, body
            if shares:
                yield from self._disturbed(number, name, body)

    def _delayed(self, at: int) -> int:
        if self._chance.random() >= self._load.late:
            return at
        return max(START_MS, at - self._chance.randrange(_LATE_HOURS * HOUR_MS))

    def _disturbed(self, number: int, name: str, body: bytes) -> Iterator[tuple[str, bytes]]:
        expected, chance = self._expected, self._chance
        if chance.random() < self._load.copies:
            expected.read += 1
            expected.duplicates += 1
            self._later.setdefault(number + chance.randrange(_COPY_DISTANCE), []).append((name, body))
        if chance.random() < self._load.malformed:
            expected.read += 1
            expected.rejected += 1
            yield name, body.replace(b'"n":', b'"n":-')
        yield from self._later.pop(number, ())

    def _count(self, place: Place, value: int) -> None:
        expected = self._expected
        expected.read += 1
        expected.accepted += 1
        total = expected.totals.get(place)
        if total is None:
            expected.totals[place] = [value, 1]
        else:
            total[0] += value
            total[1] += 1

    def _enveloped(self, name: str, body: bytes) -> Iterator[Record]:
        waiting = self._waiting.setdefault(name, [])
        waiting.append(body)
        if len(waiting) == self._load.envelope:
            yield self._record(name, b"[" + b",".join(waiting) + b"]")
            waiting.clear()

    def _record(self, name: str, value: bytes) -> Record:
        self._expected.records += 1
        return Record(self._partition[name], name.encode(), value)


def catalog_text(customers: int, extra: str = "") -> str:
    """The catalog of a load as YAML: one meter, one price; `extra` holds further customers."""
    people = "".join(
        f"  - {{id: customer-{n:06d}, name: C{n}, plan: plan, currency: USD, start: 2025-01-01T00:00:00Z}}\n"
        for n in range(customers)
    )
    return (
        "meters:\n"
        f"  - {{id: {METER}, event_type: {EVENT_TYPE}, aggregation: sum, value: n,"
        f" dimensions: [{DIMENSION}]}}\n"
        "rate_cards:\n"
        "  - id: card\n    currency: USD\n    versions:\n"
        "      - from: 2025-01-01T00:00:00Z\n        prices:\n"
        f'          - {{id: units, meter: {METER}, model: unit, unit_price: "{UNIT_PRICE}"}}\n'
        "plans: [{id: plan, name: Plan, rate_card: card}]\n"
        f"customers:\n{people}{extra}"
    )
