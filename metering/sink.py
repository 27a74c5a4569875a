"""The sink process: archives usage events and writes our results to ClickHouse.

A batch is stored, then its position, both in ClickHouse: a stopped database delays rows and loses
none, and a database that was lost has no positions, so everything is read again.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import msgspec
import structlog
from faust.types import TP

from metering.catalog.reader import follow
from metering.ending import die
from metering.errors import UserError
from metering.observe.families import LETTERS
from metering.quota.wire import decode_event, decode_fact
from metering.records import decode
from metering.settings import Settings
from metering.sinks.archive import archived
from metering.sinks.blocks import Block
from metering.sinks.quota_rows import event_row, fact_row
from metering.sinks.rows import COLUMNS, TableRow, of_catalog, of_record
from metering.sinks.writer import Origin, Stretch, Writer
from metering.state.fold import Chunk
from metering.state.log_bounds import LogBounds
from metering.topics import Names
from metering.transport import Batch

log = structlog.get_logger()

SINK = "clickhouse"
DECODED_TOGETHER = 2_000  # values; fewer cost more each, more keep others waiting
_REASON = COLUMNS["rejected"].index("reason")
Make = Callable[[bytes, int, int], TableRow | None]  # from a value, its offset and its append time
Stored = Callable[[Sequence[TableRow | Block], Origin, float], None]  # rows, their origin, and seconds


class Pending:
    """What was read of one partition and is not stored yet, and the offsets that it covers."""

    def __init__(self, first: int, make: Callable[[Sequence[Chunk]], Sequence[TableRow | Block]]) -> None:
        self.first = self.next = first  # up to where it is stored, and up to where it was read
        self.count = 0  # about how many rows no insert has taken yet
        self.since = self._taken = time.time_ns() / 1e9  # for a person who looks at it
        self._make = make
        self._rows: list[TableRow | Block] = []
        self._chunks: list[Chunk] = []  # of no rows yet: small fetches are decoded together
        self._values = 0  # in these chunks

    def read(self, chunks: Sequence[Chunk]) -> None:
        """Keep the next chunks of the log."""
        if self.next == self.first:
            self.since = time.time_ns() / 1e9
        self._chunks += chunks
        self.next = chunks[-1].next
        values = sum(len(chunk.values) for chunk in chunks)
        self._values += values
        self.count += values
        if self._values >= DECODED_TOGETHER:
            self._decode()

    def _decode(self) -> None:
        if not self._chunks:
            return
        rows = self._make(self._chunks)
        self.count += sum(len(row) if isinstance(row, Block) else 1 for row in rows) - self._values
        self._rows += rows
        self._chunks, self._values = [], 0

    def take(self) -> Sequence[TableRow | Block]:
        """Its rows, for an insert."""
        self._decode()
        rows, self._rows, self.count = self._rows, [], 0
        self._taken = time.time_ns() / 1e9
        return rows

    def stored(self, upto: int) -> None:
        """What was taken is stored; what was read since then still waits."""
        self.first, self.since = upto, self._taken


class Lane:
    """Topics whose rows go into the same inserts, one at a time, while the next rows are read."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.storing: asyncio.Task[None] | None = None


