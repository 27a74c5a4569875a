"""The batch transport: an ordinary Faust agent receives one whole fetch batch as one stream item.

Stock Faust spends 60-220 µs an event, nearly all of it on per-message machinery. Here one stream
item is a `Batch`: all chunks (Kafka record batches) of one partition in one fetch. Group
membership, assignment, rebalancing, flow control and agents stay Faust's.

This is the only file that uses private names of aiokafka and Faust; both are pinned to a minor
version, and `tests/test_transport_contract.py` fails when one of these names changes its shape.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import faust
from aiokafka.consumer import fetcher as kafka_fetcher
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from metering.state.fold import Chunk

SCHEME = "meteringbatch"
TRANSPORTS.aliases[SCHEME] = "metering.transport:BatchTransport"

_FETCH_BYTES, _FETCH_MILLISECONDS = 256 << 10, 100
_POLL_SECONDS = 1.0
_NO_ROOM_SECONDS = 0.002
_batch_topics: set[str] = set()


@contextmanager
def whole_batches(topic: str) -> Iterator[None]:
    """Let any consumer of this process read a topic as `Packed`, as agents do, for a while."""
    is_new = topic not in _batch_topics
    _batch_topics.add(topic)
    try:
        yield
    finally:
        if is_new:
            _batch_topics.discard(topic)


class Packed(NamedTuple):
    """A Kafka record batch as it was fetched: its checksum is right, it is still compressed; see `Chunk`."""

    first: int
    next: int
    records: Any
    appended: int

    def unpacked(self) -> Chunk:
        """Its records; it can be asked once, because reading a record batch uses it up."""
        if self.records.is_control_batch:
            return Chunk(self.first, self.next, (), (), self.appended)
        return Chunk(self.first, self.next, *_from(self.first, self.records), self.appended)


class Batch:
    """One fetch of one partition: contiguous chunks, and the log's end when it was fetched.

    Chunks are unpacked one by one while they are read, and once: what waits in memory is small, and what is
    read lies in the processor's cache. With `is_kept` they can be read again.
    """

    __slots__ = ("_waiting", "first", "highwater", "is_kept", "next", "tp")

    def __init__(
        self, tp: TP, chunks: Sequence[Chunk | Packed], highwater: int | None, *, is_kept: bool = False
    ) -> None:
        self.tp = tp
        self.first, self.next = chunks[0].first, chunks[-1].next
        self.highwater = highwater
        self.is_kept = is_kept
        self._waiting: deque[Chunk | Packed] = deque(chunks)

    def chunks(self) -> Iterator[Chunk]:
        """The chunks that were not read yet, in order."""
        if self.is_kept:
            kept = [_unpacked(one) for one in self._waiting]
            self._waiting = deque(kept)
            yield from kept
            return
        while self._waiting:
            yield _unpacked(self._waiting.popleft())


def _unpacked(one: Chunk | Packed) -> Chunk:
    return one.unpacked() if isinstance(one, Packed) else one


class Positions(Protocol):
    """Who knows where each partition continues: the states of a worker, the tables of a sink."""

    async def load(self, tps: set[TP]) -> Mapping[TP, int]:
        """Load what is needed for these partitions; the offset to continue from, by partition.

        What cannot be loaded ends the process.
        """


class BatchSchema(faust.Schema[Any, Any]):
    """Marks a topic as a batch topic; the value of a stream item is the `Batch` itself."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        """Nothing is decoded here: the agent decodes the whole batch at once."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001 - Faust passes it
            return create_event(None, message.value, None, message)

        return decode


