"""What a fetch holds: record batches that are unpacked when they are read, and are gone then."""

from collections.abc import Sequence

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from metering.state.fold import Chunk
from metering.transport import Batch, Packed

HERE = TP("usage.events", 0)
LZ4 = 3


def packed(values: Sequence[bytes | None], first: int = 0) -> Packed:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=LZ4,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for offset, value in enumerate(values):
        builder.append(offset, timestamp=7, key=None, value=value, headers=[])
    (batch,) = iter_batches(bytes(builder.build()))
    return Packed(first, len(values), batch, 7)


def iter_batches(raw: bytes) -> list[object]:
    records, found = MemoryRecords(raw), []
    while records.has_next():
        found.append(records.next_batch())
    return found


def batch(*chunks: Packed | Chunk, is_kept: bool = False) -> Batch:
    return Batch(HERE, chunks, None, is_kept=is_kept)


def test_it_unpacks_what_was_sent() -> None:
    (chunk,) = batch(packed([b"a", None, b"c"])).chunks()
    assert (chunk.first, chunk.next, list(chunk.offsets)) == (0, 3, [0, 1, 2])
    assert (list(chunk.values), chunk.appended) == ([b"a", None, b"c"], 7)


def test_what_lies_before_the_offset_that_was_asked_for_is_left_out() -> None:
    (chunk,) = batch(packed([b"a", b"b", b"c"], first=2)).chunks()
    assert (list(chunk.offsets), list(chunk.values)) == ([2], [b"c"])


def test_it_knows_its_bounds_after_it_was_read() -> None:
    found = batch(packed([b"a", b"b"]), Chunk(2, 5, (), (), 8))
    assert [chunk.next for chunk in found.chunks()] == [2, 5]
    assert (found.first, found.next) == (0, 5)


def test_a_chunk_is_read_once() -> None:
    found = batch(packed([b"a"]))
    assert [len(list(found.chunks())) for _ in range(2)] == [1, 0]


def test_what_is_kept_can_be_read_again() -> None:
    found = batch(packed([b"a"]), packed([b"b"]), is_kept=True)
    assert [[list(chunk.values) for chunk in found.chunks()] for _ in range(2)] == [[[b"a"], [b"b"]]] * 2


@pytest.mark.parametrize("read", [1, 2])
def test_what_was_not_read_waits(read: int) -> None:
    found = batch(*(packed([b"x"]) for _ in range(3)))
    chunks = found.chunks()
    for _ in range(read):
        next(chunks)
    assert len(list(found.chunks())) == 3 - read
