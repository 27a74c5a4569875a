"""What a fold is: state that is a pure function of a log prefix and knows its own position.

A fold has no Faust, no Kafka, no clock and no randomness. `MeterFold` and `RateFold` implement the
protocol; `state/checkpoint.py` keeps either of them durable.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from metering.catalog.resolved import Catalog

PLACE_SHIFT = 48  # offsets are below; a broker that appends a million records a second needs nine years


def place_in_log(epoch: int, offset: int) -> int:
    """An offset among all epochs of a partition: what came in an earlier epoch is before it."""
    assert 0 <= offset < 1 << PLACE_SHIFT
    return epoch << PLACE_SHIFT | offset


class Chunk(NamedTuple):
    """One Kafka record batch: it covers the offsets `first` to `next - 1` without a hole.

    `values[i]` stands at `offsets[i]`; compaction and control batches may leave fewer values than
    offsets covered. `appended` is the broker's append time, epoch ms.
    """

    first: int
    next: int
    offsets: Sequence[int]
    values: Sequence[bytes | None]
    appended: int

    def after(self, offset: int) -> "Chunk":
        """The part of this chunk at and behind `offset`."""
        if offset <= self.first:
            return self
        skip = sum(1 for o in self.offsets if o < offset)
        return Chunk(offset, self.next, self.offsets[skip:], self.values[skip:], self.appended)


class Output(msgspec.Struct, frozen=True, array_like=True):
    """One record for one of our topics, for the partition that the fold owns; no value is a tombstone.

    `keeps_key`: readers find it by its key, so that no owner may mark it (see `Publisher`).
    """

    topic: str
    key: bytes | None
    value: bytes | None
    keeps_key: bool = False


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One changed piece of state, absolute; `value` None removes it.

    `version` is the place (see `place_in_log`) up to which the value includes the log.
    """

    key: bytes
    value: bytes | None
    version: int


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """The ids accepted between two places, packed; `day` (append time) decides when they expire."""

    day: int
    first: int
    next: int
    ids: bytes


class Changes(msgspec.Struct, frozen=True):
    """All that one checkpoint has to make durable, in a form that can be repeated.

    `offset` is the position that the state includes; `header` is the fold's own small state
    (counters, watermark). `revision` is the catalog revision that it was rated under, see `Fold`;
    `sequence` tells states at one offset apart: requests move it on.
    """

    epoch: int
    offset: int
    header: bytes
    entries: list[Entry]
    segments: list[Segment]
    expired_before: int
    outputs: list[Output]
    revision: int = 0
    sequence: int = 0


class Saved(NamedTuple):
    """A durable copy of a fold's state, read back."""

    offset: int
    header: bytes
    entries: Iterable[Entry]
    segments: Iterable[Segment]
    sequence: int = 0
    revision: int = 0

    @property
    def state(self) -> tuple[int, int, int, bytes]:
        """What tells one copy of a state from another."""
        return self.offset, self.sequence, self.revision, self.header


class Fold(Protocol):
    """A deterministic fold over one partition."""

    @property
    def offset(self) -> int | None:
        """The next offset to fold; None before the first record."""

    @property
    def revision(self) -> int:
        """The catalog revision that the state was rated under; 0 when none of it depends on one."""

    @property
    def is_heavy(self) -> bool:
        """Whether so much has changed that it should be made durable before more is folded."""

    def fold(self, chunks: Sequence[Chunk], catalog: Catalog) -> None:
        """Fold chunks that continue the position without a gap."""

    def adopt(self, catalog: Catalog) -> None:
        """Re-derive what a new catalog revision touches, at the same position."""

    def changes(self) -> Changes | None:
        """What has changed since the last call; None when nothing has."""

    def restore(self, saved: Saved) -> None:
        """Take over a durable copy; only on a fresh fold."""
