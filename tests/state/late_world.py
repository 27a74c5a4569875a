"""What the tests of late usage share: meters of every policy, both folds in a row, a naive model."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from msgspec.structs import replace

from metering.catalog.load import load_texts
from metering.rating.charge import charge
from metering.rating.money import parse_quantity
from metering.records import Charge, DeadLetter, PeriodClose, decode
from metering.state.calendar import is_closed, period, period_of
from metering.state.fold import Changes, Output, Saved
from metering.state.meter_rules import Counters
from tests.state.folding import START, chunk, meter_fold, rate_fold

METERS = {"calls": "adjust", "seats": "restate", "bytes": "quarantine", "tokens": "adjust"}
TYPES = {"call": ("calls",), "seat": ("seats",), "byte": ("bytes",), "chat": ("tokens", "seats")}
PERIODS = ("2023-11", "2023-12", "2024-01")
HOUR = 3_600_000
NOW = START + 64 * 24 * HOUR  # the fourth of January
CATALOG = load_texts(
    {
        "c.yaml": "meters:\n"
        + "".join(
            f"  - {{id: {meter}{i}, event_type: {kind}, aggregation: sum, value: n, late: {METERS[meter]}}}\n"
            for i, (kind, meters) in enumerate(TYPES.items())
            for meter in meters
        )
        + "rate_cards:\n  - id: card\n    currency: USD\n    versions:\n"
        "      - from: 2023-01-01T00:00:00Z\n        prices:\n"
        + "".join(
            f"          - {{id: {meter}{i}, meter: {meter}{i}, model: graduated,"
            ' tiers: [{up_to: 100, unit_price: "0.10"}, {unit_price: "0.03"}]}\n'
            for i, meters in enumerate(TYPES.values())
            for meter in meters
        )
        + "plans: [{id: plan, name: Plan, rate_card: card}]\n"
        "customers:\n"
        "  - {id: a, name: A, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}\n"
        "  - {id: b, name: B, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}\n"
    }
)
PRICES = {kind: [f"{meter}{i}" for meter in meters] for i, (kind, meters) in enumerate(TYPES.items())}


def use(number: int, customer: str, kind: str, month: str, hour: int, n: int) -> dict[str, Any]:
    at = period(month).starts * 1_000 + hour * HOUR
    return {"id": f"e{number}", "customer": customer, "type": kind, "time": at, "data": {"n": n}}


def approval(event: dict[str, Any], /, *, restates: bool, **changes: Any) -> dict[str, Any]:
    data = {"event": event, "as": "restatement" if restates else "adjustment"}
    return {
        "id": f"approve:{event['id']}:{restates}",
        "customer": event["customer"],
        "type": "metering.approve",
        "time": NOW,
        "data": {**data, "actor": "anna", "reason": "agreed", **changes},
    }


def record(*events: dict[str, Any]) -> bytes:
    return json.dumps(events[0] if len(events) == 1 else events).encode()


class Books(NamedTuple):
    """What a reader of the topics ends with; versions are left out."""

    charges: dict[tuple[str, str, str, int], Charge]  # by customer, period, price, hour
    closes: dict[tuple[str, str, int], tuple[Any, ...]]  # with the revision
    letters: dict[tuple[int, int], str]
    counters: Counters


def restored(fold: Any, made: Sequence[Changes]) -> Any:
    """A fresh fold with the durable copy of another."""
    entries = {entry.key: entry for changes in made for entry in changes.entries}
    kept = [entry for entry in entries.values() if entry.value is not None]
    segments = [segment for changes in made for segment in changes.segments]
    fold.restore(Saved(made[-1].offset, made[-1].header, kept, segments))
    return fold


def fold_all(fold: Any, fresh: Any, values: Sequence[bytes], cuts: Iterable[int], *, restart: bool) -> Any:
    """Fold values with a checkpoint at each cut; the fold at the end and the outputs."""
    made: list[Changes] = []
    places = sorted({0, len(values), *(cut for cut in cuts if 0 < cut < len(values))})
    for first, stop in pairwise(places):
        fold.fold([chunk(first, values[first:stop], NOW)], CATALOG)
        changes = fold.changes()
        assert changes is not None
        made.append(changes)
        if restart:
            fold = restored(fresh(), made)
    return fold, [output for changes in made for output in changes.outputs]


def run(
    values: Sequence[bytes],
    meter_cuts: Iterable[int] = (),
    rate_cuts: Iterable[int] = (),
    *,
    restart: bool = False,
    way: str = "once",
) -> Books:
    """The books of a log, however it is cut; the rate fold reads its input once, twice or compacted."""
    meter, outputs = fold_all(meter_fold(), meter_fold, values, meter_cuts, restart=restart)
    written = [o for o in outputs if o.topic == "hourly"]
    last = {o.key: number for number, o in enumerate(written)}
    if way == "compacted":
        written = [o for number, o in enumerate(written) if last[o.key] == number]
    hourly = [o.value for o in written] * (2 if way == "twice" else 1)
    _, charged = fold_all(rate_fold(), rate_fold, hourly, rate_cuts, restart=restart)
    return books(charged, [o for o in outputs if o.topic == "rejected"], meter.counters)


def books(charged: Iterable[Output], letters: Iterable[Output], counters: Counters) -> Books:
    held: dict[tuple[str, str, str, int], Charge] = {}
    closes: dict[tuple[str, str, int], tuple[Any, ...]] = {}
    for output in charged:
        row = decode(output.value)
        if isinstance(row, Charge):
            place = (row.customer, row.period, row.price, row.hour)
            if place not in held or int(row.version) >= int(held[place].version):
                held[place] = row
        elif isinstance(row, PeriodClose):
            said = (row.rows, row.amount, row.digest, row.watermark, tuple(row.approvals))
            assert closes.setdefault((row.customer, row.period, row.revision), said) == said
    refused = [decode(o.value) for o in letters]
    return Books(
        {place: replace(row, version="") for place, row in held.items() if row.card},
        closes,
        {(r.offset, r.index): r.reason for r in refused if isinstance(r, DeadLetter)},
        counters,
    )


def by_price(found: Books) -> dict[tuple[str, str, str], int]:
    """Micro-units by customer, period and price; zeros left out."""
    sums: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for (customer, name, price, _), row in found.charges.items():
        sums[customer, name, price] += parse_quantity(row.amount, 6)
    return {place: amount for place, amount in sums.items() if amount}


Place = tuple[str, str, str]  # customer, period, price


@dataclass
class Model:
    """Late usage as a person would write it: event by event, one period at a time."""

    watermark: int = 0
    closed: list[str] = field(default_factory=list)
    used: defaultdict[Place, int] = field(default_factory=lambda: defaultdict(int))
    booked: defaultdict[Place, int] = field(default_factory=lambda: defaultdict(int))  # in the period itself
    adjusted: dict[tuple[Place, str], int] = field(default_factory=dict)  # in a later one, closed by now
    seen: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    restated: set[tuple[str, str]] = field(default_factory=set)
    revisions: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0

    def feed(self, events: Sequence[dict[str, Any]]) -> None:
        """One record of the log."""
        for event in events:
            self._take(event)
        for customer, name in self.restated:
            self.revisions[customer, name] += 1
            for place in [p for p in self.used if p[:2] == (customer, name)]:
                self.booked[place] = self._worth(place)
        self.restated.clear()
        for name in [p for p in PERIODS if is_closed(p, self.watermark, 24) and p not in self.closed]:
            for place, amount in self._open().items():
                self.adjusted[place, name] = amount
            self.closed.append(name)
            for place in [p for p in self.used if p[1] == name]:
                self.booked[place] = self._worth(place)

    def _take(self, event: dict[str, Any]) -> None:
        kind, name = event["type"], event["id"]
        original = event["data"]["event"] if kind == "metering.approve" else event
        if name in self.seen:
            self.duplicates += 1
            return
        if kind == "metering.approve":
            if original["id"] not in self.held:
                self.rejected += 1
                return
            self.held.discard(original["id"])
            self.seen.add(original["id"])
            if event["data"]["as"] == "restatement":
                self.restated.add((original["customer"], period_of(original["time"] // 1_000)))
        elif period_of(event["time"] // 1_000) in self.closed and kind != "call":
            self.held.add(name)
            self.rejected += 1
            return
        self.seen.add(name)
        self.accepted += 1
        self.watermark = max(self.watermark, original["time"])
        for price in PRICES[original["type"]]:
            place = (original["customer"], period_of(original["time"] // 1_000), price)
            self.used[place] += original["data"]["n"]

    def _worth(self, place: Place) -> int:
        terms = CATALOG.terms(place[0])
        assert terms is not None
        return charge(terms.agreement.segments(place[2])[0].price, parse_quantity(str(self.used[place]), 6))

    def _open(self) -> dict[Place, int]:
        """What closed periods came to besides what stands in them and in other closed ones."""
        found = {}
        for place in (p for p in self.used if p[1] in self.closed):
            elsewhere = sum(amount for (p, _), amount in self.adjusted.items() if p == place)
            found[place] = self._worth(place) - self.booked[place] - elsewhere
        return found

    def by_price(self) -> dict[Place, int]:
        """Micro-units by customer, period and price; zeros left out."""
        following = next(p for p in (*PERIODS, "2024-02") if p not in self.closed)
        found: defaultdict[Place, int] = defaultdict(int)
        for place in self.used:
            found[place] += self.booked[place] if place[1] in self.closed else self._worth(place)
        for ((customer, name, price), where), amount in self.adjusted.items():
            found[customer, where, f"{price}@{name}"] += amount
        for (customer, name, price), amount in self._open().items():
            found[customer, following, f"{price}@{name}"] += amount
        return {place: amount for place, amount in found.items() if amount}
