"""The prices of the simulated world, its catalog, and the naive model that the books are compared with."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any, NamedTuple

from metering.catalog.load import load_texts
from metering.catalog.resolved import Catalog, resolve
from metering.state.calendar import period_of
from metering.state.partitioning import partition_of

HOUR_MS = 3_600_000
PARTITIONS = 2
CUSTOMERS = ("acme", "bolt", "cody")  # two of them share a partition
MONTHS = ("2026-01", "2026-02", "2026-03")
BASE_FEE = 30
MINIMUM = {"bolt": 60, "cody": 60}
TOKENS_UP_TO, CALLS_UP_TO = 100, 4
PRICES = {  # by catalog revision: month from which they hold → tokens (graduated), calls (volume)
    1: {"2026-01": (("0.10", "0.07"), ("1.25", "0.9000014"))},
}
PRICES[2] = {**PRICES[1], "2026-02": (("0.110001", "0.06"), ("1.5", "0.8"))}
PRICES[3] = {**PRICES[1], "2026-02": (("0.12", "0.0500013"), ("1.4", "0.7"))}
_MICRO = Decimal("0.000001")


def _version(start: str, prices: Any) -> str:
    (few, many), (first, rest) = prices
    return f"""
      - from: {start}-01T00:00:00Z
        prices:
          - {{id: base, model: flat, amount: "{BASE_FEE}"}}
          - {{id: tokens, meter: tokens, model: graduated,
             tiers: [{{up_to: {TOKENS_UP_TO}, unit_price: "{few}"}}, {{unit_price: "{many}"}}]}}
          - {{id: calls, meter: calls, model: volume,
             tiers: [{{up_to: {CALLS_UP_TO}, unit_price: "{first}"}}, {{unit_price: "{rest}"}}]}}"""


@cache
def catalog(revision: int) -> Catalog:
    """A revision of the catalog."""
    versions = "".join(_version(start, prices) for start, prices in PRICES[revision].items())
    people = "".join(
        f"\n  - {{id: {c}, name: {c.title()}, plan: {'floor' if c in MINIMUM else 'plain'}, currency: USD,"
        f" start: 2026-01-01T00:00:00Z}}"
        for c in CUSTOMERS
    )
    text = f"""
meters:
  - {{id: tokens, event_type: use, aggregation: sum, value: n}}
  - {{id: calls, event_type: use, aggregation: count}}
rate_cards:
  - id: card
    currency: USD
    versions: {versions}
plans:
  - {{id: plain, name: Plain, rate_card: card}}
  - {{id: floor, name: Floor, rate_card: card, minimum: {{amount: "{MINIMUM["bolt"]}"}}}}
customers: {people}
"""
    return resolve(load_texts({"catalog.yaml": text}).content, revision)


Place = tuple[str, str, str]  # customer, month, price


class Copy(NamedTuple):
    """One copy of an event in the log."""

    partition: int
    value: bytes


@dataclass
class Naive:
    """The whole engine as a person would write it: it sees the set of events, nothing else."""

    first: dict[tuple[str, str], Any] = field(default_factory=dict)  # customer, id → first copy
    now: dict[tuple[str, str], Any] = field(default_factory=dict)  # → what counts; None: voided
    counts: Counter[str] = field(default_factory=Counter)
    hours: defaultdict[tuple[str, str, int], int] = field(default_factory=lambda: defaultdict(int))

    def feed(self, copies: Iterable[Copy]) -> None:
        """Count each event once, as its first copy says and its corrections change it."""
        for partition, value in copies:
            try:
                found = self._take(partition, json.loads(value))
            except (ValueError, KeyError, TypeError):
                found = "rejected"
            self.counts.update(("read", found))

    def _take(self, partition: int, e: dict[str, Any]) -> str:
        customer, data, said = e["customer"], e["data"], (e["type"], e["time"], e["data"])
        place = target = (customer, e["id"])
        if customer not in CUSTOMERS or partition != partition_of(customer, PARTITIONS):
            return "rejected"
        if e["type"] == "use" and data["n"] < 0:
            return "rejected"
        if place in self.first:
            return "duplicates" if self.first[place] == said else "rejected"
        old, new = None, (e["time"], data["n"]) if e["type"] == "use" else None
        if e["type"] != "use":
            target, old = (customer, data["event"]["id"]), (data["event"]["time"], data["event"]["data"]["n"])
            if self.now.get(target) != old:
                return "rejected"
            new = (old[0], data["instead"]["n"]) if e["type"] == "metering.amend" else None
        self.first[place], self.now[target] = said, new
        for sign, usage in ((-1, old), (1, new)):
            if usage is not None:
                self.hours[customer, "tokens", usage[0] // HOUR_MS * 3600] += sign * usage[1]
                self.hours[customer, "calls", usage[0] // HOUR_MS * 3600] += sign
        return "accepted"

    def charges(self, revision: int, begun: list[str], closed: list[str]) -> dict[Place, Decimal]:
        """What each price of each customer and month comes to, adjustments included."""
        used: defaultdict[Place, int] = defaultdict(int)
        for (customer, meter, hour), quantity in self.hours.items():
            used[customer, period_of(hour), meter] += quantity
        found = {(c, month, "base"): Decimal(BASE_FEE) for c in CUSTOMERS for month in begun}
        for (customer, month, meter), s in used.items():
            (few, many), (first, rest) = PRICES[revision][max(m for m in PRICES[revision] if m <= month)]
            if meter == "tokens":
                low = min(s, TOKENS_UP_TO)
                exact = low * Decimal(few) + (s - low) * Decimal(many)
            else:
                exact = s * Decimal(first if s <= CALLS_UP_TO else rest)
            found[customer, month, meter] = exact.quantize(_MICRO, ROUND_HALF_UP)
        for customer, least in MINIMUM.items():
            for month in closed:
                spent = sum(v for (c, m, _), v in found.items() if (c, m) == (customer, month))
                found[customer, month, "minimum"] = max(Decimal(0), least - spent)
        return {place: amount for place, amount in found.items() if amount}