class ChunkRecords(kafka_fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka ships no types
    """Yields one `Packed` per Kafka record batch of a batch topic, records one by one elsewhere.

    They cover the log without holes: control and aborted batches yield a chunk without values, so
    that a lost chunk shows as a gap.
    """

    def _unpack_records(self) -> Iterator[Any]:
        if self._tp.topic not in _batch_topics:
            yield from super()._unpack_records()
            return
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise kafka_fetcher.Errors.CorruptRecordException(f"invalid CRC in {self._tp}")
            first: int = self.next_fetch_offset
            self.next_fetch_offset: int = batch.next_offset
            yield Packed(first, batch.next_offset, batch, batch.max_timestamp)


def _from(first: int, batch: Any) -> tuple[Sequence[int], list[bytes | None]]:
    """The offsets and values of a record batch, from an offset on."""
    records = list(batch)
    if records and records[0].offset == first and len(records) == batch.next_offset - first:
        return range(first, batch.next_offset), [record.value for record in records]  # no holes
    kept = [record for record in records if record.offset >= first]
    return [record.offset for record in kept], [record.value for record in kept]


# Replaced at import: the fetcher task unpacks records, and a batch of the old kind cannot be told
# from one of the new once it is in its buffer.
kafka_fetcher.PartitionRecords = ChunkRecords


class FetchThread(driver.AIOKafkaConsumerThread):
    """Faust's thread that fetches; where nobody waits for an answer, a fetch waits for more to fetch.

    A producer that sends small batches would otherwise cost a request and two changes of thread for each.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        if getattr(self.consumer.app, "is_patient", False):
            consumer._fetch_min_bytes, consumer._fetch_max_wait_ms = _FETCH_BYTES, _FETCH_MILLISECONDS
        return consumer


class BatchConsumer(driver.Consumer):
    """Faust's consumer, reading whole fetch batches and continuing from the state's position."""

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Mark the batch topics before the first fetch, then subscribe."""
        for channel in self.app.topics:
            if isinstance(channel.schema, BatchSchema):
                _batch_topics.update(channel.topics)
        await super().subscribe(topics)

    _loading: "asyncio.Task[None] | None" = None

    async def perform_seek(self) -> None:
        """Begin to load the states of the assigned partitions, which stay paused until then.

        Faust gives this a deadline; when it passes, Faust never assigns again, without a word. So a
        large state, or a broker that is away, is not waited for here. The group's committed offset is
        only a measure of lag.
        """
        assigned = {TP(*tp) for tp in self.assignment()}
        tps = {tp for tp in assigned if tp.topic in _batch_topics}
        if assigned - tps:
            await super().perform_seek()
        await self.end_loading()
        self.pause_partitions(tps)
        self._loading = asyncio.create_task(self._load(tps))

    async def end_loading(self) -> None:
        """Give up a load: its partitions go, or are assigned anew."""
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.cancel()
            await asyncio.wait({loading})

    async def _load(self, tps: set[TP]) -> None:
        """Load states and continue from their own positions."""
        positions: Positions = self.app.positions  # type: ignore[attr-defined]  # ours, set in app.py
        offsets = await positions.load(tps)
        # A fetch of the assignment before would read on from where we seek to, and be dropped: a gap that
        # nobody sees when nothing comes behind it.
        await self.wait_for_stopped_flow()
        await self.seek_batches(offsets)
        self.resume_partitions(offsets)

    async def seek_batches(self, offsets: Mapping[TP, int]) -> None:
        """Continue these partitions from these offsets."""
        if not offsets:
            return
        await self._thread.seek_wait(offsets)
        self._read_offset.update(offsets)

    async def commit_positions(self, offsets: Mapping[TP, int]) -> None:
        """Tell the group how far we are, as a measure of lag; a failure costs nothing."""
        await self._thread.commit(offsets)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self._drain_once()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _drain_once(self) -> None:
        if not self.flow_active:
            await self.can_resume_flow.wait()
            return
        tps = set(self._get_active_partitions())
        if not tps:
            await asyncio.sleep(_NO_ROOM_SECONDS)
            return
        generation = self.app.consumer_generation_id
        self.not_waiting_next_records.clear()
        try:
            records = await self._getmany(active_partitions=tps, timeout=_POLL_SECONDS)
        finally:
            self.not_waiting_next_records.set()
        for tp, chunks in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                # The rest is dropped; the agents see the gap and seek back to their position.
                break
            await self._hand_over(TP(tp.topic, tp.partition), chunks)

    async def _hand_over(self, tp: TP, chunks: Sequence[Chunk | Packed]) -> None:
        if tp.topic not in _batch_topics or not chunks:
            return
        is_kept = self.app.monitor.on_handled is not None  # type: ignore[attr-defined]  # ours, set in app.py
        batch = Batch(tp, chunks, self.highwater(tp), is_kept=is_kept)
        message: Any = ConsumerMessage(
            tp.topic,
            tp.partition,
            batch.next - 1,
            chunks[-1].appended / 1000.0,
            0,
            None,
            None,
            batch,  # type: ignore[arg-type]  # the value is the batch itself
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        await self.wait_first(self.callback(message), self.suspend_flow.wait())
        self._read_offset[tp] = batch.next


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with the batch consumer; select it by `meteringbatch://`."""

    Consumer = BatchConsumer
