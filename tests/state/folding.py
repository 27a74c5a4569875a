"""What the fold tests share: a small catalog, events as bytes, chunks, and a naive model."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from metering.catalog.load import load_texts
from metering.catalog.resolved import Catalog
from metering.records import HourlyTotal, decode
from metering.state.fold import Changes, Chunk
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.rate_fold import RateFold, RateRules

HOUR = 3_600_000
START = 1_698_796_800_000  # 2023-11-01T00:00:00Z
NOW = START + 60 * 24 * HOUR
CATALOG = """
meters:
  - {id: tokens, event_type: use, aggregation: sum, value: n, dimensions: [kind], unit: token, scale: 2}
  - {id: calls, event_type: use, aggregation: count}
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2023-01-01T00:00:00Z
        prices:
          - id: tokens
            meter: tokens
            model: volume
            tiers: [{up_to: 1000, unit_price: "0.10"}, {unit_price: "0.08"}]
          - {id: calls, meter: calls, model: unit, unit_price: "0.0000014"}
plans: [{id: plan, name: Plan, rate_card: card}]
customers:
  - {id: a, name: A, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}
  - {id: b, name: B, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}
"""


def catalog(text: str = CATALOG) -> Catalog:
    return load_texts({"catalog.yaml": text})


def event(number: int, customer: str = "a", hour: int = 0, n: object = 1, **changes: Any) -> bytes:
    body = {
        "id": f"e{number}",
        "customer": customer,
        "type": "use",
        "time": START + hour * HOUR,
        "data": {"n": n, "kind": "x"},
    }
    return json.dumps({**body, **changes}).encode()


def tick(idle_ms: int = 0) -> bytes:
    body = {"id": "t", "type": "metering.tick", "customer": "metering", "time": 0}
    return json.dumps({**body, "data": {"idle_ms": idle_ms}}).encode()


def chunk(first: int, values: Sequence[bytes | None], appended: int = NOW) -> Chunk:
    return Chunk(first, first + len(values), range(first, first + len(values)), list(values), appended)


def meter_fold(partitions: int = 1) -> MeterFold:
    return MeterFold(MeterRules(0, partitions, "events", "hourly", "rejected"))


def rate_fold() -> RateFold:
    return RateFold(RateRules(0, 1, "charges"))


def records(changes: Iterable[Changes | None], topic: str) -> list[Any]:
    return [decode(o.value) for c in changes if c for o in c.outputs if o.topic == topic]


@dataclass
class Naive:
    """The whole meter as a person would write it: it sees the events in order, once."""

    seen: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    totals: dict[tuple[str, str, int], int] = field(default_factory=lambda: defaultdict(int))
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0

    def feed(self, value: bytes) -> None:
        try:
            body = json.loads(value)
            customer, n = body["customer"], body["data"]["n"]
            bad = customer not in ("a", "b") or not isinstance(n, int) or n < 0
        except (ValueError, KeyError, TypeError):
            bad = True
        if bad:
            self.rejected += 1
            return
        content = (body["time"], n)
        first = self.seen.setdefault((customer, body["id"]), content)
        if first is not content:
            self.duplicates += first == content
            self.rejected += first != content
            return
        self.accepted += 1
        hour = body["time"] // HOUR * 3600
        self.totals[customer, "tokens", hour] += n
        self.totals[customer, "calls", hour] += 1


def latest_totals(outputs: Iterable[Any]) -> dict[tuple[str, str, int], int]:
    """What a sink that keeps the highest version ends with."""
    held: dict[tuple[str, str, int], HourlyTotal] = {}
    for record in outputs:
        if isinstance(record, HourlyTotal):
            place = (record.customer, record.meter, record.hour)
            if place not in held or int(record.version) >= int(held[place].version):
                held[place] = record
    return {place: int(record.quantity) for place, record in held.items()}
