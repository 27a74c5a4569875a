"""The meter fold: every event once, whatever the batches; nothing refused without a letter."""

import itertools

import pytest
from aiokafka.partitioner import murmur2 as kafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from metering.records import DeadLetter, HourlyTotal, Watermark
from metering.state.fold import Changes, Saved
from metering.state.partitioning import murmur2, partition_of
from tests.state.folding import CATALOG as TEXT
from tests.state.folding import (
    HOUR,
    NOW,
    START,
    Naive,
    catalog,
    chunk,
    event,
    latest_totals,
    meter_fold,
    records,
    tick,
)

CATALOG = catalog()
events = st.lists(
    st.one_of(
        st.builds(event, st.integers(0, 8), st.sampled_from("ab"), st.integers(0, 5), st.integers(-1, 9)),
        st.sampled_from([b"noise", event(1, customer="nobody"), event(2, n="0.001")]),
    ),
    max_size=40,
)
cuts = st.lists(st.integers(0, 40), max_size=6)


def fold_in_batches(values: list[bytes], cuts: list[int], *, restart: bool) -> tuple[object, list[Changes]]:
    fold, made = meter_fold(), []
    bounds = sorted({0, len(values), *(c for c in cuts if c < len(values))})
    for start, stop in itertools.pairwise(bounds):
        fold.fold([chunk(start, values[start:stop])], CATALOG)
        changes = fold.changes()
        assert changes is not None
        made.append(changes)
        if restart:
            fold = restored(made)
    return fold, made


def restored(made: list[Changes]) -> object:
    entries = {}
    for changes in made:
        for entry in changes.entries:
            entries[entry.key] = entry
            if entry.value is None:
                del entries[entry.key]
    segments = [s for changes in made for s in changes.segments]
    fold = meter_fold()
    fold.restore(Saved(made[-1].offset, made[-1].header, list(entries.values()), segments))
    return fold


@given(events, cuts, st.booleans())
def test_totals_are_those_of_the_naive_model_however_it_is_cut(
    values: list[bytes], cuts: list[int], restart: bool
) -> None:
    naive = Naive()
    for value in values:
        naive.feed(value)
    fold, made = fold_in_batches(values, cuts, restart=restart)
    assert latest_totals(records(made, "hourly")) == naive.totals
    counters = fold.counters  # type: ignore[attr-defined]
    assert (counters.accepted, counters.duplicates, counters.rejected) == (
        naive.accepted,
        naive.duplicates,
        naive.rejected,
    )


@given(events, cuts)
def test_read_is_accepted_and_duplicates_and_rejected(values: list[bytes], cuts: list[int]) -> None:
    fold, _ = fold_in_batches(values, cuts, restart=False)
    c = fold.counters  # type: ignore[attr-defined]
    assert c.read == len(values) == c.accepted + c.duplicates + c.rejected


@given(events, cuts)
def test_every_rejected_event_has_its_letter(values: list[bytes], cuts: list[int]) -> None:
    fold, made = fold_in_batches(values, cuts, restart=False)
    letters = [r for r in records(made, "rejected") if isinstance(r, DeadLetter)]
    assert len(letters) == fold.counters.rejected  # type: ignore[attr-defined]
    assert all(letter.payload == values[letter.offset] for letter in letters)


def fold_once(*values: bytes, appended: int = NOW) -> list[Changes]:
    fold = meter_fold()
    fold.fold([chunk(0, values, appended)], CATALOG)
    changes = fold.changes()
    assert changes is not None
    return [changes]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (event(1, customer="nobody"), "unknown_customer"),
        (event(1, type="other"), "unknown_type"),
        (event(1, time=1_000), "before_start"),
        (event(1, time=NOW + 301_000), "in_the_future"),
        (event(1, n=-1), "negative_value"),
        (event(1, n=10**18), "too_large"),
        (event(1, n="0.001"), "too_many_decimals"),
        (event(1, n="1e3"), "not_a_number"),
        (event(1, n=True), "not_a_number"),
        (event(1, n=None), "missing_value"),
        (event(1, data={"n": 1}), "bad_dimension"),
        (event(1, data={"n": 1, "kind": ""}), "bad_dimension"),
        (event(1, n={"x": 1}), "not_a_number"),
    ],
)
def test_what_cannot_be_counted_is_refused_with_its_reason(value: bytes, reason: str) -> None:
    (letter,) = records(fold_once(value), "rejected")
    assert letter.reason == reason


def test_a_value_of_a_huge_exponent_is_refused() -> None:
    raw = event(1, n=1).replace(b'"n": 1', b'"n": 1e400000')
    (letter,) = records(fold_once(raw), "rejected")
    assert letter.reason == "too_large"


@pytest.mark.parametrize("n", ["0.25", "7", 7, "1.500"])
def test_numbers_and_decimal_strings_are_exact(n: object) -> None:
    totals = [r for r in records(fold_once(event(1, n=n)), "hourly") if isinstance(r, HourlyTotal)]
    assert [t.quantity for t in totals if t.meter == "tokens"] == [
        str(n).rstrip("0") if "." in str(n) else str(n)
    ]


def test_a_refused_event_can_be_sent_again_with_the_same_id() -> None:
    fold = meter_fold()
    fold.fold([chunk(0, [event(1, n=-1), event(1, n=5)])], CATALOG)
    assert (fold.counters.accepted, fold.counters.rejected) == (1, 1)


