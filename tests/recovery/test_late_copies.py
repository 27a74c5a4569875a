"""A journal that was compacted before anybody wrote again what a late checkpoint lies over."""

import msgspec
import pytest

from metering.state.fold import Entry, place_in_log
from metering.state.journal_found import Found
from metering.state.journal_records import ENTRY, Position, deltas_of, position_key

EPOCH, KEY = 1, b"total"
Log = dict[int, tuple[bytes, bytes | None]]


def entry(offset: int, body: bytes = b"counted") -> bytes:
    return msgspec.msgpack.encode((place_in_log(EPOCH, offset), body))


def position(offset: int, after: int, records: int, number: int, deltas: int = 0) -> tuple[bytes, bytes]:
    made = made_of(offset, after, records, number, deltas)
    return position_key(made), msgspec.msgpack.encode(made)


def made_of(offset: int, after: int, records: int, number: int, deltas: int = 0) -> Position:
    return Position(
        EPOCH, offset, b"", records=records, after=after, number=number, writer=b"one", deltas=deltas
    )


def read(records: Log) -> dict[bytes, tuple[int, bytes]]:
    found = Found()
    for offset, (key, value) in records.items():
        found.take(offset, key, value)
    found.finish()
    return found.entries


COUNTS, NEXT = position(10, 0, 2, 1), position(11, 2, 1, 2)  # at 1, its entry stood at 0; at 2
LATE = COUNTS  # a second delivery of the first one, at 3 and 4


def test_a_late_copy_is_what_is_left_of_an_entry() -> None:
    records: Log = {2: NEXT, 3: (ENTRY + KEY, entry(10)), 4: LATE}
    assert read(records) == {KEY: (place_in_log(EPOCH, 10), b"counted")}


def test_a_late_copy_brings_nothing_back_that_a_checkpoint_removed() -> None:
    records: Log = {0: (ENTRY + KEY, None), 1: COUNTS, 2: NEXT, 3: (ENTRY + KEY, entry(9)), 4: LATE}
    assert read(records) == {}


@pytest.mark.parametrize("late", [9, 10])
def test_what_counts_stands_before_a_late_copy(late: int) -> None:
    records: Log = {
        0: (ENTRY + KEY, entry(10)),
        1: COUNTS,
        2: NEXT,
        3: (ENTRY + KEY, entry(late, b"late")),
        4: LATE,
    }
    assert read(records) == {KEY: (place_in_log(EPOCH, 10), b"counted")}


def test_what_lies_ahead_of_every_checkpoint_is_not_taken() -> None:
    assert read({1: COUNTS, 2: NEXT, 3: (ENTRY + KEY, entry(12)), 4: LATE}) == {}


@pytest.mark.parametrize("number", [0, 3])
def test_a_checkpoint_that_never_counted_is_not_taken(number: int) -> None:
    """Of a format without numbers, or behind the last one of its writer that counts."""
    records: Log = {1: COUNTS, 2: NEXT, 3: (ENTRY + KEY, entry(10)), 4: position(10, 0, 2, number)}
    assert read(records) == {}


def test_the_delta_has_what_an_older_entry_lies_over() -> None:
    """The total was 10, then 11; a late copy of the first one is all that compaction has left of it."""
    newer = Entry(KEY, b"newer", place_in_log(EPOCH, 11))
    delta = deltas_of(made_of(11, 2, 2, 2), [newer])
    records: Log = dict(enumerate(delta.items(), 2))
    records |= {4: position(11, 2, 2, 2, len(delta)), 5: (ENTRY + KEY, entry(10)), 6: LATE}
    assert read(records) == {KEY: (newer.version, newer.value)}


def test_a_delta_whose_second_delivery_is_what_is_left_counts() -> None:
    newer = Entry(KEY, b"newer", place_in_log(EPOCH, 11))
    delta = deltas_of(made_of(11, 2, 2, 2), [newer])
    records: Log = {1: COUNTS, 4: position(11, 2, 2, 2, len(delta))} | dict(enumerate(delta.items(), 5))
    assert read(records) == {KEY: (newer.version, newer.value)}


def test_the_delta_of_a_checkpoint_that_does_not_count_is_left_out() -> None:
    late = Entry(KEY, b"late", place_in_log(EPOCH, 11))
    delta = deltas_of(made_of(11, 0, 1, 3), [late])
    records: Log = {1: COUNTS, 2: NEXT} | dict(enumerate(delta.items(), 3))
    records[5] = position(11, 0, 1, 3, len(delta))
    assert read(records) == {}
