"""The digest of a state is a function of the state, not of how it came about."""

import random
from itertools import pairwise

import msgspec
import pytest

from metering.records import Watermark, encode, version
from metering.recovery.canonical import canonical, differences
from metering.recovery.refold import _Copy
from metering.state.fold import Chunk, Entry, Saved, Segment
from metering.state.id_file import ID_BYTES
from tests.state.folding import NOW, catalog, chunk, event, meter_fold, rate_fold, records

IDS = [bytes([n]) * ID_BYTES for n in range(9)]
HEADER = msgspec.msgpack.encode({"watermark": 5, "newest_day": 100})
ENTRIES = [Entry(b'["a","m",%d]' % n, msgspec.msgpack.encode({"x": n, "y": 2}), n) for n in range(20)]


def saved(entries: list[Entry] = ENTRIES, segments: list[Segment] | None = None) -> Saved:
    whole = [Segment(99, 0, 9, b"".join(IDS))]
    return Saved(9, HEADER, entries, whole if segments is None else segments)


def digest(copy: Saved) -> str:
    return canonical(copy).digest


def test_the_order_of_entries_does_not_matter() -> None:
    shuffled = random.Random(1).sample(ENTRIES, len(ENTRIES))
    assert digest(saved(shuffled)) == digest(saved())


def test_the_checkpoint_that_wrote_an_entry_does_not_matter() -> None:
    assert digest(saved([Entry(e.key, e.value, 9) for e in ENTRIES])) == digest(saved())


def test_the_order_inside_a_value_does_not_matter() -> None:
    other = [Entry(ENTRIES[0].key, msgspec.msgpack.encode({"y": 2, "x": 0}), 0), *ENTRIES[1:]]
    assert digest(saved(other)) == digest(saved())


def test_how_ids_were_cut_into_segments_does_not_matter() -> None:
    cut = [Segment(99, 5, 9, b"".join(IDS[4:])), Segment(99, 0, 5, b"".join(IDS[:5]))]  # one id twice
    assert digest(saved(segments=cut)) == digest(saved())


def test_ids_beyond_the_horizon_do_not_matter() -> None:
    old = Segment(100 - 36, 0, 1, b"z" * ID_BYTES)
    assert digest(saved(segments=[old, *saved().segments])) == digest(saved())


def test_the_moment_a_close_was_noticed_does_not_matter() -> None:
    header = msgspec.msgpack.encode({"watermark": 5, "catalog_revision": 1})
    one, other = (
        Saved(9, header, [Entry(b'["close","2023-11"]', msgspec.msgpack.encode((at,)), 9)], [])
        for at in (7, 8)
    )
    assert digest(one) == digest(other)
    assert digest(one) != digest(Saved(9, header, [], []))


@pytest.mark.parametrize(
    "other",
    [
        saved()._replace(offset=10),
        saved()._replace(header=msgspec.msgpack.encode({"watermark": 6, "newest_day": 100})),
        saved(ENTRIES[:-1]),
        saved([*ENTRIES[:-1], Entry(ENTRIES[-1].key, b"\x01", 1)]),
        saved(segments=[Segment(99, 0, 9, b"".join(IDS[:-1]))]),
        saved(segments=[Segment(98, 0, 9, b"".join(IDS))]),
    ],
)
def test_everything_else_does(other: Saved) -> None:
    assert digest(other) != digest(saved())


def test_differences_are_said_in_words() -> None:
    other = saved([*ENTRIES[1:-1], Entry(ENTRIES[-1].key, b"\x01", 1)], [])
    said = differences(canonical(saved()), canonical(other))
    assert said == [
        '1 entries only in the first: ["a","m",0]',
        '1 entries with another value: ["a","m",19]',
        "ids of day 99: 9 and 0",
    ]
    assert differences(canonical(saved()), canonical(saved())) == []


def log(values: list[bytes], cuts: list[int]) -> list[Chunk]:
    edges = [0, *cuts, len(values)]
    return [chunk(a, values[a:b]) for a, b in pairwise(edges)]


async def folded(fold: object, chunks: list[Chunk]) -> str:
    copy = _Copy(fold, None)  # type: ignore[arg-type]
    for one in chunks:
        fold.fold([one], catalog())  # type: ignore[attr-defined]
        await copy.checkpoint()
    await copy.stop_at(chunks[-1].next)
    return digest(copy.result.saved[chunks[-1].next, 0])


VALUES = [event(n % 31, "ab"[n % 2], hour=n % 50, n=n) for n in range(60)] + [b"noise"]


@pytest.mark.parametrize("cuts", [[], [1], [7, 30], [10, 20, 30, 40, 50], list(range(1, 61))])
async def test_a_meter_state_is_the_same_however_its_log_was_cut(cuts: list[int]) -> None:
    assert await folded(meter_fold(), log(VALUES, cuts)) == await folded(meter_fold(), log(VALUES, [33]))


@pytest.mark.parametrize("cuts", [[], [1], [7, 30], list(range(1, 63))])
async def test_a_rate_state_is_the_same_however_its_log_was_cut(cuts: list[int]) -> None:
    fold = meter_fold()
    made = []
    for one in log(VALUES, list(range(2, 60, 3))):
        fold.fold([one], catalog())
        made.append(fold.changes())
    hourly = [encode(record) for record in records(made, "hourly")]
    hourly.append(encode(Watermark(0, NOW, str(version(1, 1)))))  # closes the month
    cuts = [cut for cut in cuts if cut < len(hourly)]
    assert await folded(rate_fold(), log(hourly, cuts)) == await folded(rate_fold(), log(hourly, [33]))
