"""The journal of a fold on Kafka: a partition's state survives the loss of the worker's machine.

Two topics a fold, as DESIGN §3.12 says: id segments (deleted after the horizon) and state
(compacted). A checkpoint appends, in this order:

1. its id segments; each names the offsets it covers, and only those up to the position count
2. its pending outputs, in parts under their place and a name that is made of their content
3. entries and, last, the position with that name, as one Kafka record batch: all or nothing

A position says where its writer took the journal to end. It counts when nothing that counts stands
between that end and itself. So a checkpoint of a worker that was replaced, or one that the network
delivers late, is left out; its writer finds the other's record and ends before it publishes anything
(`overlaid`), and what was decided is answered by one alone. Who takes over writes its position anew at
once, and writes again what such a checkpoint lies over, so that compaction keeps what counts.

Reading takes, of what counts, the highest position, the highest version of each entry, the segments up to the
position and the pending outputs that the position names. Positions and pending outputs have their
place in the log in their keys, and a checkpoint strikes out only those that lie behind its own
position: a write of a worker that was replaced meanwhile stands beside the others whenever it
lands, and takes nothing away.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, asynccontextmanager
from secrets import token_bytes

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.errors import UserError
from metering.state.fold import Changes, Entry, Output, Saved, Segment, place_in_log
from metering.state.formats import FORMAT, entry_of, refuse_unreadable, segment_of
from metering.state.journal_records import (
    ENTRY,
    POSITION,
    Found,
    Pending,
    Place,
    Position,
    cut,
    outputs_of,
    position_key,
)
from metering.state.publish import Keyed, Publisher
from metering.state.store import PARTITIONS_HINT, Known
from metering.stopping import stop

READ_SECONDS = 120.0  # a journal is read at about 100 MB/s
_WRITER_BYTES = 12
_NOWHERE = (0, 0)  # struck out at the next occasion
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
        self._overlaid: dict[int, set[bytes]] = {}  # of the last reading
        self._last: dict[int, int] = {}
        self._latest: dict[int, bytes] = {}  # the key of the last position that counts

    async def append(self, partition: int, changes: Changes) -> None:
        """Make a checkpoint durable on Kafka; returns when the broker has all of it."""
        await self._append_segments(partition, changes.epoch, changes.segments)
        after, pending = self._end.get(partition), Pending.of(changes)
        parts = [Output(self._state_topic, place, part) for place, part in pending.parts.items()]
        await self._publisher.publish(partition, parts)
        made = self._made(changes, changes.epoch, pending.name)
        here, left = made.place, self._left.setdefault(partition, {})
        # The position before ours stays until the next one: it shows what came late between the two, also to
        # a reader behind a compaction.
        before = self._latest.get(partition)
        passed = sorted(key for key, place in left.items() if place < here and key != before)
        records: list[Keyed] = [(key, None) for key in passed]
        records += [
            (ENTRY + e.key, None if e.value is None else _pack((e.version, e.value))) for e in changes.entries
        ]
        position = msgspec.structs.replace(made, after=after, records=len(records) + 1)
        records.append((position_key(position), _pack(position)))
        first = await self._publisher.append_at_once(self._state_topic, partition, records)
        self._note_end(partition, first - len(parts), first + len(records))
        for key in passed:
            del left[key]
        self._latest[partition] = position_key(position)
        left.update(dict.fromkeys([*pending.parts, position_key(position)], here))
        self._note(partition, changes.revision)

    def _note_end(self, partition: int, first: int, end: int) -> None:
        """Remember where our records stand: from `first` to `end`, when nobody wrote between them."""
        expected = self._end.get(partition)
        if expected is not None and first != expected:
            self._unknown[partition] = expected, end - 1
        self._end[partition] = end

    async def overlaid(self, partition: int) -> set[bytes] | None:
        """What others wrote between our records: keys of entries that are to be written again.

        None when there is nothing. Replaced when the other one knew of all that we had written.
        """
        if partition not in self._unknown:
            return None
        start, end = self._unknown.pop(partition)
        keys, left = set(), self._left.setdefault(partition, {})
        async for key, value in self._reader(partition).records(start, end):
            if key[:1] == ENTRY:
                keys.add(key[1:])
            elif value is not None and key not in left:
                if key[:1] == POSITION:
                    self._refuse_successor(partition, start, value)
                left[key] = _NOWHERE
        return keys

    def _refuse_successor(self, partition: int, start: int, value: bytes) -> None:
        found = msgspec.msgpack.decode(value, type=Position)
        if found.writer != self._writer and (found.after is None or found.after >= start):
            raise Replaced(
                f"another worker writes the journal {self._state_topic}, partition {partition}, too"
            )

    async def end(self, partition: int) -> int:
        """Where the journal ends now."""
        return await self._reader(partition).find_end()

    def known(self, partition: int) -> Known:
        """What we know of the journal; nobody has written since while it ends there."""
        left = list(self._left.get(partition, ()))
        return Known(self._end.get(partition, -1), left, self._latest.get(partition, b""))

    def go_on(self, partition: int, known: Known) -> None:
        """Take it that all records up to an end were read."""
        self._end[partition] = known.end
        self._left[partition] = dict.fromkeys(known.left, _NOWHERE)
        self._latest[partition] = known.latest

    def _reader(self, partition: int) -> "_Reader":
        return _Reader(self._brokers, self._state_topic, partition)

    async def _append_segments(self, partition: int, epoch: int, segments: Iterable[Segment]) -> None:
        key = b"%d" % epoch  # offsets of another epoch are other events
        records = [Output(self._segments_topic, key, _pack(s)) for s in cut(segments)]
        await self._publisher.publish(partition, records)

    async def strike_out(self, partition: int) -> None:
        """Take everything back: from here on the journal is empty, also behind a compaction."""
        reader = self._reader(partition)
        keys = {key async for key, value in reader.records() if value is not None}
        # Positions first: a state that is half taken back is none.
        gone: list[Keyed] = [(key, None) for key in sorted(keys, key=lambda k: (k[:1] != POSITION, k))]
        await self._publisher.append(self._state_topic, partition, gone)
        self._left.pop(partition, None)
        self._end[partition] = await self.end(partition) if gone else reader.end

    async def write_whole(self, partition: int, epoch: int, saved: Saved) -> None:
        """Write a state of any size into a journal that was struck out; the position makes it valid."""
        await self._append_segments(partition, epoch, saved.segments)
        records: list[Keyed] = [(ENTRY + e.key, _pack((e.version, e.value))) for e in saved.entries]
        await self._publisher.append(self._state_topic, partition, records)
        position = self._made(saved, epoch)
        mine = position_key(position)
        last: list[Keyed] = [(mine, _pack(position))]
        self._end[partition] = 1 + await self._publisher.append_at_once(self._state_topic, partition, last)
        self._left.setdefault(partition, {})[mine] = position.place
        self._latest[partition] = mine

    async def position(self, partition: int, epoch: int) -> int | None:
        """The newest position in the journal; None when it is empty. Reads one record, as a rule."""
        async with aclosing(self._reader(partition).records(-1)) as records:  # its deadline ends with it
            async for key, value in records:
                if key[:1] == POSITION and value is not None:
                    position = self._position(value, partition, epoch)
                    if position.epoch == epoch:
                        self._note(partition, position.revision)
                        return position.offset
        found = await self.read(partition, epoch)
        return found[0].offset if found else None

    def revision(self, partition: int) -> int:
        """The newest catalog revision that was seen in the journal: with less, nobody may go on."""
        return self._revisions.get(partition, 0)

    def _note(self, partition: int, revision: int) -> None:
        self._revisions[partition] = max(revision, self.revision(partition))

    async def read(self, partition: int, epoch: int) -> tuple[Saved, list[Output]] | None:
        """The state that the journal holds and its pending outputs; None when it is empty."""
        found = await self._read_state(partition, epoch)
        self._end[partition], self._left[partition] = found.end, found.places()
        self._overlaid[partition], self._last[partition] = found.overlaid, found.last
        self._latest[partition] = found.last_key
        self._note(partition, found.revision)
        position = found.newest(epoch)
        if position is None:
            return None
        saved = Saved(
            position.offset,
            position.header,
            [entry_of(Entry(k, body, version), epoch) for k, (version, body) in found.entries.items()],
            await self._read_segments(partition, epoch, position.offset),
            position.sequence,
            position.revision,
        )
        return saved, outputs_of(position, found.pending)

    def is_newer(self, partition: int, known: Known) -> bool:
        """Of the last `read`: whether a checkpoint that counts stands behind what was known."""
        return self._last.get(partition, -1) >= known.end

    def take_overlaid(self, partition: int) -> set[bytes]:
        """Of the last `read`: keys of entries that stand behind those that count."""
        return self._overlaid.pop(partition, set())

    async def _read_state(self, partition: int, epoch: int) -> Found:
        found, reader = Found(), self._reader(partition)
        async for key, value in reader.records():
            if key[:1] == POSITION and value is not None:
                self._position(value, partition, epoch)
            found.take(reader.at, key, value)
        found.finish()
        found.end = reader.end
        return found

    def _made(self, state: Changes | Saved, epoch: int, pending: bytes = b"") -> Position:
        made = (epoch, state.offset, state.header, self._partitions, FORMAT, pending)
        return Position(*made, state.revision, state.sequence, self._writer)

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
        self.at = -1  # the offset of the record in hand

    async def records(
        self, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[tuple[bytes, bytes | None], None]:
        """Key and value of each record from `start` (-1: the last one) to the log's end, or until `end`."""
        async with self._consumer() as consumer:
            self.end = (await consumer.end_offsets([self._tp]))[self._tp]
            end = self.end if end is None else end
            first = (await consumer.beginning_offsets([self._tp]))[self._tp]
            consumer.seek(self._tp, max(first, end - 1 if start < 0 else start))
            while first < end and await consumer.position(self._tp) < end:
                fetched = await consumer.getmany(self._tp, timeout_ms=1_000)
                for record in fetched.get(self._tp, ()):
                    if record.offset < end:
                        self.at = record.offset
                        yield record.key or b"", record.value

    async def find_end(self) -> int:
        """Where the log ends now."""
        async with self._consumer() as consumer:
            found: int = (await consumer.end_offsets([self._tp]))[self._tp]
            return found

    @asynccontextmanager
    async def _consumer(self) -> AsyncGenerator[AIOKafkaConsumer, None]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=8 << 20,
        )
        try:
            async with asyncio.timeout(READ_SECONDS):
                await consumer.start()
                consumer.assign([self._tp])
                yield consumer
        except (KafkaError, TimeoutError) as error:
            raise UserError(
                f"the journal {self._topic}, partition {self._tp.partition}, cannot be read: {error!r}",
                hint="is the broker reachable, and were the topics created (`metering topics apply`)?",
            ) from error
        finally:
            await stop(consumer)
