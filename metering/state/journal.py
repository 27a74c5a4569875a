"""The journal of a fold on Kafka: a partition's state survives the loss of the worker's machine.

Two topics a fold, as DESIGN §3.12 says: id segments (deleted after the horizon) and state
(compacted). A checkpoint appends, in this order:

1. its id segments; each names the offsets it covers, and only those up to the position count
2. its pending outputs, in parts under their place and a name that is made of their content; and its
   delta: its entries, under keys of this append
3. its entries under their own keys and, last, the position, as one Kafka record batch: all or nothing

A position says where its writer took the journal to end. It counts when nothing that counts stands
between that end and itself. So a checkpoint of a worker that was replaced, or one that the network
delivers late, is left out; its writer finds the other's record and ends before it publishes anything
(`overlaid`), and what was decided is answered by one alone. Who takes over writes its position anew at
once, and writes again what such a checkpoint lies over, so that compaction keeps what counts. Should no
worker be there to do it, the deltas have it: they stay for longer than anything can be late.

Reading takes, of what counts, the highest position, the highest version of each entry, the segments up to the
position and the pending outputs that the position names. Positions, deltas and pending outputs have
their place in the log in their keys, and a checkpoint strikes out only those that lie behind its own
position: a write of a worker that was replaced meanwhile stands beside the others whenever it
lands, and takes nothing away.
"""

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from secrets import token_bytes
from typing import NamedTuple

import msgspec

from metering.errors import UserError
from metering.state.fold import Changes, Entry, Output, Saved, Segment, place_in_log
from metering.state.formats import FORMAT, entry_of, refuse_unreadable, segment_of
from metering.state.journal_found import NOWHERE, Found
from metering.state.journal_records import (
    DELTA,
    ENTRY,
    POSITION,
    Pending,
    Place,
    Position,
    cut,
    deltas_of,
    outputs_of,
    position_key,
)
from metering.state.log_reader import LogReader
from metering.state.publish import Keyed, Publisher
from metering.state.store import PARTITIONS_HINT, Known

SPARED_SECONDS = 60.0  # no request is late by more, or its sender finds that it was frozen
_WRITER_BYTES = 12
_pack = msgspec.msgpack.encode


_ENTRY_OVERHEAD = 96  # of a record, at most
MOST_ENTRY_BYTES = 6 << 20  # in one batch, which has a limit of 12 MiB


class Replaced(Exception):
    """Another worker owns the partition as well: this one ends, and reads what the other wrote."""


