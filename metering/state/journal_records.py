"""What stands in a journal's state topic: positions, entries and pending outputs, and their keys."""

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import TypeVar

import msgspec

from metering.state.fold import Changes, Output, Segment, place_in_log

POSITION, PENDING, ENTRY = b"p", b"o", b"e"  # and the place, 8 bytes; format 2 had no places here
_PLACE = struct.Struct(">Q")
_NAME_BYTES = 12
_SEGMENT_PART_BYTES = 4 << 20
_OUTPUTS_PART_BYTES = 2 << 20
_ANY_SEQUENCE = 1 << 63  # above all: the position that names them may be on its way
_pack = msgspec.msgpack.encode
Value = TypeVar("Value")
Place = tuple[int, int]  # in the log, and the sequence that tells states at one offset apart


class Position(msgspec.Struct, frozen=True):
    """A position as it is written; the record that makes a checkpoint valid."""

    epoch: int
    offset: int
    header: bytes
    partitions: int = 0
    format: int = 2  # it was not written before
    pending: bytes = b""  # the name of its pending outputs, when it has some
    revision: int = 0  # the catalog revision that a rate fold's state was rated under
    sequence: int = 0  # tells states at one offset apart
    writer: bytes = b""
    after: int | None = None  # the journal's end as the writer knew it
    records: int = 1  # in its record batch; it is the last one

    @property
    def place(self) -> Place:
        """What a checkpoint must have passed to strike this one out."""
        return place_in_log(self.epoch, self.offset), self.sequence


class _PendingOfFormat2(msgspec.Struct, frozen=True):
    offset: int
    outputs: list[Output]


class Pending(msgspec.Struct, frozen=True):
    """The parts of some outputs, by their keys in the journal."""

    name: bytes
    parts: dict[bytes, bytes]

    @classmethod
    def of(cls, changes: Changes) -> "Pending":
        """The outputs of a checkpoint in parts that fit a record."""
        parts = [_pack(part) for part in _parts(changes.outputs)]
        content = b"%d " % changes.sequence + b"".join(parts)
        name = blake2b(content, digest_size=_NAME_BYTES).digest() if parts else b""
        prefix = key_at(PENDING, place_in_log(changes.epoch, changes.offset)) + name
        return cls(name, {prefix + b"%d" % n: part for n, part in enumerate(parts)})


