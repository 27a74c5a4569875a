"""Every aggregation and price model through both folds, against the same events rated from a file."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.catalog.load import load_texts
from metering.catalog.resolved import Catalog
from metering.offline import rate_file
from metering.rating.money import parse_quantity
from metering.rating.period import needs_all_hours
from metering.records import Charge, PeriodClose
from metering.state import calendar
from metering.state.fold import Changes, Saved
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.rate_fold import RateFold, RateRules
from tests.state.folding import HOUR, NOW, START, chunk, records, tick

TEXT = (Path(__file__).parent / "every_model.yaml").read_text()
CATALOG = load_texts({"c.yaml": TEXT})
# Without what is shared out over all hours: only then is a period rated from where it was left.
BY_HOUR = load_texts(
    {
        "c.yaml": re.sub(
            r",? discounts: \[[^]]*\]|^ *(discounts|cap): .*$|^.*percent_of.*$", "", TEXT, flags=re.M
        )
    }
)
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


def through_the_folds(
    values: list[bytes],
    size: int,
    *,
    restart: bool,
    from_the_start: bool = False,
    under: Catalog = CATALOG,
) -> list[Changes]:
    meter: Any = MeterFold(MeterRules(0, 1, "events", "hourly", "rejected"))
    rate: Any = RateFold(RateRules(0, 1, "charges"))
    metered: list[Changes] = []
    rated: list[Changes] = []
    began = tick(NOW - START)  # the month begins before its usage, and ends behind it
    batches = [[began], *(values[i : i + size] for i in range(0, len(values), size)), [tick()]]
    offset = place = 0
    for batch in batches:
        meter.fold([chunk(offset, batch, NOW)], under)
        offset += len(batch)
        metered.append(meter.changes())
        hourly = [o.value for o in metered[-1].outputs if o.topic == "hourly"]
        if from_the_start:
            rate._begun.clear()
        rate.fold([chunk(place, hourly)], under)
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


@pytest.mark.parametrize("account", ["a", "both"])
def test_periods_of_this_catalog_are_rated_from_where_they_were_left(account: str) -> None:
    assert not needs_all_hours(BY_HOUR.members(account), calendar.period(PERIOD))


def in_hour(value: bytes, hour: int) -> bytes:
    return json.dumps({**json.loads(value), "time": START + hour * HOUR}).encode()


hours = st.builds(in_hour, events(), st.integers(0, 9))


@settings(max_examples=25, deadline=None)
@given(st.lists(hours, min_size=1, max_size=40), st.integers(1, 9), st.booleans())
def test_going_on_from_the_hours_before_comes_to_what_rating_all_of_them_comes_to(
    values: list[bytes], size: int, in_order: bool
) -> None:
    """What is posted at each checkpoint is the same, to the byte; in order, later hours follow."""
    if in_order:
        values = sorted(values, key=lambda value: int(json.loads(value)["time"]))
    went_on, each_whole = (
        through_the_folds(values, size, restart=False, from_the_start=whole, under=BY_HOUR)
        for whole in (False, True)
    )
    assert went_on == each_whole


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
