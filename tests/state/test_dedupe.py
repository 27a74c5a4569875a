"""Ids in memory and on disk: the same answers, bounded memory, expiry by day, conflicts."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering.state.dedupe import DAY_MS, HORIZON_DAYS, IDENTITY_BYTES, SeenIds, fingerprint
from metering.state.fold import Changes, Saved, Segment
from metering.state.id_file import IdFile, columns, write_ids
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from tests.state.folding import CATALOG, NOW, START, catalog, chunk, event, records

RULES = MeterRules(0, 1, "events", "hourly", "rejected")


def identity(number: int) -> bytes:
    return fingerprint("a", "", str(number))


def seen_with(
    folder: Path, numbers: range, *, day: int = 100, memory: int = 10
) -> tuple[SeenIds, list[Segment]]:
    seen, segments = SeenIds(folder, memory), []
    seen.advance(day * DAY_MS)
    for offset, number in enumerate(numbers):
        seen.add(identity(number), number, day * DAY_MS)
        segments += seen.take_segments(offset, offset + 1)
        seen.spill(offset + 1)
    return seen, segments


def knows(seen: SeenIds, number: int) -> int | None:
    held = seen.content(identity(number))
    return seen.among([identity(number)]).get(identity(number)) if held is None else held


def test_memory_stays_bounded_and_nothing_is_forgotten(tmp_path: Path) -> None:
    seen, _ = seen_with(tmp_path, range(500))
    assert len(seen._memory) <= 11
    assert [knows(seen, n) for n in range(500)] == list(range(500))
    assert knows(seen, 501) is None


def test_many_ids_are_looked_up_at_once(tmp_path: Path) -> None:
    seen, _ = seen_with(tmp_path, range(500))
    found = seen.among([identity(n) for n in range(480, 520)])
    assert set(found) <= {identity(n) for n in range(500)}
    assert len(found) >= 10


def test_a_day_beyond_the_horizon_is_removed_with_its_files(tmp_path: Path) -> None:
    seen, _ = seen_with(tmp_path, range(100))
    seen.advance((100 + HORIZON_DAYS) * DAY_MS)
    assert knows(seen, 5) == 5
    seen.advance((101 + HORIZON_DAYS) * DAY_MS)
    assert knows(seen, 5) is None
    assert list(tmp_path.glob("*.ids")) == []


def test_files_are_found_again_after_a_restart(tmp_path: Path) -> None:
    _, segments = seen_with(tmp_path, range(300))
    fresh = SeenIds(tmp_path, 10)
    fresh.restore(segments, 100, 100, upto=300)
    assert [knows(fresh, n) for n in range(300)] == list(range(300))
    assert len(fresh._memory) <= 11


def test_a_lost_file_is_made_again_from_the_segments(tmp_path: Path) -> None:
    _, segments = seen_with(tmp_path, range(300))
    next(tmp_path.glob("*.ids")).unlink()
    fresh = SeenIds(tmp_path, 10)
    fresh.restore(segments, 100, 100, upto=300)
    assert [knows(fresh, n) for n in range(300)] == list(range(300))


def test_files_beyond_the_restored_position_belong_to_another_history(tmp_path: Path) -> None:
    _, segments = seen_with(tmp_path, range(300))
    fresh = SeenIds(tmp_path, 10)
    fresh.restore([s for s in segments if s.next <= 40], 100, 100, upto=40)
    assert knows(fresh, 39) == 39
    assert knows(fresh, 41) is None


def test_finished_days_are_joined_into_one_file(tmp_path: Path) -> None:
    seen, _ = seen_with(tmp_path, range(200))
    assert len(list(tmp_path.glob("*.ids"))) > 5
    seen.advance(101 * DAY_MS)
    for number in range(200, 230):
        seen.add(identity(number), number, 101 * DAY_MS)
        seen.take_segments(number, number + 1)
        seen.spill(number + 1)
    assert len(list(tmp_path.glob("000100-*.ids"))) == 1
    assert [knows(seen, n) for n in range(230)] == list(range(230))


def test_two_ids_that_agree_in_64_bits_are_told_apart(tmp_path: Path) -> None:
    twins = [b"\1" * 8 + bytes([n]) * 4 + b"\0\0\0" + bytes([n]) for n in range(5)]
    file = write_ids(tmp_path / "x.ids", 1, 1, columns(b"".join(twins)))
    wanted = [*twins, b"\1" * 8 + b"\xff" * 4 + b"\0" * 4]
    places, low = IdFile(file.path).find(columns(b"".join(wanted)))
    assert places.tolist() == [0, 1, 2, 3, 4]
    assert [int(value) & 0xFF for value in low] == [0, 1, 2, 3, 4]


ids = st.binary(min_size=16, max_size=16)


@given(
    st.lists(ids, unique_by=lambda i: i[:IDENTITY_BYTES], min_size=1, max_size=200),
    st.lists(ids, max_size=50),
)
def test_a_file_finds_exactly_what_it_holds(
    tmp_path_factory: Any, held: list[bytes], others: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    file = write_ids(folder / "x.ids", 1, 1, columns(b"".join(held)))
    asked = held + others
    places, _ = file.find(columns(b"".join(asked)))
    known = {i[:IDENTITY_BYTES] for i in held}
    assert set(places.tolist()) == {n for n, i in enumerate(asked) if i[:IDENTITY_BYTES] in known}


def folded(fold: MeterFold, *values: bytes, first: int = 0) -> Changes:
    fold.fold([chunk(first, list(values), NOW)], catalog(CATALOG))
    changes = fold.changes()
    assert changes is not None
    fold.spill()
    return changes


@given(st.lists(st.integers(0, 30), min_size=1, max_size=120), st.integers(1, 40))
def test_a_fold_on_disk_counts_like_one_in_memory(
    tmp_path_factory: Any, numbers: list[int], size: int
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    disk, memory = MeterFold(RULES, ids_folder=folder, memory_ids=3), MeterFold(RULES)
    for start in range(0, len(numbers), size):
        values = [event(n) for n in numbers[start : start + size]]
        folded(disk, *values, first=start)
        folded(memory, *values, first=start)
    assert disk.counters == memory.counters


def test_a_second_copy_with_other_content_is_a_conflict_and_the_first_stays() -> None:
    fold = MeterFold(RULES)
    made = folded(fold, event(1, n=5), event(1, n=6), event(1, n=5))
    assert [r.reason for r in records([made], "rejected")] == ["conflict"]
    assert (fold.counters.accepted, fold.counters.duplicates, fold.counters.rejected) == (1, 1, 1)
    assert [r.quantity for r in records([made], "hourly") if getattr(r, "meter", "") == "tokens"] == ["5"]


def test_a_conflict_is_seen_through_a_restart_from_disk(tmp_path: Path) -> None:
    fold = MeterFold(RULES, ids_folder=tmp_path, memory_ids=3)
    made = folded(fold, *(event(n, n=1) for n in range(20)))
    fresh = MeterFold(RULES, ids_folder=tmp_path, memory_ids=3)
    fresh.restore(Saved(made.offset, made.header, [e for e in made.entries if e.value], made.segments))
    again = folded(fresh, event(3, n=2), event(4, n=1), first=20)
    assert [r.reason for r in records([again], "rejected")] == ["conflict"]
    assert fresh.counters.duplicates == 1


def test_the_form_of_an_event_is_not_its_content() -> None:
    flat = json.loads(event(1))
    cloud = {"specversion": "1.0", "id": "e1", "type": "use", "subject": "a", "source": ""}
    time = "2023-11-01T00:00:00Z"
    assert flat["time"] == START
    other = json.dumps({**cloud, "time": time, "data": {"kind": "x", "n": 1}}).encode()
    fold = MeterFold(RULES)
    folded(fold, event(1), other)
    assert (fold.counters.accepted, fold.counters.duplicates) == (1, 1)
