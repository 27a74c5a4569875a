"""Columns against single events: the same state, letters and journal, whatever is sent."""

import gc
import json
import random
import weakref
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering import event_rows, native
from metering.event_rows import Row, Rows
from metering.events import Refusal, UsageEvent, decode_values
from metering.state import meter_fold as module
from metering.state import row_groups
from metering.state.dedupe import DAY_MS, content_of, identity_of
from metering.state.fold import Changes, Chunk
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.partitioning import partition_of
from metering.state.quota_part import QuotaRules
from metering.state.row_facts import ReadFacts, contents_of
from tests.state.folding import HOUR, START, catalog, chunk, event

METERS = """
meters:
  - {id: tokens, event_type: use, aggregation: sum, value: n, dimensions: [kind], scale: 2}
  - {id: calls, event_type: use, aggregation: count}
  - {id: peak, event_type: use, aggregation: max, value: n, scale: 6, filters: {kind: [x, "true"]}}
  - {id: least, event_type: use, aggregation: min, value: deep.n, scale: 3, filters: {flag: [deep]}}
  - {id: mean, event_type: load, aggregation: average, value: n, scale: 6}
  - {id: soon, event_type: load, aggregation: count, from: 2023-11-01T02:00:00Z}
  - {id: users, event_type: seen, aggregation: unique, value: kind}
  - {id: last, event_type: seen, aggregation: latest, value: n, scale: 1, late: quarantine}
  - {id: sizes, event_type: seen, aggregation: each, value: n, scale: 2, dimensions: [kind]}
  - {id: sold, event_type: sold, aggregation: priced, value: n, unit_price: p, max_unit_price: "5",
     late: restate}
"""
REST = """
rate_cards:
  - id: card
    currency: USD
    versions:
      - {from: 2023-01-01T00:00:00Z, prices: [{id: calls, meter: calls, model: unit, unit_price: "1"}],
         not_charged: [tokens, peak, least, mean, soon, users, last, sizes, sold]}
plans: [{id: plan, name: Plan, rate_card: card}]
pools: [{id: pool, limits: [{id: few, meter: calls, requests: 20, window: hour, thresholds: [50, 100]}]}]
customers:
  - {id: a, name: A, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}
  - {id: b, name: B, plan: plan, currency: USD, start: 2023-11-01T01:00:00Z, end: 2023-11-01T05:00:00Z,
     limits: [{id: some, meter: tokens, units: 30, window: day}]}
  - {id: p, name: P, plan: plan, currency: USD, pool: pool, start: 2023-01-01T00:00:00Z}
  - {id: elsewhere, name: E, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}
"""
CATALOG = catalog(METERS + REST)
LATER = catalog(METERS.replace("scale: 2", "scale: 0").replace("min, ", "max, ") + REST)
PARTITIONS = next(n for n in range(2, 99) if partition_of("elsewhere", n) != partition_of("a", n))
QUOTAS = QuotaRules("states", "happened", "replies")
OURS = partition_of("a", PARTITIONS)

