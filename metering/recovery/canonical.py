"""A state in a form that two copies can be compared by, whatever way each came about.

What only says how a log was cut into checkpoints is left out: the versions of entries, the borders of
id segments, the watermark at which a close was noticed, the record that touched a row of charges last.
What is left is a function of the log and the catalog: the header, the entries by key, the ids of each day
within the horizon.
"""

from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
import numpy as np

from metering.quota.saved import is_entry
from metering.state.dedupe import HORIZON_DAYS
from metering.state.fold import Entry, Saved, Segment
from metering.state.id_file import ID_BYTES

_ROW_FIELDS = 5  # of a row; behind them is where it was touched
SHOWN = 3  # differing entries that are named
_plain = msgspec.msgpack.Encoder(order="deterministic").encode
_DAY = "newest_day"  # in the header of a meter fold
_QUOTAS = "quotas"
_REVISION = "catalog_revision"  # in the header of a rate fold


class Canonical(NamedTuple):
    """One copy of a state; `ids` are the sorted ids by day."""

    offset: int
    header: dict[str, Any]
    entries: dict[bytes, bytes]
    ids: dict[int, bytes]

    @property
    def place(self) -> tuple[int, int]:
        """The position, and the catalog revision that a rate fold's state was rated under."""
        return self.offset, int(self.header.get(_REVISION, 0))

    @property
    def digest(self) -> str:
        """The sha256 of the whole state; two equal states have equal digests."""
        digest = sha256(_plain((self.offset, self.header)))
        for key in sorted(self.entries):
            digest.update(_plain((key, self.entries[key])))
        for day in sorted(self.ids):
            digest.update(_plain((day, self.ids[day])))
        return digest.hexdigest()


def canonical(saved: Saved) -> Canonical:
    """The canonical form of a durable copy."""
    header = msgspec.msgpack.decode(saved.header, type=dict[str, Any])
    has_closes = _DAY not in header  # a meter's entries are named by their customer
    header.pop(_QUOTAS, None)
    entries = {
        e.key: _value(e, has_closes) for e in saved.entries if e.value is not None and not is_entry(e.key)
    }
    return Canonical(saved.offset, header, entries, _ids(saved.segments, header.get(_DAY, 0) - HORIZON_DAYS))


def place_of(saved: Saved) -> tuple[int, int]:
    """The place of a durable copy; see `Canonical.place`."""
    header = msgspec.msgpack.decode(saved.header, type=dict[str, Any])
    return saved.offset, int(header.get(_REVISION, 0))


def _value(entry: Entry, has_closes: bool) -> bytes:
    assert entry.value is not None
    if has_closes and entry.key.startswith(b'["close",'):
        return b""  # that it is closed is what counts; see the module's note
    if has_closes and entry.key.startswith(b'["row",'):
        return _plain(msgspec.msgpack.decode(entry.value)[:_ROW_FIELDS])
    try:
        return _plain(msgspec.msgpack.decode(entry.value))
    except msgspec.DecodeError:
        return entry.value  # terms of a closed period are kept as they are


def _ids(segments: Iterable[Segment], oldest_day: int) -> dict[int, bytes]:
    days: defaultdict[int, list[bytes]] = defaultdict(list)
    for segment in segments:
        if segment.day >= oldest_day and segment.ids:
            days[segment.day].append(segment.ids)
    return {day: _sorted_once(b"".join(packed)) for day, packed in days.items()}


def _sorted_once(packed: bytes) -> bytes:
    """Packed ids in order, each once; as two columns, because sets would take ten times the memory."""
    ids = np.frombuffer(packed, dtype=">u8").reshape(-1, ID_BYTES // 8)
    ids = ids[np.lexsort((ids[:, 1], ids[:, 0]))]
    is_new = np.ones(len(ids), dtype=bool)
    is_new[1:] = (ids[1:] != ids[:-1]).any(axis=1)
    return ids[is_new].tobytes()


def differences(one: Canonical, other: Canonical) -> list[str]:
    """What differs between two copies, in words; empty when nothing does."""
    found = []
    for name in sorted(one.header.keys() | other.header.keys()):
        a, b = one.header.get(name), other.header.get(name)
        if a != b:
            found.append(f"{name}: {a} and {b}")
    found += _entry_differences(one.entries, other.entries)
    for day in sorted(one.ids.keys() | other.ids.keys()):
        left, right = one.ids.get(day, b""), other.ids.get(day, b"")
        if left != right:
            found.append(f"ids of day {day}: {len(left) // ID_BYTES:,} and {len(right) // ID_BYTES:,}")
    return found


def _entry_differences(one: dict[bytes, bytes], other: dict[bytes, bytes]) -> list[str]:
    sides = [
        ("only in the first", one.keys() - other.keys()),
        ("only in the second", other.keys() - one.keys()),
        ("with another value", {key for key in one.keys() & other.keys() if one[key] != other[key]}),
    ]
    return [
        f"{len(keys):,} entries {side}: "
        + ", ".join(key.decode(errors="replace") for key in sorted(keys)[:SHOWN])
        for side, keys in sides
        if keys
    ]
