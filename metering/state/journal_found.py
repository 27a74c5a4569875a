"""What a reader of a journal's state topic makes of its records."""

import msgspec

from metering.state.fold import Entry
from metering.state.journal_records import (
    DELTA,
    ENTRY,
    PENDING,
    POSITION,
    Place,
    Position,
    place_of,
    put,
    take_delta,
)

_ANY_SEQUENCE = 1 << 63  # above all: the position that names them may be on its way
NOWHERE = (0, 0)  # struck out at the next occasion


class Found(msgspec.Struct):
    """What stands in a journal, by key; positions of every epoch.

    A checkpoint counts when its writer knew of the last one that counts. One of a worker that was
    replaced, or that a network delivers late, is left out: what its owner decided meanwhile stands.
    A writer goes on only when its checkpoint counts, so another copy of one that counts is known by its
    number: it may be all that a compaction has left of it.
    """

    positions: dict[bytes, Position] = {}
    entries: dict[bytes, tuple[int, bytes]] = {}
    pending: dict[bytes, bytes] = {}
    overlaid: set[bytes] = set()  # keys of entries of checkpoints that do not count, or that did not follow
    stale: set[bytes] = set()  # keys of their positions
    end: int = 0  # of the log
    last: int = -1  # offset in the journal of the last position that counts
    last_key: bytes = b""
    _deltas: dict[bytes, bytes] = {}  # emptied once taken
    _gone: set[bytes] = set()  # keys of entries that a checkpoint that counts removed
    _bare: set[bytes] = set()  # keys of entries that stand in deltas alone so far
    _numbers: dict[bytes, int] = {}  # by writer: of its last checkpoint that counts
    _late: list[tuple[Position, list[Entry]]] = []
    _waiting: list[tuple[int, bytes, bytes | None]] = []

    def take(self, offset: int, key: bytes, value: bytes | None) -> None:
        """One record, in the order of the log."""
        self.end = offset + 1
        if key[:1] in (PENDING, DELTA):
            put(self.pending if key[:1] == PENDING else self._deltas, key, value)
            return
        self._waiting.append((offset, key, value))
        if key[:1] == POSITION and value is not None:
            self._close_batch(offset, msgspec.msgpack.decode(value, type=Position))

    def _close_batch(self, offset: int, position: Position) -> None:
        first = offset - position.records + 1
        batch = [(key, value) for place, key, value in self._waiting if place >= first]
        # Before it stands what is left of batches whose positions compaction took: they were passed.
        self._pass(upto=first)
        entries = [(key, value) for key, value in batch if key[:1] == ENTRY]
        if position.after is not None and position.after <= self.last:
            self.overlaid.update(key[1:] for key, _ in entries)
            self._late.append((position, [_entry(*one) for one in entries if one[1] is not None]))
            self.stale.add(batch[-1][0])
            return
        self.last, self.last_key = offset, batch[-1][0]
        self._numbers[position.writer] = position.number
        for key, value in batch:
            if key[:1] == POSITION:
                found = None if value is None else msgspec.msgpack.decode(value, type=Position)
                put(self.positions, key, found)
        delta = take_delta(position, self._deltas)
        if delta is None and position.deltas:
            self._late.append((position, []))  # a part of it may stand behind it
        for entry in delta if delta is not None else (_entry(*one) for one in entries):
            self._keep(entry)
        if position.is_bare:
            self._bare |= {entry.key for entry in delta or ()}
        else:
            self._bare -= {key[1:] for key, _ in entries}

    def finish(self) -> None:
        """Take what stands before the end, and has no position behind it, and what only late copies have."""
        self._pass(None)
        self.overlaid |= self._bare
        newest = max((p.place[0] for p in self.positions.values()), default=-1)
        for position, entries in self._late:
            if 0 < position.number <= self._numbers.get(position.writer, 0):
                for entry in take_delta(position, self._deltas) or entries:
                    held = self.entries.get(entry.key, (-1, b""))[0]
                    if held < entry.version <= newest and entry.key not in self._gone:
                        self._keep(entry)

    def _pass(self, upto: int | None) -> None:
        waiting, self._waiting = self._waiting, []
        for place, key, value in waiting:
            if upto is not None and place >= upto:
                return
            if key[:1] == ENTRY:
                self._keep(_entry(key, value))
            elif value is None:
                self.positions.pop(key, None)

    def _keep(self, entry: Entry) -> None:
        if entry.value is None:
            self.entries.pop(entry.key, None)
            self._gone.add(entry.key)
        elif entry.version >= self.entries.get(entry.key, (0, b""))[0]:
            self.entries[entry.key] = entry.version, entry.value
            self._gone.discard(entry.key)

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
        places |= {key: (place_of(key), _ANY_SEQUENCE) for key in [*self.pending, *self._deltas]}
        return places | dict.fromkeys(self.stale, NOWHERE)


def _entry(key: bytes, value: bytes | None) -> Entry:
    """An entry as it stands in the log."""
    if value is None:
        return Entry(key[1:], None, 0)
    version, body = msgspec.msgpack.decode(value, type=tuple[int, bytes])
    return Entry(key[1:], body, version)