def test_the_same_id_of_another_source_is_another_event() -> None:
    fold = meter_fold()
    fold.fold([chunk(0, [event(1, source="x"), event(1, source="y")])], CATALOG)
    assert fold.counters.accepted == 2


def test_the_watermark_follows_its_totals() -> None:
    hourly = records(fold_once(event(1, hour=5)), "hourly")
    assert isinstance(hourly[-1], Watermark)
    assert hourly[-1].time == START + 5 * HOUR


def test_a_tick_lets_time_pass_by_the_brokers_clock() -> None:
    hourly = records(fold_once(event(1), tick(1_000)), "hourly")
    assert hourly[-1].time == NOW - 1_000


def test_usage_of_a_closed_period_is_refused_and_kept() -> None:
    fold, later = meter_fold(), NOW + 7 * 24 * HOUR  # 36 days behind the close of November
    fold.fold([chunk(0, [event(1), tick(), event(2)], appended=later)], CATALOG)
    made = fold.changes()
    assert [r.reason for r in records([made], "rejected")] == ["period_closed"]


def test_usage_of_a_period_that_closed_lately_still_counts() -> None:
    fold, late = meter_fold(), START + 40 * 24 * HOUR
    fold.fold([chunk(0, [event(1), tick(), event(2, hour=29 * 24)], appended=late)], CATALOG)
    assert (fold.counters.accepted, fold.counters.late) == (2, 1)


def test_usage_counts_only_while_its_first_copy_would_still_be_known() -> None:
    fold, day = meter_fold(), 24 * HOUR
    fold.fold([chunk(0, [event(1)], appended=START)], CATALOG)
    fold.fold([chunk(1, [event(1), event(2, hour=6 * 24)], appended=START + 40 * day)], CATALOG)
    made = fold.changes()
    assert [r.reason for r in records([made], "rejected")] == ["too_old"]
    assert (fold.counters.accepted, fold.counters.rejected) == (2, 1)


def test_history_is_taken_when_nothing_was_forgotten_yet() -> None:
    fold = meter_fold()
    fold.fold([chunk(0, [event(1)], appended=START + 1_000 * 24 * HOUR)], CATALOG)
    assert fold.counters.accepted == 1


def test_a_meter_counts_from_its_first_hour() -> None:
    later = catalog(TEXT.replace("aggregation: count}", "aggregation: count, from: 2023-11-01T02:00:00Z}"))
    fold = meter_fold()
    fold.fold([chunk(0, [event(1, hour=1), event(2, hour=2)])], later)
    totals = [r for r in records([fold.changes()], "hourly") if isinstance(r, HourlyTotal)]
    assert sorted((t.meter, t.hour - START // 1000) for t in totals) == [
        ("calls", 7200),
        ("tokens", 3600),
        ("tokens", 7200),
    ]


def test_an_event_before_every_meter_of_its_type_is_refused() -> None:
    text = TEXT.replace("aggregation: count}", "aggregation: count, from: 2023-12-01T00:00:00Z}")
    text = text.replace("scale: 2}", "scale: 2, from: 2023-12-01T00:00:00Z}")
    fold = meter_fold()
    fold.fold([chunk(0, [event(1)])], catalog(text))
    assert [r.reason for r in records([fold.changes()], "rejected")] == ["before_meter"]


def test_a_second_copy_after_the_close_is_a_duplicate() -> None:
    fold = meter_fold()
    fold.fold([chunk(0, [event(1), tick(), event(1)])], CATALOG)
    assert fold.counters.duplicates == 1


def test_an_event_behind_the_watermarks_hour_counts_as_late() -> None:
    fold = meter_fold()
    fold.fold([chunk(0, [event(1, hour=2), event(2, hour=0), event(3, hour=2)])], CATALOG)
    assert fold.counters.late == 1


def test_ids_are_forgotten_after_the_horizon() -> None:
    fold = meter_fold()
    fold.fold([chunk(0, [event(1, hour=900)], START + 900 * HOUR)], CATALOG)
    fold.changes()
    fold.fold([chunk(1, [event(1, hour=900)], START + (900 + 37 * 24) * HOUR)], CATALOG)
    assert fold.counters.duplicates == 0


def test_a_gap_is_never_folded() -> None:
    fold = meter_fold()
    fold.fold([chunk(0, [event(1)])], CATALOG)
    with pytest.raises(AssertionError, match="gap"):
        fold.fold([chunk(2, [event(2)])], CATALOG)


def test_a_customer_in_another_partition_is_refused_and_not_counted_twice() -> None:
    fold = meter_fold(partitions=2)
    fold.fold([chunk(0, [event(1, "a"), event(2, "b")])], CATALOG)
    there = {c: partition_of(c, 2) for c in "ab"}
    assert fold.counters.accepted == sum(p == 0 for p in there.values())
    assert {r.reason for r in records([fold.changes()], "rejected")} <= {"wrong_partition"}


@given(st.text(max_size=40))
def test_customers_are_placed_as_kafkas_own_partitioner_does(customer: str) -> None:
    key = customer.encode("utf-8", "surrogatepass")
    assert murmur2(key) & 0x7FFFFFFF == kafka_murmur2(key) & 0x7FFFFFFF


def test_nothing_new_makes_no_changes() -> None:
    fold = meter_fold()
    fold.fold([chunk(0, [event(1)])], CATALOG)
    fold.changes()
    assert fold.changes() is None