class Found(msgspec.Struct):
    """What stands in a journal, by key; positions of every epoch.

    A checkpoint counts when its writer knew of the last one that counts. One of a worker that was
    replaced, or that a network delivers late, is left out: what its owner decided meanwhile stands.
    """

    positions: dict[bytes, Position] = {}
    entries: dict[bytes, tuple[int, bytes]] = {}
    pending: dict[bytes, bytes] = {}
    overlaid: set[bytes] = set()  # keys of entries of checkpoints that do not count
    beside: dict[bytes, tuple[int, bytes]] = {}  # those entries
    gone: set[bytes] = set()  # keys of entries that a checkpoint that counts removed
    stale: set[bytes] = set()  # keys of their positions
    end: int = 0  # of the log
    last: int = -1  # offset in the journal of the last position that counts
    last_key: bytes = b""
    _waiting: list[tuple[int, bytes, bytes | None]] = []

    def take(self, offset: int, key: bytes, value: bytes | None) -> None:
        """One record, in the order of the log."""
        self.end = offset + 1
        if key[:1] == PENDING:
            put(self.pending, key, value)
            return
        self._waiting.append((offset, key, value))
        if key[:1] == POSITION and value is not None:
            self._close_batch(offset, msgspec.msgpack.decode(value, type=Position))

    def _close_batch(self, offset: int, position: Position) -> None:
        first = offset - position.records + 1
        batch = [record for record in self._waiting if record[0] >= first]
        # Before it stands what is left of batches whose positions compaction took: they were passed.
        self.finish(upto=first)
        if position.after is not None and position.after <= self.last:
            self.overlaid.update(key[1:] for _, key, _ in batch if key[:1] == ENTRY)
            for _, key, value in batch:
                if key[:1] == ENTRY and value is not None:
                    entry = msgspec.msgpack.decode(value, type=tuple[int, bytes])
                    self.beside[key[1:]] = max(entry, self.beside.get(key[1:], entry))
            self.stale.add(batch[-1][1])
            return
        self.last, self.last_key = offset, batch[-1][1]
        self._apply(batch)

    def finish(self, upto: int | None = None) -> None:
        """Take what stands before an offset, or before the end, and has no position behind it."""
        rest = [record for record in self._waiting if upto is None or record[0] < upto]
        self._waiting = []
        self._apply(rest)
        if upto is None:
            self._take_what_compaction_left()

    def _take_what_compaction_left(self) -> None:
        """An entry of which only a late copy stands: the log was compacted before anybody wrote it again."""
        newest = max((p.place[0] for p in self.positions.values()), default=-1)
        for key, entry in self.beside.items():
            if key not in self.entries and key not in self.gone and entry[0] <= newest:
                self.entries[key] = entry

    def _apply(self, records: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        for _, key, value in records:
            if key[:1] == POSITION:
                found = None if value is None else msgspec.msgpack.decode(value, type=Position)
                put(self.positions, key, found)
            elif value is None:
                self.entries.pop(key[1:], None)
                self.gone.add(key[1:])
            else:
                version, body = msgspec.msgpack.decode(value, type=tuple[int, bytes])
                if version >= self.entries.get(key[1:], (0, b""))[0]:
                    self.entries[key[1:]] = version, body
                    self.gone.discard(key[1:])

    def newest(self, epoch: int) -> Position | None:
        """The highest position of an epoch; of two at one place the one of the newer revision.

        Its writer had published what the other one left pending.
        """
        found = [p for p in self.positions.values() if p.epoch == epoch]
        return max(found, key=lambda p: (p.offset, p.sequence, p.format, p.revision), default=None)

    @property
    def revision(self) -> int:
        """The newest revision that anything here was rated under."""
        return max((p.revision for p in self.positions.values()), default=0)

    def places(self) -> dict[bytes, Place]:
        """The keys that a later checkpoint strikes out, and the places that it must have passed."""
        places = {key: p.place for key, p in self.positions.items()}
        places |= {key: (_place_of(key), _ANY_SEQUENCE) for key in self.pending}
        return places | dict.fromkeys(self.stale, (0, 0))


def key_at(kind: bytes, place: int) -> bytes:
    """The key of a position or of pending outputs."""
    return kind + _PLACE.pack(place)


def position_key(position: Position) -> bytes:
    """The key of a position: what was rated under one revision, or by one worker, takes nothing away."""
    place, sequence = position.place
    return key_at(POSITION, place) + b"%d.%d." % (position.revision, sequence) + position.writer


def _place_of(key: bytes) -> int:
    """The place in the key of a pending output; in format 2 there was none."""
    return 0 if key[1:].isdigit() else int(_PLACE.unpack_from(key, 1)[0])


def put(held: dict[bytes, Value], key: bytes, value: Value | None) -> None:
    """Keep a record as compaction would; None strikes it out."""
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value


def outputs_of(position: Position, pending: dict[bytes, bytes]) -> list[Output]:
    """The pending outputs of a position, its parts in their order."""
    if position.format == 2:
        return _outputs_of_format_2(position, pending)
    prefix = key_at(PENDING, place_in_log(position.epoch, position.offset)) + position.pending
    keys = [key for key in pending if position.pending and key.startswith(prefix)]
    parts = sorted((int(key[len(prefix) :]), pending[key]) for key in keys)
    return [o for _, part in parts for o in msgspec.msgpack.decode(part, type=list[Output])]


def _outputs_of_format_2(position: Position, pending: dict[bytes, bytes]) -> list[Output]:
    """Parts had a number for a name, and said which position they belong to."""
    numbered = sorted((int(key[1:]), part) for key, part in pending.items() if key[1:].isdigit())
    parts = [msgspec.msgpack.decode(part, type=_PendingOfFormat2) for _, part in numbered]
    return [o for part in parts if part.offset == position.offset for o in part.outputs]


def cut(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Cut large segments into records that fit; each part names the same offsets."""
    for s in segments:
        for start in range(0, len(s.ids), _SEGMENT_PART_BYTES):
            yield Segment(s.day, s.first, s.next, s.ids[start : start + _SEGMENT_PART_BYTES])


def _parts(outputs: Iterable[Output]) -> Iterator[list[Output]]:
    part: list[Output] = []
    size = 0
    for output in outputs:
        part.append(output)
        size += len(output.value or b"")
        if size >= _OUTPUTS_PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
