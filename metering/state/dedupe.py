"""Deduplication by (customer, source, id) over 35 days of append time, whatever an event's own time.

An id is kept as a 128-bit fingerprint: at 30 billion ids, the chance that any two differ and still
collide is about 10^-18, so a hit needs no second look.
"""

from collections import defaultdict
from collections.abc import Iterable
from hashlib import blake2b

from metering.state.fold import Segment

HORIZON_DAYS = 35
FINGERPRINT_BYTES = 16
DAY_MS = 86_400_000


def fingerprint(customer: str, source: str, event_id: str) -> bytes:
    """The 16 bytes that stand for one event's identity.

    Names hold no control characters (the decoder refuses them), so NUL separates safely.
    """
    text = f"{customer}\0{source}\0{event_id}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=FINGERPRINT_BYTES).digest()


class SeenIds:
    """The ids of one partition, by the day of the broker's append time, so that expiry is a drop."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._days: defaultdict[int, list[bytes]] = defaultdict(list)
        self._fresh: defaultdict[int, list[bytes]] = defaultdict(list)
        self._newest_day = 0

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._seen

    def add(self, identity: bytes, appended: int) -> None:
        """Remember an id accepted from a record appended at `appended` (epoch ms)."""
        self._seen.add(identity)
        self._fresh[appended // DAY_MS].append(identity)

    def advance(self, appended: int) -> None:
        """Let append time pass: ids older than the horizon are forgotten."""
        day = appended // DAY_MS
        if day <= self._newest_day:
            return
        self._newest_day = day
        for old in [d for d in self._days if d < self.expired_before]:
            self._seen.difference_update(self._days.pop(old))

    @property
    def expired_before(self) -> int:
        """Days before this one are beyond the horizon."""
        return self._newest_day - HORIZON_DAYS

    def take_segments(self, first: int, upto: int) -> list[Segment]:
        """The ids added since the last call, packed by day, for the offsets `first` to `upto - 1`."""
        segments = [Segment(day, first, upto, b"".join(ids)) for day, ids in sorted(self._fresh.items())]
        for day, ids in self._fresh.items():
            self._days[day].extend(ids)
        self._fresh.clear()
        return segments

    def restore(self, segments: Iterable[Segment], newest_day: int) -> None:
        """Take back saved segments that are within the horizon."""
        self._newest_day = newest_day
        for segment in segments:
            if segment.day < self.expired_before:
                continue
            size = FINGERPRINT_BYTES
            ids = [segment.ids[i : i + size] for i in range(0, len(segment.ids), size)]
            self._seen.update(ids)
            self._days[segment.day].extend(ids)

    @property
    def newest_day(self) -> int:
        """The latest day of append time that was folded."""
        return self._newest_day
