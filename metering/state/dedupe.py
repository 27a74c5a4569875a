"""Deduplication by (customer, source, id) over 35 days of append time, whatever an event's own time.

An id is kept as 16 bytes: 96 bits that stand for the identity (at 30 billion ids the chance that any
two collide is about 10^-8) and 32 bits of the content, so that a second copy with other content is
told from a plain duplicate. The latest ids are in memory, older ones in sorted files of a day
(`id_file.py`): memory is bounded, and a day expires by removing its files.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from zlib import crc32

import msgspec

from metering.events import TICK_TYPE, Refusal, UsageEvent
from metering.state.fold import Segment
from metering.state.id_file import (
    ID_BYTES,
    Found,
    IdFile,
    Ids,
    Ints,
    columns,
    contents,
    join_files,
    probes,
    write_ids,
)
from metering.state.recent_ids import RecentIds

HORIZON_DAYS = 35
IDENTITY_BYTES = 12
JOINED_IDS = 20_000_000  # about two seconds of sorting
MEMORY_IDS = 1_000_000  # of a partition, about 20 bytes each; beyond, the oldest day goes to disk
RESTORED_BYTES = 4 << 20  # of segments that are taken back at a time
DAY_MS = 86_400_000
_plain = msgspec.json.Encoder(order="deterministic").encode
_EMPTY_HASH = blake2b(digest_size=IDENTITY_BYTES)


def fingerprint(customer: str, source: str, event_id: str) -> bytes:
    """The 12 bytes that stand for one event's identity.

    Names hold no control characters (the decoder refuses them), so NUL separates safely.
    """
    return fingerprints([f"{customer}\0{source}\0{event_id}".encode("utf-8", "surrogatepass")])[0]


def fingerprints(texts: Iterable[bytes]) -> list[bytes]:
    """The fingerprints of many identities; each is customer, source and id with a NUL between them."""
    made = []
    begin = _EMPTY_HASH.copy  # a copy costs less than a new one
    for text in texts:
        state = begin()
        state.update(text)
        made.append(state.digest())
    return made


def identity_of(event: UsageEvent | Refusal) -> bytes:
    """The fingerprint of an event; empty for what has none."""
    if isinstance(event, Refusal) or event.type == TICK_TYPE:
        return b""
    return fingerprint(event.customer, event.source, event.id)


def digest_of(identity: bytes) -> int:
    """What an event adds to the digest of its totals."""
    return int.from_bytes(identity[:8])


def content_of(event: UsageEvent) -> int:
    """32 bits of what an event says: type, time and data, however they were written."""
    return crc32(_plain(event.data), crc32(f"{event.type}\0{event.at}".encode("utf-8", "surrogatepass")))


class SeenIds:
    """The ids of one partition, by the day of the broker's append time, so that expiry is a drop.

    Without a `folder` all of them stay in memory. What is on disk is a copy of segments that are
    durable elsewhere; files that go beyond the restored position are ignored.
    """

    def __init__(self, folder: Path | None = None, memory_ids: int = MEMORY_IDS) -> None:
        self._folder = folder
        self._memory_ids = memory_ids
        self._now: dict[bytes, int] = {}  # identity → content, of ids that were added one by one just now
        self._added: defaultdict[int, list[bytes]] = defaultdict(list)  # just now, packed
        self._fresh: defaultdict[int, list[bytes]] = defaultdict(list)  # not taken yet, packed
        self._memory = RecentIds()
        self._files: list[IdFile] = []
        self._newest_day = 0
        self.first_day = 0  # of the log: nothing came before it

    def __len__(self) -> int:
        self.settle()
        return len(self._memory) + sum(file.count for file in self._files)

    def among(self, identities: Sequence[bytes]) -> dict[bytes, int]:
        """Which of many ids were accepted before, with the content of that copy.

        Those that were added since `settle` are left out; `content` has them.
        """
        if not identities:
            return {}
        ids = columns(b"".join(identity + b"\0\0\0\0" for identity in identities))
        return {
            identities[place]: content
            for places, found in self.find(ids)
            for place, content in zip(places.tolist(), found.tolist(), strict=True)
        }

    def find(self, ids: Ids) -> Iterator[tuple[Found, Ints]]:
        """Places in `ids` of those that were accepted before, and the contents of these copies."""
        bits = probes(ids.high)
        for places, low in self._memory.find(ids, bits):
            yield places, contents(low)
        for file in self._files:
            places, low = file.find(ids, bits)
            if len(places):
                yield places, contents(low)

    def content(self, identity: bytes) -> int | None:
        """The content of an id that was added since `settle`; None when it is none of these."""
        return self._now.get(identity)

    @property
    def added_singly(self) -> Mapping[bytes, int]:
        """The ids that `add` was given since `settle`, with their contents."""
        return self._now

    def add(self, identity: bytes, content: int, appended: int) -> None:
        """Remember an id accepted from a record appended at `appended` (epoch ms)."""
        self._now[identity] = content
        self._added[appended // DAY_MS].append(identity + content.to_bytes(4))

    def add_packed(self, packed: bytes, appended: int) -> None:
        """Remember many ids at once; `among` knows them from `settle` on."""
        if packed:
            self._added[appended // DAY_MS].append(packed)

    def advance(self, appended: int) -> None:
        """Let append time pass: ids older than the horizon are forgotten."""
        self.settle()
        day = appended // DAY_MS
        if day <= self._newest_day:
            return
        self.first_day = self.first_day or day
        self._newest_day = day
        for old in [d for d in self._memory.days if d < self.expired_before]:
            self._memory.pop(old)  # saved or not: what expires depends on the log alone
            self._fresh.pop(old, None)
        for file in [f for f in self._files if f.day < self.expired_before]:
            self._files.remove(file)
            file.path.unlink(missing_ok=True)

    def settle(self) -> None:
        """Let `among` know all that was added."""
        for day, packed in self._added.items():
            ids = b"".join(packed)
            self._fresh[day].append(ids)
            self._memory.add(day, columns(ids))
        self._added.clear()
        self._now.clear()

    @property
    def expired_before(self) -> int:
        """Days before this one are beyond the horizon."""
        return self._newest_day - HORIZON_DAYS

    def may_have_forgotten(self, appended: int) -> bool:
        """Whether an id accepted at that time (epoch ms), or later, may be beyond the horizon by now."""
        return max(appended // DAY_MS, self.first_day) < self.expired_before

    @property
    def forgotten_before(self) -> int:
        """The first instant (epoch ms) since when every id is still known; 0 when nothing is forgotten."""
        return self.expired_before * DAY_MS if self.first_day < self.expired_before else 0

    @property
    def newest_day(self) -> int:
        """The latest day of append time that was folded."""
        return self._newest_day

    def take_segments(self, first: int, upto: int) -> list[Segment]:
        """The ids added since the last call, packed by day, between the places `first` and `upto`."""
        self.settle()
        segments = [Segment(day, first, upto, b"".join(ids)) for day, ids in sorted(self._fresh.items())]
        self._fresh.clear()
        return segments

    def spill(self, until: int) -> None:
        """Move ids out of memory, oldest day first; all of them are durable up to the place `until`."""
        if self._folder is None or len(self._memory) <= self._memory_ids:
            return
        assert not self._fresh, "ids that were not taken are in no durable segment"
        self._join_days()
        for day in self._memory.days:
            if len(self._memory) <= self._memory_ids // 2:
                return
            self._write(day, self._memory.pop(day), until)

    def _join_days(self) -> None:
        """One file for each day that is over, as long as joining it takes no more than a moment."""
        by_day: defaultdict[int, list[IdFile]] = defaultdict(list)
        for file in self._files:
            by_day[file.day].append(file)
        for day, files in by_day.items():
            if day < self._newest_day and len(files) > 1 and sum(f.count for f in files) <= JOINED_IDS:
                until = max(file.until for file in files)
                joined = join_files(files[0].path.with_suffix(".joined"), files, until)
                for file in files:
                    self._files.remove(file)
                    file.path.unlink()
                self._files.append(joined.renamed(self._path(day, until)))

    def _path(self, day: int, until: int) -> Path:
        assert self._folder is not None, "only a set with a folder spills"
        return self._folder.joinpath(f"{day:06d}-{until:020d}.ids")

    def _write(self, day: int, ids: Ids, until: int) -> None:
        assert self._folder is not None, "only a set with a folder spills"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files.append(write_ids(self._path(day, until), day, until, ids))

    def restore(self, segments: Iterable[Segment], newest_day: int, first_day: int, upto: int) -> None:
        """Take back saved segments that are within the horizon, ordered by day; files are left as they are.

        A day's files count only when they hold exactly the ids of its segments up to their place.
        """
        self._newest_day, self.first_day = newest_day, first_day
        files = self._usable_files(upto)
        for day, found in groupby(segments, key=lambda segment: segment.day):
            if day >= self.expired_before:
                self._restore_day(list(found), files.pop(day, []))
        for file in (file for left in files.values() for file in left):
            file.path.unlink()

    def _restore_day(self, segments: list[Segment], files: list[IdFile]) -> None:
        until = max((file.until for file in files), default=0)
        covered = sum(len(s.ids) // ID_BYTES for s in segments if s.next <= until)
        if sum(file.count for file in files) != covered:
            for file in files:
                file.path.unlink()
            files, until = [], 0
        self._files += files
        waiting: list[Segment] = []
        size = 0
        for segment in segments:
            if segment.next <= until:
                continue
            waiting.append(segment)
            size += len(segment.ids)
            if size >= RESTORED_BYTES:
                self._take_back(waiting)
                waiting, size = [], 0
        if waiting:
            self._take_back(waiting)

    def _take_back(self, segments: Sequence[Segment]) -> None:
        """Take segments of one day; many at a time, because there may be one for each second."""
        self._memory.add(segments[0].day, columns(b"".join(segment.ids for segment in segments)))
        self.spill(segments[-1].next)

    def _usable_files(self, upto: int) -> dict[int, list[IdFile]]:
        """Files of this folder by day; those beyond a position belong to another history."""
        found: defaultdict[int, list[IdFile]] = defaultdict(list)
        if self._folder is None or not self._folder.is_dir():
            return found
        for path in sorted(self._folder.glob("*.ids")):
            file = IdFile(path)
            if file.until <= upto:
                found[file.day].append(file)
            else:
                path.unlink()
        return found
