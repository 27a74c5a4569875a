"""The sink process: archives usage events and writes our results to ClickHouse.

A batch is stored, then its position, both in ClickHouse: a stopped database delays rows and loses
none, and a database that was lost has no positions, so everything is read again.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec
import structlog
from faust.types import TP

from metering.catalog.reader import follow
from metering.ending import die
from metering.errors import UserError
from metering.events import TICK_TYPE, UsageEvent, decode_values
from metering.observe.families import LETTERS
from metering.quota.wire import decode_event, decode_fact
from metering.records import decode
from metering.settings import Settings
from metering.sinks.quota_rows import event_row, fact_row
from metering.sinks.rows import COLUMNS, TableRow, of_catalog, of_event, of_record
from metering.sinks.writer import Origin, Writer
from metering.state.fold import Chunk
from metering.state.log_bounds import LogBounds
from metering.topics import Names
from metering.transport import Batch

log = structlog.get_logger()

SINK = "clickhouse"
_REASON = COLUMNS["rejected"].index("reason")
Make = Callable[[bytes, int, int], TableRow | None]  # from a value, its offset and its append time


class Pending:
    """Rows of one partition that are not stored yet, and the offsets that they cover."""

    def __init__(self, first: int) -> None:
        self.first = self.next = first
        self.rows: list[TableRow] = []
        self.since = time.time_ns() / 1e9  # for a person who looks at it


class Sink:
    """The partitions of the sink process; `consumer` is set once Faust has made it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = Names(settings)
        self.writer = Writer(settings.clickhouse(), settings.database)
        self.bounds = LogBounds(settings.brokers())
        self.consumer: Any = None
        self.on_stored: Callable[[Sequence[TableRow], Origin, float], None] | None = None  # and seconds
        self._pending: dict[TP, Pending] = {}
        self._makers = {self.names.quota_events: _of_quota_event, self.names.quota_facts: _of_fact}
        self._lock = asyncio.Lock()
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
            self._pending[tp] = Pending(first if offset is None else offset)
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
        for chunk in batch.chunks:
            pending = self._pending.get(batch.tp)
            if pending is None or chunk.next <= pending.next:
                continue
            if chunk.first > pending.next:
                await self._seek_back(batch.tp, pending.next)
                return
            fresh = chunk.after(pending.next)
            pending.rows.extend(self._rows(batch.tp, fresh))
            pending.next = chunk.next
            if len(pending.rows) >= self.settings.sink_batch_rows:
                await self.flush(batch.tp)

    async def _seek_back(self, tp: TP, offset: int) -> None:
        now = time.monotonic()
        if now - self._last_seek.get(tp, 0.0) < 1.0:
            return  # batches that were under way already
        self._last_seek[tp] = now
        earliest = (await self.bounds.of(*tp)).first
        if earliest > offset:
            # Older records are gone for good; what is left must still be stored.
            log.error("records_deleted_before_archive", topic=tp.topic, first=offset, last=earliest)
            self._pending[tp] = Pending(earliest)
            return
        log.warning("gap_seek_back", topic=tp.topic, partition=tp.partition, offset=offset)
        await self.consumer.seek_batches({tp: offset})

    def _rows(self, tp: TP, chunk: Chunk) -> list[TableRow]:
        if tp.topic == self.names.events:
            return [
                of_event(item.event, chunk, item.value, item.place, tp.topic, tp.partition)
                for item in decode_values(chunk.values)
                if isinstance(item.event, UsageEvent) and item.event.type != TICK_TYPE
            ]
        make = self._makers.get(tp.topic, _of_ours)
        placed = zip(chunk.offsets, chunk.values, strict=True)
        found = [_row(tp, make, value, offset, chunk.appended) for offset, value in placed if value]
        return [row for row in found if row is not None]

    async def flush_all(self) -> None:
        """Store what has waited long enough."""
        try:
            for tp in list(self._pending):
                await self.flush(tp)
        except Exception as error:
            self._die("flush_failed", error)

    async def flush(self, tp: TP) -> None:
        """Store one partition's rows, then its position, then tell the group."""
        async with self._lock:
            pending = self._pending.get(tp)
            if pending is None or pending.next == pending.first:
                return
            following = Pending(pending.next)
            rows, first, upto = pending.rows, pending.first, pending.next
            self._pending[tp] = following
            origin = Origin(tp.topic, tp.partition, first, upto - 1)
            began = time.monotonic()
            await self.writer.write(rows, origin)
            if self.on_stored is not None:
                self.on_stored(rows, origin, time.monotonic() - began)
            count_letters(row for table, row in rows if table == "rejected")
            position = TableRow("sink_progress", (SINK, tp.topic, tp.partition, upto))
            await self.writer.write([position], origin)
            await self.consumer.commit_positions({tp: upto})

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
            f"{tp.topic}, partition {tp.partition} holds a record that is not ours: {error}",
            hint="who else writes to this topic? Only the metering worker may",
        ) from error
