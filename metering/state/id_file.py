"""Accepted ids on disk: immutable sorted files, searched for many ids at once.

An id is 16 bytes: 96 bits of identity and 32 bits of the event's content. A file holds the ids of one
day in the order of their first 64 bits, with a Bloom filter of 64-bit words in front, so that an id
that is not there costs one look at one word. Files are mapped, not read: memory is the system's cache.
"""

import os
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
        self._high, self._low = body[: self.count], body[self.count : 2 * self.count]
        self._filter = body[2 * self.count :]

    def ids(self) -> Ids:
        """All ids of the file, sorted."""
        return Ids(self._high, self._low)

    def renamed(self, path: Path) -> "IdFile":
        """The same file under another name."""
        self.path.replace(path)
        self.path = path
        return self

    def find(self, ids: Ids) -> tuple[Found, Ints]:
        """Which of the ids are here (their places in `ids`), and the `low` of the stored copies."""
        maybe = np.flatnonzero(_may_hold(self._filter, ids.high))
        if not len(maybe):
            return maybe, ids.low[:0]
        high, low = ids.high[maybe], ids.low[maybe]
        place = np.searchsorted(self._high, high, side="left")
        hit = np.full(len(maybe), -1, np.int64)
        while True:  # once: two ids that agree in 64 bits are rare, but they are told apart
            open_ = (place < self.count) & (hit < 0)
            open_[open_] = self._high[place[open_]] == high[open_]
            if not open_.any():
                break
            same = np.zeros(len(maybe), bool)
            same[open_] = (self._low[place[open_]] >> _HALF) == (low[open_] >> _HALF)
            hit[same] = place[same]
            place = place + 1
        found = hit >= 0
        return maybe[found], np.asarray(self._low[hit[found]])


def join_files(path: Path, files: list[IdFile], until: int) -> IdFile:
    """All ids of a day's files in one."""
    ids = Ids(*(np.concatenate(column) for column in zip(*(file.ids() for file in files), strict=True)))
    return write_ids(path, files[0].day, until, ids)


def write_ids(path: Path, day: int, until: int, ids: Ids) -> IdFile:
    """Sort ids into a new file; it is there whole or not at all."""
    order = np.argsort(ids.high, kind="stable")
    high, low = ids.high[order], ids.low[order]
    words = max(1, len(high) * BITS_PER_ID // 64)
    filter_ = np.zeros(words, np.uint64)
    np.bitwise_or.at(filter_, _word(high, words), _bits(high))
    header = np.zeros(1, _HEADER)
    header[0] = (_MAGIC, day, until, len(high), words)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for column in (header, high, low, filter_):
            file.write(column.tobytes())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return IdFile(path)


def _may_hold(filter_: Ints, high: Ints) -> NDArray[np.bool_]:
    bits = _bits(high)
    found: NDArray[np.bool_] = (filter_[_word(high, len(filter_))] & bits) == bits
    return found


def _word(high: Ints, words: int) -> NDArray[np.intp]:
    """The upper half of the identity chooses a word."""
    return ((high >> _HALF) * np.uint64(words) >> _HALF).astype(np.intp)


def _bits(high: Ints) -> Ints:
    """The lower half chooses the bits of the word, six bits of it for each."""
    bits = np.zeros(len(high), np.uint64)
    for probe in range(_PROBES):
        bits |= np.uint64(1) << (high >> np.uint64(6 * probe) & np.uint64(63))
    return bits
