"""The journal of a fold on Kafka: a partition's state survives the loss of the worker's machine.

Two topics a fold, as DESIGN §3.12 says: id segments (deleted after the horizon) and state
(compacted). A checkpoint appends, in this order:

1. its id segments; each names the offsets it covers, and only those up to the position count
2. its pending outputs, in parts under their place and a name that is made of their content
3. entries and, last, the position with that name, as one Kafka record batch: all or nothing

A worker that finds a record of another between its own was replaced, or replaces one that is not gone:
it ends before it publishes anything (`refuse_others`), so what was decided is answered by one alone.

Reading takes the highest position, the highest version of each entry, the segments up to the
position and the pending outputs that the position names. Positions and pending outputs have their
place in the log in their keys, and a checkpoint strikes out only those that lie behind its own
position: a write of a worker that was replaced meanwhile stands beside the others whenever it
lands, and takes nothing away.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from secrets import token_bytes

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.errors import UserError
from metering.state.fold import Changes, Entry, Output, Saved, Segment, place_in_log
from metering.state.formats import FORMAT, entry_of, refuse_unreadable, segment_of
from metering.state.journal_records import (
    PENDING,
    POSITION,
    Found,
    Pending,
    Place,
    Position,
    cut,
    outputs_of,
    position_key,
    put,
)
from metering.state.publish import Keyed, Publisher
from metering.state.store import PARTITIONS_HINT
from metering.stopping import stop

READ_SECONDS = 120.0  # a journal is read at about 100 MB/s
_WRITER_BYTES = 12
_pack = msgspec.msgpack.encode


class Replaced(Exception):
    """Another worker owns the partition as well: this one ends, and reads what the other wrote."""


class Journal:
    """The journal of one fold, all partitions; `segments_topic` is empty for a fold without ids."""

    def __init__(
        self,
        brokers: str,
        publisher: Publisher,
        state_topic: str,
        segments_topic: str = "",
        partitions: int = 0,
    ) -> None:
        self._brokers = brokers
        self._publisher = publisher
        self._state_topic = state_topic
        self._segments_topic = segments_topic
        self._partitions = partitions
        self._writer = token_bytes(_WRITER_BYTES)
        self._end: dict[int, int] = {}  # by partition: the offset at which our next record belongs
        self._unknown: dict[int, tuple[int, int]] = {}  # records that we have not seen
        # By partition: keys and their places; a position that lies behind a place strikes its keys out.
        self._left: dict[int, dict[bytes, Place]] = {}
        self._revisions: dict[int, int] = {}

    async def append(self, partition: int, changes: Changes) -> None:
        """Make a checkpoint durable on Kafka; returns when the broker has all of it."""
        await self._append_segments(partition, changes.epoch, changes.segments)
        pending = Pending.of(changes)
        parts = [Output(self._state_topic, place, part) for place, part in pending.parts.items()]
        await self._publisher.publish(partition, parts)
        position = self._made(changes, changes.epoch, pending.name, changes.revision)
        here, left = position.place, self._left.setdefault(partition, {})
        passed = sorted(key for key, place in left.items() if place < here)
        records: list[Keyed] = [(key, None) for key in passed]
        records += [
            (b"e" + e.key, None if e.value is None else _pack((e.version, e.value))) for e in changes.entries
        ]
        records.append((position_key(position), _pack(position)))
        first = await self._publisher.append_at_once(self._state_topic, partition, records)
        self._note_end(partition, len(parts), first, first + len(records))
        for key in passed:
            del left[key]
        left.update(dict.fromkeys([*pending.parts, position_key(position)], here))
        self._note(partition, changes.revision)

    def _note_end(self, partition: int, before: int, first: int, end: int) -> None:
        """Remember where our records stand; `before` of them came in front of `first`."""
        expected = self._end.get(partition)
        if expected is not None and first - before != expected:
            self._unknown[partition] = expected, first
        self._end[partition] = end

    async def refuse_others(self, partition: int) -> None:
        """Replaced when another worker wrote between our records; what we wrote twice is our own."""
        if partition not in self._unknown:
            return
        start, end = self._unknown.pop(partition)
        async for key, value in _Reader(self._brokers, self._state_topic, partition).records(start, end):
            if key[:1] == POSITION and self._is_others(value):
                raise Replaced(
                    f"another worker writes the journal {self._state_topic}, partition {partition}, too"
                )

    def _is_others(self, value: bytes | None) -> bool:
        return value is not None and msgspec.msgpack.decode(value, type=Position).writer != self._writer

    async def _append_segments(self, partition: int, epoch: int, segments: Iterable[Segment]) -> None:
        key = b"%d" % epoch  # offsets of another epoch are other events
        records = [Output(self._segments_topic, key, _pack(s)) for s in cut(segments)]
        await self._publisher.publish(partition, records)

    async def strike_out(self, partition: int) -> None:
        """Take everything back: from here on the journal is empty, also behind a compaction."""
        reader = _Reader(self._brokers, self._state_topic, partition)
        keys = {key async for key, value in reader.records() if value is not None}
        # Positions first: a state that is half taken back is none.
        gone: list[Keyed] = [(key, None) for key in sorted(keys, key=lambda k: (k[:1] != POSITION, k))]
        await self._publisher.append(self._state_topic, partition, gone)
        self._left.pop(partition, None)
        self._end.pop(partition, None)

    async def write_whole(self, partition: int, epoch: int, saved: Saved) -> None:
        """Write a state of any size into a journal that was struck out; the position makes it valid."""
        await self._append_segments(partition, epoch, saved.segments)
        records: list[Keyed] = [(b"e" + e.key, _pack((e.version, e.value))) for e in saved.entries]
        await self._publisher.append(self._state_topic, partition, records)
        position = self._made(saved, epoch)
        mine = position_key(position)
        last: list[Keyed] = [(mine, _pack(position))]
        self._end[partition] = 1 + await self._publisher.append_at_once(self._state_topic, partition, last)
        self._left.setdefault(partition, {})[mine] = position.place

    async def position(self, partition: int, epoch: int) -> int | None:
        """The newest position in the journal; None when it is empty. Reads one record."""
        place = await self.place(partition, epoch)
        return place[0] if place else None

    async def place(self, partition: int, epoch: int) -> tuple[int, int] | None:
        """The newest position with its sequence."""
        reader = _Reader(self._brokers, self._state_topic, partition)
        async with aclosing(reader.records(-1)) as records:  # its deadline ends with it
            async for key, value in records:
                if key[:1] == POSITION and value is not None:
                    position = self._position(value, partition, epoch)
                    if position.epoch == epoch:
                        self._end[partition] = reader.end
                        self._note(partition, position.revision)
                        return position.offset, position.sequence
        saved = await self.read(partition, epoch)
        return (saved[0].offset, saved[0].sequence) if saved else None

    def revision(self, partition: int) -> int:
        """The newest catalog revision that was seen in the journal: with less, nobody may go on."""
        return self._revisions.get(partition, 0)

    def _note(self, partition: int, revision: int) -> None:
        self._revisions[partition] = max(revision, self.revision(partition))

    async def read(self, partition: int, epoch: int) -> tuple[Saved, list[Output]] | None:
        """The state that the journal holds and its pending outputs; None when it is empty."""
        found = await self._read_state(partition, epoch)
        self._left[partition] = found.places()
        self._note(partition, found.revision)
        position = found.newest(epoch)
        if position is None:
            return None
        segments = await self._read_segments(partition, epoch, position.offset)
        saved = Saved(
            position.offset,
            position.header,
            [entry_of(Entry(k, body, version), epoch) for k, (version, body) in found.entries.items()],
            segments,
            position.sequence,
        )
        return saved, outputs_of(position, found.pending)

    async def _read_state(self, partition: int, epoch: int) -> Found:
        found = Found()
        reader = _Reader(self._brokers, self._state_topic, partition)
        async for key, value in reader.records():
            if key[:1] == POSITION:
                position = None if value is None else self._position(value, partition, epoch)
                put(found.positions, key, position)
            elif key[:1] == PENDING:
                put(found.pending, key, value)
            elif value is None:
                found.entries.pop(key[1:], None)
            else:
                version, body = msgspec.msgpack.decode(value, type=tuple[int, bytes])
                if version >= found.entries.get(key[1:], (0, b""))[0]:
                    found.entries[key[1:]] = version, body
        self._end[partition] = reader.end
        return found

    def _made(self, state: Changes | Saved, epoch: int, pending: bytes = b"", revision: int = 0) -> Position:
        made = (epoch, state.offset, state.header, self._partitions, FORMAT, pending, revision)
        return Position(*made, state.sequence, self._writer)

    def _position(self, value: bytes, partition: int, epoch: int) -> Position:
        """A position, unless it says that this journal is not for us to write."""
        found = msgspec.msgpack.decode(value, type=Position)
        place = f"the journal {self._state_topic}, partition {partition},"
        refuse_unreadable(found.format, place)
        if found.epoch > epoch:
            raise UserError(
                f"{place} is of epoch {found.epoch}, METERING_EPOCH is {epoch}",
                hint=f"set METERING_EPOCH={found.epoch}: it was raised, and never goes back",
            )
        if found.epoch == epoch and found.partitions not in (0, self._partitions):
            raise UserError(
                f"{place} is of {found.partitions} partitions, METERING_PARTITIONS is {self._partitions}",
                hint=PARTITIONS_HINT,
            )
        return found

    async def _read_segments(self, partition: int, epoch: int, offset: int) -> list[Segment]:
        if not self._segments_topic:
            return []
        reader = _Reader(self._brokers, self._segments_topic, partition)
        whole: dict[tuple[int, int, int], dict[bytes, None]] = {}
        async for key, value in reader.records():
            if value is not None and key in (b"", b"%d" % epoch):
                s = segment_of(msgspec.msgpack.decode(value, type=Segment), epoch)
                if s.next <= place_in_log(epoch, offset):  # beyond it: a checkpoint that was not completed
                    whole.setdefault((s.day, s.first, s.next), {})[s.ids] = None
        return [Segment(*place, b"".join(parts)) for place, parts in sorted(whole.items())]


class _Reader:
    """Reads one partition from its beginning to the end it has now, without a group."""

    def __init__(self, brokers: str, topic: str, partition: int) -> None:
        self._brokers = brokers
        self._topic = topic
        self._tp = TopicPartition(topic, partition)
        self.end = 0  # of the log, once it was read

    async def records(
        self, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[tuple[bytes, bytes | None], None]:
        """Key and value of each record from `start` (-1: the last one) to the log's end, or until `end`."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=8 << 20,
        )
        try:
            async with asyncio.timeout(READ_SECONDS):
                await consumer.start()
                consumer.assign([self._tp])
                self.end = (await consumer.end_offsets([self._tp]))[self._tp]
                end = self.end if end is None else end
                first = (await consumer.beginning_offsets([self._tp]))[self._tp]
                consumer.seek(self._tp, max(first, end - 1 if start < 0 else start))
                while first < end and await consumer.position(self._tp) < end:
                    fetched = await consumer.getmany(self._tp, timeout_ms=1_000)
                    for record in fetched.get(self._tp, ()):
                        if record.offset < end:
                            yield record.key or b"", record.value
        except (KafkaError, TimeoutError) as error:
            raise UserError(
                f"the journal {self._topic}, partition {self._tp.partition}, cannot be read: {error!r}",
                hint="is the broker reachable, and were the topics created (`metering topics apply`)?",
            ) from error
        finally:
            await stop(consumer)
