"""A partition's state folded again from the beginning of its log, as it was folded the first time.

A meter fold depends on which catalog was in force where: `history.Schedule` says it. A rate fold depends
on where periods were closed and under which revision: their close records say it. So a period that is
closed stays as it was closed, whatever the catalog says today.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from metering.records import PeriodClose, Watermark, decode, encode, version
from metering.recovery.evidence import Stage
from metering.recovery.history import Catalogs, Schedule
from metering.recovery.logs import before
from metering.state.fold import Changes, Chunk, Entry, Saved, Segment
from metering.state.meter_fold import MeterFold
from metering.state.rate_fold import RateFold

Publish = Callable[[Changes], Awaitable[None]]
Place = tuple[int, int]  # a position, and the catalog revision of a rate fold's state; 0 for a meter fold
_CLOSE = b'"kind":"close"'


@dataclass
class Refolded:
    """States by place, whether the log had lost records to compaction, and the closes made again."""

    saved: dict[Place, Saved] = field(default_factory=dict)
    is_compacted: bool = False
    closes: list[PeriodClose] = field(default_factory=list)


class _Copy:
    """What a durable copy of a fold would hold."""

    def __init__(self, fold: MeterFold | RateFold, publish: Publish | None) -> None:
        self._fold = fold
        self._publish = publish
        self._entries: dict[bytes, Entry] = {}
        self._segments: list[Segment] = []
        self._last: Changes | None = None
        self.result = Refolded()

    async def checkpoint(self) -> None:
        """Take over what has changed; publish its outputs when they are wanted."""
        changes = self._fold.changes()
        if changes is None:
            return
        for entry in changes.entries:
            if entry.value is None:
                self._entries.pop(entry.key, None)
            else:
                self._entries[entry.key] = entry
        self._segments += changes.segments
        self._last = changes
        if isinstance(self._fold, MeterFold):
            self._fold.spill()
        else:
            self.result.closes += _closes(changes)
        if self._publish is not None:
            await self._publish(changes)

    async def stop_at(self, offset: int, revision: int = 0) -> None:
        """Keep the state at a position."""
        await self.checkpoint()
        last = self._last
        assert last is not None, "a position without a record before it"
        assert last.offset == offset, f"at {last.offset} instead of {offset}"
        segments = sorted(self._segments, key=lambda segment: (segment.day, segment.first))
        saved = Saved(offset, last.header, list(self._entries.values()), segments)
        self.result.saved[offset, revision] = saved


def _closes(changes: Changes) -> Iterator[PeriodClose]:
    for output in changes.outputs:
        record = decode(output.value) if output.value and _CLOSE in output.value else None
        if isinstance(record, PeriodClose):
            yield record


async def refold_meter(
    fold: MeterFold,
    log: AsyncIterator[list[Chunk]],
    positions: Iterable[Place],
    schedule: Schedule,
    catalogs: Catalogs,
    publish: Publish | None = None,
) -> Refolded:
    """Fold `usage.events` up to each of some positions."""
    copy, stops = _Copy(fold, publish), sorted({offset for offset, _ in positions})
    async for chunks in log:
        for piece in _cut(chunks, stops):
            for part, revision in _by_revision(piece, schedule):
                fold.fold([part], catalogs.of(revision))
            if fold.is_heavy:
                await copy.checkpoint()
            if fold.offset in stops:
                await copy.stop_at(fold.offset)
    return copy.result


def _by_revision(chunk: Chunk, schedule: Schedule) -> Iterator[tuple[Chunk, int]]:
    """The parts of a chunk that were folded under one revision each."""
    rest, revision = chunk, schedule.at(chunk.first, chunk.appended)
    if schedule.at(chunk.next - 1, chunk.appended) != revision:
        for offset in chunk.offsets[1:]:
            following = schedule.at(offset, chunk.appended)
            if following != revision:
                yield before(rest, offset), revision
                rest, revision = rest.after(offset), following
    yield rest, revision


class _Stop(NamedTuple):
    """Where a stage ends: at a checkpoint that closed periods, or at a position that is wanted."""

    offset: int
    revision: int
    is_wanted: bool
    watermark: int


async def refold_rate(
    fold: RateFold,
    log: AsyncIterator[list[Chunk]],
    positions: Iterable[Place],
    stages: Iterable[Stage],
    catalogs: Catalogs,
    publish: Publish | None = None,
) -> Refolded:
    """Fold `usage.hourly` up to each of some positions, each with the revision that it was rated under."""
    wanted = [_Stop(offset, revision, True, 0) for offset, revision in set(positions)]
    last = max((stop.offset for stop in wanted), default=0)
    closing = [_Stop(s.offset, s.revision, False, s.watermark) for s in stages if s.offset <= last]
    plan, copy = sorted(wanted + closing), _Copy(fold, publish)
    async for chunks in log:
        copy.result.is_compacted |= any(len(c.offsets) < c.next - c.first for c in chunks)
        for piece in _cut(chunks, [stop.offset for stop in plan]):
            if not plan:
                return copy.result
            fold.fold([piece], catalogs.of(plan[0].revision))
            while plan and plan[0].offset == fold.offset:
                await _end_stage(fold, copy, plan.pop(0), catalogs)
    return copy.result


async def _end_stage(fold: RateFold, copy: _Copy, stop: _Stop, catalogs: Catalogs) -> None:
    """End a stage as its checkpoint did; the watermark that closed it may be compacted away."""
    catalog = catalogs.of(stop.revision)
    fold.adopt(catalog)
    if stop.watermark >= fold.watermark:
        fold.fold([_time_passes(fold, stop)], catalog)
    await copy.checkpoint()
    if stop.is_wanted:
        await copy.stop_at(stop.offset, stop.revision)


def _time_passes(fold: RateFold, stop: _Stop) -> Chunk:
    stamp = str(version(fold.rules.epoch, 0))
    record = encode(Watermark(fold.rules.partition, stop.watermark, stamp))
    return Chunk(stop.offset, stop.offset, (stop.offset - 1,), (record,), 0)


def _cut(chunks: Iterable[Chunk], stops: Sequence[int]) -> Iterator[Chunk]:
    """Chunks that end wherever one of the stops lies within one."""
    for chunk in chunks:
        rest = chunk
        for stop in stops:
            if rest.first < stop < rest.next:
                yield before(rest, stop)
                rest = rest.after(stop)
        yield rest
