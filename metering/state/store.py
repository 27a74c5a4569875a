"""The local durable copy of one partition's state: a RocksDB of its own, one write batch a step.

Layout: `i` identity, `p` position and header, `o` what is not yet published, `j` what was known of the
journal, `e<key>` entries, `s<day><first>` id segments. A write batch is atomic, so a crash leaves the
state before or after it, never between.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, ReadOptions, WriteBatch

from metering.errors import UserError
from metering.state.fold import Changes, Entry, Saved, Segment
from metering.state.formats import FORMAT, entry_of, refuse_unreadable, segment_of

SHARED_HINT = "two workers must not share a folder: give each its own METERING_INSTANCE"
PARTITIONS_HINT = (
    "customers are placed by the number of partitions: set METERING_PARTITIONS back; to have more,"
    " run `metering topics grow`"
)
DISK_HINT = "give its disk more space, then start the worker: nothing was acknowledged, a restart is exact"
_ENTRY, _SEGMENT = b"e", b"s"
_IDENTITY, _POSITION, _PENDING, _JOURNAL = b"i", b"p", b"o", b"j"
_SEGMENT_KEY = struct.Struct(">cIQ")  # kind, day, first offset
_CACHE_BYTES = 32 << 20
_WRITE_BUFFER_BYTES = 16 << 20


class Identity(msgspec.Struct, frozen=True):
    """What a state folder belongs to; a folder of another topic or epoch, or a newer format, is refused."""

    format: int
    fold: str
    topic: str
    partition: int
    epoch: int
    partitions: int = 0  # it was not written before

    def __str__(self) -> str:
        where = f"{self.topic}, partition {self.partition} of {self.partitions}"
        return f"{where}, epoch {self.epoch} ({self.fold}, format {self.format})"


class Known(msgspec.Struct, frozen=True, array_like=True):
    """Where a journal ended, and the keys that its next position strikes out."""

    end: int = -1
    left: list[bytes] = []
    latest: bytes = b""  # the key of its last position
    last: int = -1  # and its offset


class _Position(msgspec.Struct, frozen=True):
    offset: int
    header: bytes
    sequence: int = 0
    revision: int = 0


_pack = msgspec.msgpack.encode
_numbered = msgspec.msgpack.Decoder(tuple[int, bytes]).decode


class Store:
    """One partition's RocksDB; only one process can hold it open. A full disk is a UserError."""

    def __init__(self, path: Path, identity: Identity) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._epoch = path, identity.epoch
        self._db = _opened(path)
        self._set_aside_earlier_epoch(identity)
        if self._check(identity) != FORMAT:
            batch = WriteBatch(raw_mode=True)
            batch.put(_IDENTITY, _pack(identity))
            self._write(batch)

    @classmethod
    def reading(cls, path: Path, identity: Identity) -> "Store":
        """An existing folder opened only to read; it takes no lock, see `opening.held`."""
        store = cls.__new__(cls)
        store._path, store._epoch = path, identity.epoch
        try:
            store._db = Rdict(str(path), options=_options(), access_type=AccessType.read_only())
        except Exception as error:  # rocksdict raises bare Exception
            raise UserError(
                f"the state folder {path} cannot be read: {error}",
                hint="move the folder away; the state is rebuilt from the journal",
            ) from error
        store._check(identity)
        return store

    def _set_aside_earlier_epoch(self, identity: Identity) -> None:
        """What an earlier epoch left is no state of this one; nothing is deleted."""
        found = self._db.get(_IDENTITY)
        held = msgspec.msgpack.decode(found, type=Identity) if found is not None else identity
        is_ours = (held.fold, held.topic, held.partition) == (
            identity.fold,
            identity.topic,
            identity.partition,
        )
        if not is_ours or held.epoch >= identity.epoch:
            return
        self.close()
        self._path.rename(self._path.with_name(f"{self._path.name}.epoch-{held.epoch}"))
        self._db = _opened(self._path)

    def _check(self, identity: Identity) -> int | None:
        """The format of the folder, None when it is new; UserError when it is not ours or not readable."""
        found = self._db.get(_IDENTITY)
        if found is None:
            return None
        held = msgspec.msgpack.decode(found, type=Identity)
        partitions = held.partitions or identity.partitions
        if msgspec.structs.replace(held, format=FORMAT, partitions=partitions) != identity:
            self.close()
            raise UserError(
                f"the state folder {self._path} belongs to {held}, not to {identity}",
                hint=_mismatch_hint(held, identity),
            )
        try:
            refuse_unreadable(held.format, f"the state folder {self._path}")
        except UserError:
            self.close()
            raise
        return held.format

    def _write(self, batch: WriteBatch) -> None:
        try:
            self._db.write(batch)
        except Exception as error:  # rocksdict raises bare Exception
            raise UserError(
                f"the state folder {self._path} cannot be written: {error}", hint=DISK_HINT
            ) from error

    def write(self, changes: Changes) -> None:
        """Step 1 of a checkpoint: entries, segments, position and the pending outputs at once."""
        batch = WriteBatch(raw_mode=True)
        _put_changes(batch, _position_of(changes), changes.entries, changes.segments)
        batch.put(_PENDING, _pack(changes))
        self._write(batch)

    def settle(self, changes: Changes, journal: Known) -> None:
        """Last step of a checkpoint: its outputs are on Kafka; expired ids go."""
        batch = WriteBatch(raw_mode=True)
        batch.delete(_PENDING)
        batch.put(_JOURNAL, _pack(journal))
        if changes.expired_before > 0:
            expired = _SEGMENT_KEY.pack(_SEGMENT, changes.expired_before, 0)
            batch.delete_range(_SEGMENT, expired)
        self._write(batch)

    def pending(self) -> Changes | None:
        """What was folded and written here, but perhaps not published."""
        found = self._db.get(_PENDING)
        return msgspec.msgpack.decode(found, type=Changes) if found is not None else None

    def known(self) -> Known:
        """What was known of the journal when the last checkpoint was complete."""
        found = self._db.get(_JOURNAL)
        return msgspec.msgpack.decode(found, type=Known) if found is not None else Known()

    def entry(self, place: bytes) -> Entry:
        """One entry as it is now; without a value when there is none."""
        found = self._db.get(_ENTRY + place)
        version, body = _numbered(found) if found else (0, None)
        return entry_of(Entry(place, body, version), self._epoch)

    def load(self) -> Saved | None:
        """The saved state; None when there is none."""
        found = self._db.get(_POSITION)
        if found is None:
            return None
        position = msgspec.msgpack.decode(found, type=_Position)
        state = position.offset, position.header, self._entries(), self._segments()
        return Saved(*state, position.sequence, position.revision)

    def replace(self, saved: Saved) -> None:
        """Take a state that was rebuilt from the journal in place of what is here."""
        # The position first: without it there is no state, should we die here.
        for kind in (_POSITION, _PENDING, _JOURNAL, _ENTRY, _SEGMENT):
            for found in [place for place, _ in self._scan(kind)]:
                del self._db[found]
        batch = WriteBatch(raw_mode=True)
        _put_changes(batch, _position_of(saved), saved.entries, saved.segments)
        self._write(batch)

    def _entries(self) -> Iterator[Entry]:
        for found, value in self._scan(_ENTRY):
            version, body = _numbered(value)
            yield entry_of(Entry(found[1:], body, version), self._epoch)

    def _segments(self) -> Iterator[Segment]:
        for found, value in self._scan(_SEGMENT):
            _, day, first = _SEGMENT_KEY.unpack(found)
            upto, ids = _numbered(value)
            yield segment_of(Segment(day, first, upto, ids), self._epoch)

    def _scan(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        options = ReadOptions()
        found: Any
        for found, value in self._db.items(from_key=kind, read_opt=options):
            if not found.startswith(kind):
                return
            yield found, value

    def close(self) -> None:
        """Release the folder."""
        self._db.close()


def _opened(path: Path) -> Rdict:
    try:
        return Rdict(str(path), options=_options())
    except Exception as error:  # rocksdict raises bare Exception
        said = f"the state folder {path} cannot be opened: {error}"
        raise UserError(said, hint=_opening_hint(str(error))) from error


def _opening_hint(error: str) -> str:
    if "lock" in error.lower():
        return SHARED_HINT
    is_full = any(reason in error for reason in ("No space left", "File too large", "quota exceeded"))
    return DISK_HINT if is_full else "move the folder away: the journal has the state"


def _mismatch_hint(held: Identity, wanted: Identity) -> str:
    if held.partitions not in (0, wanted.partitions):
        return PARTITIONS_HINT
    if held.epoch > wanted.epoch:
        return f"METERING_EPOCH was raised to {held.epoch} here: set it"
    return "is METERING_HOME of another deployment? If not, move the folder away: the journal has the state"


def _position_of(state: Changes | Saved) -> _Position:
    return _Position(state.offset, state.header, state.sequence, state.revision)


def _put_changes(
    batch: WriteBatch,
    position: _Position,
    entries: Iterable[Entry],
    segments: Iterable[Segment],
) -> None:
    for entry in entries:
        if entry.value is None:
            batch.delete(_ENTRY + entry.key)
        else:
            batch.put(_ENTRY + entry.key, _pack((entry.version, entry.value)))
    for segment in segments:
        place = _SEGMENT_KEY.pack(_SEGMENT, segment.day, segment.first)
        batch.put(place, _pack((segment.next, segment.ids)))
    batch.put(_POSITION, _pack(position))


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(_CACHE_BYTES))
    options.set_block_based_table_factory(table)
    return options
