"""A journal that was compacted before anybody wrote again what a late checkpoint lies over."""

import msgspec
import pytest

from metering.state.fold import place_in_log
from metering.state.journal_records import ENTRY, Found, Position, position_key

EPOCH, KEY = 1, b"total"


def entry(offset: int, body: bytes = b"counted") -> bytes:
    return msgspec.msgpack.encode((place_in_log(EPOCH, offset), body))


def position(offset: int, after: int, records: int) -> tuple[bytes, bytes]:
    made = Position(EPOCH, offset, b"", records=records, after=after)
    return position_key(made), msgspec.msgpack.encode(made)


def read(records: dict[int, tuple[bytes, bytes | None]]) -> dict[bytes, tuple[int, bytes]]:
    found = Found()
    for offset, (key, value) in records.items():
        found.take(offset, key, value)
    found.finish()
    return found.entries


COUNTS, NEXT = position(10, 0, 2), position(11, 2, 1)  # at 1, its entry stood at 0; at 2
LATE = position(10, 0, 2)  # a second delivery of the first one, at 3 and 4


def test_a_late_copy_is_what_is_left_of_an_entry() -> None:
    assert read({1: COUNTS, 2: NEXT, 3: (ENTRY + KEY, entry(10)), 4: LATE}) == {
        KEY: (place_in_log(EPOCH, 10), b"counted")
    }


def test_a_late_copy_brings_nothing_back_that_a_checkpoint_removed() -> None:
    records = {0: (ENTRY + KEY, None), 1: COUNTS, 2: NEXT, 3: (ENTRY + KEY, entry(9)), 4: LATE}
    assert read(records) == {}


@pytest.mark.parametrize("late", [9, 10])
def test_what_counts_stands_before_a_late_copy(late: int) -> None:
    records = {
        0: (ENTRY + KEY, entry(10)),
        1: COUNTS,
        2: NEXT,
        3: (ENTRY + KEY, entry(late, b"late")),
        4: LATE,
    }
    assert read(records) == {KEY: (place_in_log(EPOCH, 10), b"counted")}


def test_what_lies_ahead_of_every_checkpoint_is_not_taken() -> None:
    assert read({1: COUNTS, 2: NEXT, 3: (ENTRY + KEY, entry(12)), 4: LATE}) == {}
