"""Every aggregation and price model through both folds, against the same events rated from a file."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.catalog.load import load_texts
from metering.offline import rate_file
from metering.rating.money import parse_quantity
from metering.records import Charge, PeriodClose
from metering.state.fold import Changes, Saved
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.rate_fold import RateFold, RateRules
from tests.state.folding import HOUR, NOW, START, chunk, records, tick

CATALOG = load_texts({"c.yaml": (Path(__file__).parent / "every_model.yaml").read_text()})
PERIOD = "2023-11"


@st.composite
def events(draw: st.DrawFn) -> bytes:
    number = draw(st.integers(0, 40))
    body = {
        "id": f"e{number}",
        "customer": draw(st.sampled_from("abc")),
        "type": "use",
        "source": draw(st.sampled_from(["", "z"])),
        "time": START + draw(st.integers(0, 8 * HOUR) | st.sampled_from([0, HOUR])),
        "data": {
            "n": str(draw(st.decimals(0, 250, places=3))),
            "p": str(draw(st.decimals(0, 99, places=7))),
            "region": draw(st.sampled_from(["eu", "us"])),
            "size": draw(st.sampled_from("sl")),
            "user": draw(st.sampled_from(["u1", "u2", "u3", 4])),
        },
    }
    return json.dumps(body).encode()


def copy_of(fold: Any, made: list[Changes]) -> Any:
    """A fold restored from what its checkpoints made durable."""
    entries, segments = {}, []
    for changes in made:
        segments += changes.segments
        for entry in changes.entries:
            entries[entry.key] = entry
            if entry.value is None:
                del entries[entry.key]
    fresh = type(fold)(fold.rules)
    fresh.restore(Saved(made[-1].offset, made[-1].header, list(entries.values()), segments))
    return fresh


def through_the_folds(values: list[bytes], size: int, *, restart: bool) -> list[Changes]:
    meter: Any = MeterFold(MeterRules(0, 1, "events", "hourly", "rejected"))
    rate: Any = RateFold(RateRules(0, 1, "charges"))
    metered: list[Changes] = []
    rated: list[Changes] = []
    began = tick(NOW - START)  # the month begins before its usage, and ends behind it
    batches = [[began], *(values[i : i + size] for i in range(0, len(values), size)), [tick()]]
    offset = place = 0
    for batch in batches:
        meter.fold([chunk(offset, batch, NOW)], CATALOG)
        offset += len(batch)
        metered.append(meter.changes())
        hourly = [o.value for o in metered[-1].outputs if o.topic == "hourly"]
        rate.fold([chunk(place, hourly)], CATALOG)
        place += len(hourly)
        rated.append(rate.changes())
        if restart:
            meter, rate = copy_of(meter, metered), copy_of(rate, rated)
    return rated


def sums(made: list[Changes]) -> dict[tuple[str, str], int]:
    held: dict[tuple[str, str, int], Charge] = {}
    for row in records(made, "charges"):
        if isinstance(row, Charge) and row.period == PERIOD:
            place = (row.customer, row.price, row.hour)
            if place not in held or int(row.version) >= int(held[place].version):
                held[place] = row
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    for (customer, price, _), row in held.items():
        found[customer, price] += parse_quantity(row.amount, 6)
    return {place: amount for place, amount in found.items() if amount}


def from_a_file(values: list[bytes]) -> dict[tuple[str, str], int]:
    offline = rate_file(CATALOG, "usage.jsonl", b"\n".join(values), PERIOD)
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in offline.rows[PERIOD]:
        found[row.customer, row.price] += row.amount
    return {place: amount for place, amount in found.items() if amount}


@settings(max_examples=40, deadline=None)
@given(st.lists(events(), min_size=1, max_size=40), st.integers(1, 40), st.booleans())
def test_the_stream_comes_to_what_a_file_of_the_same_events_comes_to(
    values: list[bytes], size: int, restart: bool
) -> None:
    assert sums(through_the_folds(values, size, restart=restart)) == from_a_file(values)


@settings(max_examples=20, deadline=None)
@given(st.lists(events(), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_events_changes_no_total(values: list[bytes], chance: Any) -> None:
    unique = list({tuple(json.loads(v)[k] for k in ("customer", "source", "id")): v for v in values}.values())
    shuffled = chance.sample(unique, k=len(unique))
    assert sums(through_the_folds(shuffled, 5, restart=False)) == from_a_file(unique)


@settings(max_examples=20, deadline=None)
@given(st.lists(events(), min_size=1, max_size=30))
def test_closes_state_what_the_rows_come_to(values: list[bytes]) -> None:
    made = through_the_folds(values, 7, restart=True)
    rows = sums(made)
    for close in (r for r in records(made, "charges") if isinstance(r, PeriodClose) and r.period == PERIOD):
        total = sum(amount for (customer, _), amount in rows.items() if customer == close.customer)
        assert parse_quantity(close.amount, 6) == total