class Sink:
    """The partitions of the sink process; `consumer` is set once Faust has made it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = Names(settings)
        self.writer = Writer(settings.clickhouse(), settings.database)
        self.bounds = LogBounds(settings.brokers())
        self.consumer: Any = None
        self.on_stored: Stored | None = None
        self._pending: dict[TP, Pending] = {}
        self._makers = {self.names.quota_events: _of_quota_event, self.names.quota_facts: _of_fact}
        self._archive, self._results = Lane(), Lane()
        self._last_seek: dict[TP, float] = {}

    @property
    def pending(self) -> Mapping[TP, Pending]:
        """What is read and not stored yet, by partition."""
        return self._pending

    async def load(self, tps: set[TP]) -> Mapping[TP, int]:
        """Where ClickHouse says that each partition continues; see `transport.Positions`."""
        try:
            found = await self.writer.query(
                "SELECT k_topic, k_partition, max(next_offset) FROM sink_progress"
                " WHERE sink = {sink:String} GROUP BY k_topic, k_partition",
                sink=SINK,
            )
        except Exception as error:
            self._die("positions_not_loaded", error)
        known = {TP(topic, partition): int(offset) for topic, partition, offset in found}
        offsets = {tp: known.get(tp) for tp in tps}
        for tp, offset in offsets.items():
            first, end = await self.bounds.of(*tp)
            if offset is not None and offset > end:
                self._die("topic_created_anew", _created_anew(tp, offset, end))
            self._pending[tp] = Pending(first if offset is None else offset, partial(self._rows, tp))
        return {tp: pending.next for tp, pending in self._pending.items() if tp in tps}

    async def release(self, tps: set[TP]) -> None:
        """Forget revoked partitions: what is not stored is read again by the next owner."""
        for tp in tps:
            self._pending.pop(tp, None)

    async def take(self, batch: Batch) -> None:
        """Turn a batch into rows; store them when there are many."""
        try:
            await self._take(batch)
        except Exception as error:
            self._die("batch_failed", error, topic=batch.tp.topic, partition=batch.tp.partition)

    async def _take(self, batch: Batch) -> None:
        pending = self._pending.get(batch.tp)
        if pending is None:
            return
        upto, fresh, has_gap = pending.next, [], False
        for chunk in batch.chunks():
            if chunk.first > upto:
                has_gap = True
                break
            if chunk.next > upto:
                fresh.append(chunk.after(upto))
                upto = chunk.next
        if fresh:
            pending.read(fresh)
            await self._make_room(self._lane(batch.tp))
        if has_gap:
            await self._seek_back(batch.tp, pending)

    def _lane(self, tp: TP) -> Lane:
        return self._archive if tp.topic == self.names.events else self._results

    def _of(self, lane: Lane) -> list[tuple[TP, Pending]]:
        return [(tp, pending) for tp, pending in self._pending.items() if self._lane(tp) is lane]

    async def _make_room(self, lane: Lane) -> None:
        """Begin to store when a lane holds many rows; wait only for what is being stored already."""
        if sum(pending.count for _, pending in self._of(lane)) >= self.settings.sink_batch_rows:
            if lane.storing is not None:
                await lane.storing
            lane.storing = asyncio.create_task(self._store(lane))
        await asyncio.sleep(0)  # others have their turn

    async def _seek_back(self, tp: TP, pending: Pending) -> None:
        now, offset = time.monotonic(), pending.next
        if now - self._last_seek.get(tp, 0.0) < 1.0:
            return  # batches that were under way already
        self._last_seek[tp] = now
        earliest = (await self.bounds.of(*tp)).first
        if earliest > offset:
            # Older records are gone for good; what is left must still be stored.
            log.error("records_deleted_before_archive", topic=tp.topic, first=offset, last=earliest)
            pending.next = earliest
            return
        log.warning("gap_seek_back", topic=tp.topic, partition=tp.partition, offset=offset)
        await self.consumer.seek_batches({tp: offset})

    def _rows(self, tp: TP, chunks: Sequence[Chunk]) -> Sequence[TableRow | Block]:
        if tp.topic == self.names.events:
            block = archived(chunks, tp.topic, tp.partition)
            return [block] if len(block) else []
        make = self._makers.get(tp.topic, _of_ours)
        found = [
            _row(tp, make, value, offset, chunk.appended)
            for chunk in chunks
            for offset, value in zip(chunk.offsets, chunk.values, strict=True)
            if value
        ]
        return [row for row in found if row is not None]

    async def flush_results(self) -> None:
        """Store the results that wait."""
        await self._flush(self._results)

    async def flush_all(self) -> None:
        """Store everything that waits, results first."""
        await self._flush(self._results)
        await self._flush(self._archive)

    async def _flush(self, lane: Lane) -> None:
        if lane.storing is not None:
            await lane.storing
        await self._store(lane)

    async def _store(self, lane: Lane) -> None:
        try:
            async with lane.lock:
                held = [(tp, pending) for tp, pending in self._of(lane) if pending.next > pending.first]
                if held:
                    await self._store_in_order(held)
        except Exception as error:
            self._die("flush_failed", error)

    async def _store_in_order(self, held: Sequence[tuple[TP, Pending]]) -> None:
        """Store rows of some partitions, then their positions, then tell the group."""
        stretches = [Stretch(Origin(*tp, p.first, p.next - 1), p.take()) for tp, p in held]
        began = time.monotonic()
        await self.writer.store(stretches)
        self._count_stored(stretches, time.monotonic() - began)
        await self.writer.store(Stretch(origin, [_position(origin)]) for origin, _ in stretches)
        upto = {tp: origin.last + 1 for (tp, _), (origin, _) in zip(held, stretches, strict=True)}
        for tp, pending in held:
            pending.stored(upto[tp])
        await self.consumer.commit_positions(upto)

    def _count_stored(self, stretches: Sequence[Stretch], seconds: float) -> None:
        for origin, rows in stretches:
            if self.on_stored is not None:
                self.on_stored(rows, origin, seconds)
            count_letters(row.row for row in rows if isinstance(row, TableRow) and row.table == "rejected")

    async def follow_catalog(self) -> None:
        """Store each catalog revision: a closed period is audited under the one that closed it."""
        async for catalog in follow(self.settings.brokers(), self.names.catalog, 0, every=True):
            try:
                offset = catalog.revision - 1
                origin = Origin(self.names.catalog, 0, offset, offset)
                await self.writer.write(of_catalog(catalog), origin)
            except Exception as error:
                self._die("catalog_not_stored", error)

    def _die(self, event: str, error: Exception, **facts: Any) -> NoReturn:
        die(event, error, **facts)


def _position(origin: Origin) -> TableRow:
    return TableRow("sink_progress", (SINK, origin.topic, origin.partition, origin.last + 1))


def _created_anew(tp: TP, offset: int, end: int) -> UserError:
    return UserError(
        f"{tp.topic}, partition {tp.partition}: ClickHouse continues at {offset}, the log ends at {end}",
        hint="the topic was created anew: use another METERING_DATABASE for it",
    )


def count_letters(rows: Iterable[tuple[Any, ...]]) -> None:
    """Count dead letters by their reason, for the metrics."""
    for row in rows:
        LETTERS.labels(row[_REASON]).inc()


def _of_ours(value: bytes, _offset: int, _appended: int) -> TableRow | None:
    return of_record(decode(value))


def _of_quota_event(value: bytes, _offset: int, _appended: int) -> TableRow | None:
    return TableRow(*event_row(decode_event(value)))


def _of_fact(value: bytes, offset: int, appended: int) -> TableRow | None:
    return TableRow(*fact_row(offset, appended, decode_fact(value)))


def _row(tp: TP, make: Make, value: bytes, offset: int, appended: int) -> TableRow | None:
    try:
        return make(value, offset, appended)
    except msgspec.MsgspecError as error:
        raise UserError(
            f"{tp.topic}, partition {tp.partition}, offset {offset}: the record is not ours: {error}",
            hint="who else writes to this topic? Only the metering worker may",
        ) from error
