"""What stands in a journal's state topic: positions, entries, deltas and pending outputs, and their keys.

A delta is what one checkpoint writes of entries, once more, under a key that nothing else has: whatever
lands late over an entry, a compaction cannot take the delta.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

import msgspec

from metering.state.fold import Changes, Entry, Output, Segment, place_in_log

POSITION, PENDING, ENTRY, DELTA = b"p", b"o", b"e", b"d"  # and a place, 8 bytes, except for entries
_PLACE = struct.Struct(">Q")
_NAME_BYTES = 12
_SEGMENT_PART_BYTES = 4 << 20
_PART_BYTES = 2 << 20
_pack = msgspec.msgpack.encode
Value = TypeVar("Value")


class _Record(Protocol):
    @property
    def value(self) -> bytes | None: ...


Sized = TypeVar("Sized", bound=_Record)
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
    number: int = 0  # of the writer's appends, from 1 on
    deltas: int = 0  # parts
    is_bare: bool = False  # its entries are too many for its batch: they follow, behind it

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


def key_at(kind: bytes, place: int) -> bytes:
    """The key of a position or of pending outputs."""
    return kind + _PLACE.pack(place)


def position_key(position: Position) -> bytes:
    """The key of a position: no other append takes it away."""
    place, sequence = position.place
    written = b"%d.%d.%d." % (position.revision, sequence, position.number)
    return key_at(POSITION, place) + written + position.writer


def deltas_of(position: Position, entries: Sequence[Entry]) -> dict[bytes, bytes]:
    """The parts of a checkpoint's delta, by their keys."""
    parts = [_pack(part) for part in _parts(entries)]
    return dict(zip(_delta_keys(position, len(parts)), parts, strict=True))


def take_delta(position: Position, parts: dict[bytes, bytes]) -> list[Entry] | None:
    """The entries of a checkpoint's delta, whose parts are emptied; None when a part is not there."""
    keys = _delta_keys(position, position.deltas)
    if not keys or not all(parts.get(key) for key in keys):
        return None
    found = [msgspec.msgpack.decode(parts[key], type=list[Entry]) for key in keys]
    parts |= dict.fromkeys(keys, b"")
    return [entry for part in found for entry in part]


def _delta_keys(position: Position, parts: int) -> list[bytes]:
    prefix = key_at(DELTA, position.place[0]) + b"%d." % position.number + position.writer
    return [prefix + b".%d" % n for n in range(parts)]


def place_of(key: bytes) -> int:
    """The place in the key of a pending output or a delta; in format 2 there was none."""
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


def _parts(records: Iterable[Sized]) -> Iterator[list[Sized]]:
    part: list[Sized] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(record.value or b"")
        if size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