NUMBERS: list[Any] = [
    *(-1, True, None, "1.25", "0.001", "007", "1e3", "5.", ".5", "\u0663", "-1", "12.500000", {}),
    *(10**17, 10**18, 2**63, 2**80, 1.5, 0.001, 1e3, 1e-7, "9" * 18 + ".999999"),
]
TEXTS: list[Any] = [
    "x",
    "x",
    "x",
    "y",
    "deep",
    "",
    True,
    1,
    None,
    1.5,
    "z" * 300,
    "tab\t",
    "\u00e9",
    "\ud800",
]
TIMES: list[Any] = [
    *("2023-11-01T00:00:00Z", "2023-11-01T01:02:03.456Z", "2023-11-01T01:02:03.456789Z"),
    *("2023-11-01T03:00:00+00:00", "2023-11-01T03:00:00.999999+00:00", "2023-11-01T03:00:00.12Z"),
    *("2023-11-01 03:00:00Z", "2023-11-01T03:00:00+02:00", "2023-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
    *("1969-12-31T23:59:59Z", "2023-11-01T24:00:00Z", "2023-11-01T00:00:60Z", "2023-13-01T00:00:00Z"),
    *("2023-11-01T00:00:00", "2023-11-01T0\u0663:00:00Z", "yesterday", -1, 10**15, 2**70, None, 1.5),
]
NAMES = ["elsewhere", "nobody", "", "a\n", "n" * 300]
TYPES = ["use", "use", "use", "load", "seen", "sold", "other", "metering.x"]
RAW = [
    *(None, b"", b"  ", b"noise", b"{}", b"[]", b"7", b'{"id":1}', b"\xff", b'{"id":"e1"} '),
    *(b'{"id":"e1","id":"e2"}', b'{"a":\n1}', b"[" * 5_000 + b"]" * 5_000),
]
TICK = {"id": "t", "type": "metering.tick", "customer": "metering", "time": 0, "data": {"idle_ms": 0}}
Batches = list[tuple[list[bytes | None], int, bool]]


class Mixture:
    """What is sent, by a seed: mostly ordinary events, copies and conflicts, and all that can be wrong."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.strange = self.chance.choice([0.02, 0.2, 0.6])

    def batches(self) -> Batches:
        """Some batches: their values, how much later they come, and whether a checkpoint follows."""
        counts = [self.chance.randrange(60) for _ in range(self.chance.randrange(1, 6))]
        return [
            ([self.value() for _ in range(n)], self.chance.randrange(80), self.chance.random() < 0.5)
            for n in counts
        ]

    def value(self) -> bytes | None:
        """One Kafka value."""
        chance = self.chance
        if chance.random() < self.strange / 4:
            return chance.choice(RAW)
        if chance.random() < 0.2:
            parts = [self.body() if chance.random() > 0.02 else 7 for _ in range(chance.randrange(6))]
            return json.dumps(parts).encode()
        return json.dumps(self.body()).encode()

    def body(self) -> dict[str, Any]:
        """One event, perhaps none that counts."""
        chance = self.chance
        if chance.random() < self.strange / 6:
            return TICK
        if chance.random() < self.strange / 4:
            return self.correction()
        return self.event()

    def correction(self) -> dict[str, Any]:
        """A correction or an approval of an event that may have come."""
        chance, original = self.chance, self.event()
        data = {"actor": "ann", "reason": "wrong", "event": original, "instead": {"n": 1, "kind": "x"}}
        data["as"] = chance.choice(["adjustment", "restatement"])
        return {
            "id": f"c{chance.randrange(10)}",
            "customer": original.get("customer", original.get("subject")),
            "type": "metering." + chance.choice(["void", "amend", "restore", "approve"]),
            "time": original["time"],
            "data": data,
        }

    def event(self) -> dict[str, Any]:
        """A usage event; each field may be strange."""
        chance = self.chance
        number = chance.randrange(60)
        data = {"n": self.pick(number % 10, NUMBERS), "kind": self.pick("xy"[number % 3 == 0], TEXTS)}
        data |= {"flag": self.pick("flat", TEXTS), "p": self.pick(number % 5, NUMBERS)}
        if chance.random() < 0.3:
            data["deep"] = chance.choice([{"n": 3}, {"n": "0.5"}, {}, 7])
        if chance.random() < self.strange / 4:
            del data[chance.choice(sorted(data))]
        event = {
            "id": self.pick(f"e{number}", ["", "e\x00", "\u00fc", "i" * 300, None]),
            "customer": self.pick("aapb"[number % 4], NAMES),
            "type": self.pick(TYPES[number % 5], TYPES),
            "time": self.pick(START + number % 13 * HOUR // 2 + number, TIMES),
            "data": self.pick(data, [None, {}, 7]),
            "source": self.pick("", ["s", "s\t"]),
        }
        if chance.random() < self.strange / 8:
            event["time"] = START + chance.randrange(70) * DAY_MS
        if chance.random() < 0.15:
            event = {"specversion": "1.0", "subject": event.pop("customer"), **event}
        if chance.random() < 0.1:
            event["lease"] = self.pick("l1", ["l\x00"])
        if chance.random() < 0.1:
            event["backfill"] = self.pick("b1", ["b\x00"])
        return event

    def pick(self, usual: Any, strange: list[Any]) -> Any:
        """The usual, or something else."""
        return usual if self.chance.random() > self.strange / 5 else self.chance.choice(strange)


def folded(made: Batches, *, columns: bool, compiled: bool = False) -> tuple[Any, ...]:
    """All that a fold comes to: its changes at each checkpoint, counters and watermark."""
    rules = MeterRules(OURS, PARTITIONS, "events", "hourly", "rejected", compiled=compiled, quotas=QUOTAS)
    fold = MeterFold(rules)
    changes: list[Changes | None] = []
    offset, appended = 0, START + 7 * HOUR
    with patch.object(module, "is_worth_columns", lambda found: columns and bool(found)):
        for number, (batch, days, saves) in enumerate(made):
            appended += days * DAY_MS // 2 if days > 60 else HOUR
            under = LATER if number > 3 else CATALOG
            size = max(1, 2 * len(batch))  # with holes, as compaction leaves them
            offsets = range(offset, offset + 2 * len(batch), 2)
            fold.fold([Chunk(offset, offset + size, offsets, batch, appended)], under)
            offset += size
            if saves:
                changes.append(fold.changes())
        changes.append(fold.changes())
    return changes, fold.counters, fold.watermark


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_columns_come_to_what_single_events_come_to(seed: int) -> None:
    made = Mixture(seed).batches()
    assert folded(made, columns=True) == folded(made, columns=False)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_compiled_scanner_comes_to_what_single_events_come_to(seed: int) -> None:
    made = Mixture(seed).batches()
    assert folded(made, columns=True, compiled=True) == folded(made, columns=False)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_rows_are_the_events_that_the_decoder_finds(seed: int) -> None:
    mixture = Mixture(seed)
    batch = [mixture.value() for _ in range(30)]
    rows, items = Rows(batch), list(decode_values(batch))
    assert len(rows) == len(items)
    contents = contents_of(rows)
    for row, item in enumerate(items):
        found = rows.item(row)
        assert (found.value, found.place, found.raw) == (item.value, item.place, item.raw)
        if isinstance(item.event, Refusal):
            assert found.event == item.event
        else:
            assert isinstance(found.event, UsageEvent)
            assert facts(found.event) == facts(item.event)
            assert identity_of(found.event) == identity_of(item.event)
            if item.event.type != TICK["type"]:
                assert contents[row] == content_of(item.event)


def facts(event: UsageEvent) -> tuple[Any, ...]:
    return tuple(
        getattr(event, name) for name in UsageEvent.__struct_fields__ if name not in ("time", "subject")
    )


def test_a_row_has_the_fields_of_an_event() -> None:
    assert set(Row.__struct_fields__) == set(UsageEvent.__struct_fields__)


def test_names_that_nobody_knows_do_not_fill_the_memory() -> None:
    fold = MeterFold(MeterRules(OURS, PARTITIONS, "events", "hourly", "rejected"))
    with patch.object(row_groups, "MOST_GROUPS", 50), patch.object(event_rows, "SMALLEST_BYTES", 1):
        for number in range(10):
            batch = [event(n, customer=f"nobody-{number}-{n}") for n in range(20)]
            fold.fold([chunk(20 * number, batch)], CATALOG)
            assert fold._groups is not None
            layout = fold._groups.layout("use")
            assert layout is not None
            assert 0 < len(layout.known) <= 70
    assert fold.counters.rejected == 200


@pytest.mark.parametrize("compiled", [True, False])
def test_nothing_of_a_chunk_waits_for_garbage_to_be_collected(compiled: bool) -> None:
    """A worker looks for garbage once in a long while: what is in a cycle holds all events until then."""
    made: list[weakref.ref[Any]] = []
    real = module.facts_of

    def facts_of(*given: Any) -> Any:
        found = real(*given)
        assert isinstance(found, ReadFacts) is not (compiled and native.scan is not None)
        made.append(weakref.ref(found))
        return found

    fold = MeterFold(MeterRules(0, 1, "events", "hourly", "rejected", compiled=compiled))
    gc.disable()
    try:
        with patch.object(module, "facts_of", facts_of):
            fold.fold([chunk(0, [event(n) for n in range(100)])], catalog())
        assert [ref() for ref in made] == [None]
    finally:
        gc.enable()
