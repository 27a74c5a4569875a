"""Accepted ids on disk: immutable sorted files, searched for many ids at once.

An id is 16 bytes: 96 bits of identity and 32 bits of the event's content. A file holds the ids of one
day in the order of their first 64 bits, with a Bloom filter of 64-bit words in front, so that an id
that is not there costs one look at one word. Files are mapped, not read: memory is the system's cache.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.uint64]
Found = NDArray[np.intp]

ID_BYTES = 16
BITS_PER_ID = 16
_PROBES = 4
_MAGIC = b"METERID1"
_HEADER = np.dtype([("magic", "S8"), ("day", "<u8"), ("until", "<u8"), ("count", "<u8"), ("words", "<u8")])
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class Ids(NamedTuple):
    """Ids as two columns: `high` is the first 64 bits of the identity, `low` the rest and the content."""

    high: Ints
    low: Ints


def columns(packed: bytes) -> Ids:
    """Packed ids as columns, in their order."""
    pairs = np.frombuffer(packed, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return Ids(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))


def contents(low: Ints) -> Ints:
    """The 32 bits of the events' contents."""
    return low & _LOW


class SortedIds:
    """Ids in the order of their first 64 bits."""

    def __init__(self, high: Ints, low: Ints) -> None:
        self._high, self._low = high, low

    @classmethod
    def of(cls, ids: Ids) -> "SortedIds":
        """Ids in any order, sorted."""
        order = np.argsort(ids.high, kind="stable")
        return cls(ids.high[order], ids.low[order])

    @classmethod
    def joined(cls, parts: Sequence["SortedIds"]) -> "SortedIds":
        """All ids of several."""
        high, low = zip(*(part.ids() for part in parts), strict=True)
        return cls.of(Ids(np.concatenate(high), np.concatenate(low)))

    def __len__(self) -> int:
        return len(self._high)

    def ids(self) -> Ids:
        """All of them, sorted."""
        return Ids(self._high, self._low)

    def find(self, ids: Ids) -> tuple[Found, Ints]:
        """Which of the ids are here (their places in `ids`), and the `low` of the stored copies."""
        high, low = ids
        place = np.searchsorted(self._high, high, side="left")
        hit = np.full(len(high), -1, np.int64)
        while True:  # once: two ids that agree in 64 bits are rare, but they are told apart
            open_ = (place < len(self._high)) & (hit < 0)
            open_[open_] = self._high[place[open_]] == high[open_]
            if not open_.any():
                break
            same = np.zeros(len(high), bool)
            same[open_] = (self._low[place[open_]] >> _HALF) == (low[open_] >> _HALF)
            hit[same] = place[same]
            place = place + 1
        found = np.flatnonzero(hit >= 0)
        return found, np.asarray(self._low[hit[found]])


class IdFilter:
    """A Bloom filter of 64-bit words: what it does not know was never added."""

    def __init__(self, words: Ints) -> None:
        self.words = words

    @classmethod
    def for_count(cls, count: int) -> "IdFilter":
        """An empty one for so many ids."""
        return cls(np.zeros(max(1, count * BITS_PER_ID // 64), np.uint64))

    def add(self, high: Ints) -> None:
        """Remember ids by their first 64 bits."""
        np.bitwise_or.at(self.words, self._word(high), probes(high))

    def maybe(self, high: Ints, bits: Ints) -> Found:
        """The places of the ids that may have been added; `bits` are their probes."""
        return np.flatnonzero((self.words[self._word(high)] & bits) == bits)

    def _word(self, high: Ints) -> NDArray[np.intp]:
        """The upper half of the identity chooses a word."""
        return ((high >> _HALF) * np.uint64(len(self.words)) >> _HALF).astype(np.intp)


class IdFile:
    """The ids of one day that were accepted before the place `until`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        header = raw[: _HEADER.itemsize].view(_HEADER)[0]
        if header["magic"] != _MAGIC:
            raise ValueError(f"{path} is no file of ids")
        self.day, self.until, self.count = (int(header[n]) for n in ("day", "until", "count"))
        body = raw[_HEADER.itemsize :].view(np.uint64)
        if len(body) != 2 * self.count + int(header["words"]):
            raise ValueError(f"{path} is cut off")
        self._sorted = SortedIds(body[: self.count], body[self.count : 2 * self.count])
        self._filter = IdFilter(body[2 * self.count :])

    def sorted(self) -> SortedIds:
        """All ids of the file."""
        return self._sorted

    def renamed(self, path: Path) -> "IdFile":
        """The same file under another name."""
        self.path.replace(path)
        self.path = path
        return self

    def find(self, ids: Ids, bits: Ints | None = None) -> tuple[Found, Ints]:
        """Which of the ids are here (their places in `ids`), and the `low` of the stored copies.

        `bits` are the ids' `probes`, for a caller that asks several files.
        """
        maybe = self._filter.maybe(ids.high, probes(ids.high) if bits is None else bits)
        if not len(maybe):
            return maybe, ids.low[:0]
        found, low = self._sorted.find(Ids(ids.high[maybe], ids.low[maybe]))
        return maybe[found], low


def join_files(path: Path, files: Sequence[IdFile], until: int) -> IdFile:
    """All ids of a day's files in one."""
    return write_ids(path, files[0].day, until, SortedIds.joined([file.sorted() for file in files]).ids())


def write_ids(path: Path, day: int, until: int, ids: Ids) -> IdFile:
    """Sort ids into a new file; it is there whole or not at all."""
    high, low = SortedIds.of(ids).ids()
    filter_ = IdFilter.for_count(len(high))
    filter_.add(high)
    header = np.zeros(1, _HEADER)
    header[0] = (_MAGIC, day, until, len(high), len(filter_.words))
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for column in (header, high, low, filter_.words):
            file.write(column.tobytes())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return IdFile(path)


def probes(high: Ints) -> Ints:
    """The bits of a filter's word that stand for an id: six bits of its lower half choose each."""
    bits = np.zeros(len(high), np.uint64)
    for probe in range(_PROBES):
        bits |= np.uint64(1) << (high >> np.uint64(6 * probe) & np.uint64(63))
    return bits