class _Left(NamedTuple):
    """When a record may be struck out: by a position behind `place`, and not at once."""

    place: Place
    since: float = -math.inf  # monotonic


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
        self._writers: dict[int, bytes] = {}  # by partition: our name
        self._numbers = itertools.count(1)
        self._end: dict[int, int] = {}  # the offset at which our next record belongs
        self._unknown: dict[int, tuple[int, int]] = {}  # records that we have not seen
        self._written: dict[int, tuple[int, Position]] = {}  # our last position and its offset
        self._left: dict[int, dict[bytes, _Left]] = {}
        self._clean: dict[int, float] = {}  # when it was last seen that nothing lies over ours
        self._revisions: dict[int, int] = {}
        self._overlaid: dict[int, set[bytes]] = {}  # of the last reading
        self._last: dict[int, int] = {}  # offset of the last position that counts
        self._latest: dict[int, bytes] = {}  # and its key

    async def append(self, partition: int, changes: Changes) -> None:
        """Make a checkpoint durable on Kafka; returns when the broker has all of it.

        Entries that do not fit one batch stand in deltas first, which make the checkpoint whole, and then
        part by part under their keys, as if they were written again.
        """
        pending, parts = Pending.of(changes), list(_batches(changes.entries))
        await self._append(partition, changes, pending, is_bare=len(parts) > 1)
        written = Pending(pending.name, {})  # they stand there already
        for part in parts if len(parts) > 1 else ():
            again = msgspec.structs.replace(changes, entries=part, segments=[])
            await self._append(partition, again, written)

    async def _append(
        self, partition: int, changes: Changes, pending: Pending, *, is_bare: bool = False
    ) -> None:
        await self._append_segments(partition, changes.epoch, changes.segments)
        after = self._end.get(partition)
        made = self._made(partition, changes, changes.epoch, pending.name)
        deltas = deltas_of(made, changes.entries)
        parts = [Output(self._state_topic, *part) for part in (pending.parts | deltas).items()]
        await self._publisher.publish(partition, parts)
        passed = self._passed(partition, made.place)
        records: list[Keyed] = [(key, None) for key in passed]
        records += [
            (ENTRY + e.key, None if e.value is None else _pack((e.version, e.value)))
            for e in (changes.entries if not is_bare else ())
        ]
        position = msgspec.structs.replace(
            made, after=after, records=len(records) + 1, deltas=len(deltas), is_bare=is_bare
        )
        key = position_key(position)
        records.append((key, _pack(position)))
        first = await self._publisher.append_at_once(self._state_topic, partition, records)
        self._note_end(partition, first - len(parts), position, first + len(records))
        left = self._left.setdefault(partition, {})
        for one in passed:
            del left[one]
        left |= dict.fromkeys(pending.parts, _Left(made.place))
        left |= dict.fromkeys([*deltas, key], _Left(made.place, time.monotonic()))
        self._note(partition, changes.revision)

    def _passed(self, partition: int, here: Place) -> list[bytes]:
        """Keys that a position may strike out.

        The position before stays until the next one: it shows what came late between the two. Positions and
        deltas stay until it was seen, long after they were written, that nothing lies over them.
        """
        upto = self._clean.get(partition, -math.inf) - SPARED_SECONDS
        before = self._latest.get(partition)
        held = self._left.setdefault(partition, {}).items()
        return sorted(key for key, one in held if one.place < here and one.since <= upto and key != before)

    def _note_end(self, partition: int, first: int, position: Position, end: int) -> None:
        """Remember where our records stand: from `first` to `end`, when nobody wrote between them."""
        expected = self._end.get(partition)
        if expected is not None and first != expected:
            begin, _ = self._unknown.get(partition, (expected, 0))  # ours may stand between
            self._unknown[partition] = begin, end - position.records
        self._end[partition] = end
        self._written[partition] = end - 1, position

    async def overlaid(self, partition: int) -> set[bytes] | None:
        """What others wrote between our records: keys of entries that are to be written again.

        None when there is nothing. Replaced when the other one knew of all that we had written.
        """
        unknown, keys = self._unknown.pop(partition, None), set()
        reader, left = self._reader(partition), self._left.setdefault(partition, {})
        if unknown is not None:
            async for key, value in reader.records(*unknown):
                if key[:1] == ENTRY:
                    keys.add(key[1:])
                elif value is not None:
                    left.setdefault(key, _Left(NOWHERE))
                    if key[:1] == POSITION:
                        found = msgspec.msgpack.decode(value, type=Position)
                        self._note_position(partition, reader.at, found)
        self._note_position(partition, *self._written[partition])
        if unknown is None:
            self._clean[partition] = time.monotonic()
            return None
        return keys

    def _note_position(self, partition: int, offset: int, position: Position) -> None:
        """A position that stands behind ours; whether it counts, readers decide by the same rule."""
        if position.after is not None and position.after <= self._last.get(partition, -1):
            return
        self._last[partition], self._latest[partition] = offset, position_key(position)
        if position.writer != self._writers.get(partition):
            self._writers.pop(partition, None)  # what we wrote last does not count, what follows may
            raise Replaced(
                f"another worker writes the journal {self._state_topic}, partition {partition}, too"
            )

    async def end(self, partition: int) -> int:
        """Where the journal ends now."""
        return await self._reader(partition).find_end()

    def known(self, partition: int) -> Known:
        """What we know of the journal; nobody has written since while it ends there."""
        left, last = list(self._left.get(partition, ())), self._last.get(partition, -1)
        return Known(self._end.get(partition, -1), left, self._latest.get(partition, b""), last)

    def go_on(self, partition: int, known: Known) -> None:
        """Take it that all records up to an end were read."""
        self._end[partition], self._last[partition] = known.end, known.last
        self._left[partition] = _left(dict.fromkeys(known.left, NOWHERE))
        self._latest[partition] = known.latest

    def _reader(self, partition: int) -> LogReader:
        return LogReader(self._brokers, self._state_topic, partition)

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
        position = self._made(partition, saved, epoch)
        mine = position_key(position)
        last: list[Keyed] = [(mine, _pack(position))]
        at = await self._publisher.append_at_once(self._state_topic, partition, last)
        self._end[partition], self._last[partition], self._latest[partition] = at + 1, at, mine
        self._left.setdefault(partition, {})[mine] = _Left(position.place, time.monotonic())

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
        self._end[partition], self._left[partition] = found.end, _left(found.places())
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

    def _made(self, partition: int, state: Changes | Saved, epoch: int, pending: bytes = b"") -> Position:
        made = (epoch, state.offset, state.header, self._partitions, FORMAT, pending)
        writer = self._writers.setdefault(partition, token_bytes(_WRITER_BYTES))
        return Position(*made, state.revision, state.sequence, writer, number=next(self._numbers))

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
        reader = LogReader(self._brokers, self._segments_topic, partition)
        whole: dict[tuple[int, int, int], dict[bytes, None]] = {}
        async for key, value in reader.records():
            if value is not None and key in (b"", b"%d" % epoch):
                s = segment_of(msgspec.msgpack.decode(value, type=Segment), epoch)
                if s.next <= place_in_log(epoch, offset):  # beyond it: a checkpoint that was not completed
                    whole.setdefault((s.day, s.first, s.next), {})[s.ids] = None
        return [Segment(*place, b"".join(parts)) for place, parts in sorted(whole.items())]


def _left(places: dict[bytes, Place]) -> dict[bytes, _Left]:
    """What a reader found and a writer may strike out; what is spared, is from now on."""
    now = time.monotonic()
    return {
        key: _Left(place, now if key[:1] in (POSITION, DELTA) else -math.inf) for key, place in places.items()
    }


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries in parts that each fit a record batch; all that there is of a key stands in one of them."""
    by_key: dict[bytes, list[Entry]] = {}
    for entry in entries:
        by_key.setdefault(entry.key, []).append(entry)
    part: list[Entry] = []
    size = 0
    for found in by_key.values():
        part += found
        size += sum(len(one.key) + len(one.value or b"") + _ENTRY_OVERHEAD for one in found)
        if size >= MOST_ENTRY_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
