"""The books read again from Kafka into a new database, by the sink's own code.

What the topics no longer hold cannot come back: events older than their retention exist only in the
archive. So a database that holds more than its topics is never dropped here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from faust.types import TP

from metering.errors import UserError
from metering.recovery.books_digest import BooksDigest, CloseState, books_digest, close_states
from metering.recovery.guards import refuse_while_running
from metering.recovery.history import Catalogs, Published, Unavailable, every_catalog
from metering.recovery.logs import read_chunks
from metering.settings import Settings
from metering.sink import Sink
from metering.sinks.client import LONG_ANSWER_SECONDS, connect
from metering.sinks.migrate import migrate
from metering.sinks.rows import of_catalog
from metering.sinks.writer import Origin
from metering.state.log_bounds import Bounds, LogBounds
from metering.topics import Names
from metering.transport import Batch

Tell = Callable[[str], None]
Ends = Mapping[TP, Bounds]


class Books(NamedTuple):
    """What a database says, and how far its sink had come."""

    digest: BooksDigest
    closes: list[CloseState]
    positions: dict[tuple[str, int], int]


@dataclass
class Restored:
    """The new books beside the old ones, if these still answered."""

    database: str
    new: Books
    old: Books | None
    lost: list[str]  # what the topics no longer hold

    @property
    def is_comparable(self) -> bool:
        """Whether both databases stand at the same positions; the old one may have gone on meanwhile."""
        return self.old is not None and self.old.positions == self.new.positions

    @property
    def problems(self) -> list[str]:
        """Closed periods that are not as they were closed, or differ from the old database."""
        found = [
            f"{s.period} of `{s.customer}`: {s.rows:,} charges, {s.amount:f}; closed with"
            f" {s.rows_closed:,}, {s.amount_closed:f}"
            for s in self.new.closes
            if not s.agrees
        ]
        here = {(s.customer, s.period): s for s in self.new.closes}
        before = self.old.closes if self.old is not None else []
        found += [
            f"{s.period} of `{s.customer}`: the old database has other charges"
            for s in before
            if here.get((s.customer, s.period)) != s
        ]
        if self.old is not None and self.is_comparable and self.old.digest != self.new.digest:
            found.append("the books differ from the old database, at the same positions")
        return found


async def rebuild_clickhouse(settings: Settings, target: str, *, drop: bool, tell: Tell) -> Restored:
    """Read every topic from its beginning to the end it has now into a database of its own."""
    into = settings.model_copy(update={"database": target})
    names, bounds = Names(settings), LogBounds(settings.brokers())
    if target == settings.database:
        await refuse_while_running(settings, names.sink_group, "sinks")
    old = _look_at_old(settings, tell)  # before the ends are asked: all that it knows is then on the topics
    try:
        ends = await _ends(settings, bounds)
    finally:
        await bounds.close()
    catalogs = await every_catalog(settings)  # also from a database that is about to go
    _make_room(into, ends, drop=drop)
    migrate(into.clickhouse(), target)
    await _fill(into, ends, catalogs, tell)
    return Restored(
        target, look(into), old, [_gone(tp, found) for tp, found in ends.items() if found.first > 0]
    )


async def _ends(settings: Settings, bounds: LogBounds) -> Ends:
    names = Names(settings)
    topics = (
        *(names.events, names.hourly, names.charges, names.rejected, names.progress),
        names.quota_events,
    )
    tps = [TP(topic, partition) for topic in topics for partition in range(settings.partitions)]
    tps.append(TP(names.quota_facts, 0))
    return {tp: await bounds.of(*tp) for tp in tps}


def _gone(tp: TP, found: Bounds) -> str:
    return f"{tp.topic}, partition {tp.partition}: records before {found.first:,} were deleted by the broker"


# -- the old database ----------------------------------------------------------------------------


def look(settings: Settings) -> Books:
    """What a database says."""
    progress = Names(settings).progress  # it moves each second
    url, database = settings.clickhouse(), settings.database
    with connect(url, database, answer_seconds=LONG_ANSWER_SECONDS) as client:
        rows = client.query("SELECT k_topic, k_partition, next_offset FROM sink_progress_current").result_rows
        positions = {(topic, int(p)): int(offset) for topic, p, offset in rows if topic != progress}
        return Books(books_digest(client), close_states(client), positions)


def _look_at_old(settings: Settings, tell: Tell) -> Books | None:
    try:
        return look(settings)
    except Exception as error:  # it may be gone, broken, or of another schema: that is why we are here
        tell(f"`{settings.database}` is not compared: {str(error).splitlines()[0][:200]}")
        return None


def _make_room(into: Settings, ends: Ends, *, drop: bool) -> None:
    """Drop a database of this name, when that was said and nothing is lost by it."""
    if not re.fullmatch(r"[A-Za-z_]\w*", into.database):
        return  # `migrate` says what is wrong with it
    with connect(into.clickhouse(), "default") as server:
        tables = _tables(server, into.database)
        if tables and not drop:
            raise UserError(
                f"there is already a database `{into.database}`",
                hint="choose another name with --into, or drop it with --yes",
            )
        for table in tables & {"events", "rejected"}:
            _refuse_loss(server, f"`{into.database}`.{table}", ends)
        server.command(f"DROP DATABASE IF EXISTS `{into.database}` SYNC")


def _tables(server: Any, database: str) -> set[str]:
    sql = "SELECT name FROM system.tables WHERE database = {name:String}"
    return {name for (name,) in server.query(sql, parameters={"name": database}).result_rows}


def _refuse_loss(server: Any, table: str, ends: Ends) -> None:
    """The archive may be all that is left of what Kafka has deleted."""
    sql = f"SELECT k_topic, k_partition, min(k_offset) FROM {table} GROUP BY k_topic, k_partition"
    for topic, partition, oldest in server.query(sql).result_rows:
        found = ends.get(TP(topic, int(partition)))
        if found is not None and int(oldest) < found.first:
            raise UserError(
                f"{table} holds records of {topic}, partition {partition}, that Kafka has deleted",
                hint="rebuild under another name with --into; the old database stays their archive",
            )


# -- the new one ---------------------------------------------------------------------------------


class _NoGroup:
    """Stands where Faust's consumer does: nobody is told how far we are."""

    async def commit_positions(self, offsets: Mapping[TP, int]) -> None:
        """Nothing."""

    async def seek_batches(self, offsets: Mapping[TP, int]) -> None:
        """A log that is read alone and in order has no gaps to seek back to."""
        raise AssertionError(f"a gap at {offsets}")


class _Refill(Sink):
    """The sink, except that its errors are answers and do not end the process."""

    def _die(self, event: str, error: Exception, **_: Any) -> NoReturn:
        hint = error.hint if isinstance(error, UserError) else "run the command again; it starts afresh"
        raise UserError(f"{event.replace('_', ' ')}: {error}", hint=hint) from error


async def _fill(into: Settings, ends: Ends, catalogs: dict[int, Published], tell: Tell) -> None:
    sink = _Refill(into)
    sink.consumer = _NoGroup()
    try:
        await _store_catalogs(sink, catalogs, tell)
        starts = await sink.load(set(ends))
        for tp, found in ends.items():
            log = read_chunks(into.brokers(), tp.topic, tp.partition, starts[tp], found.end)
            async for chunks in log:
                await sink.take(Batch(tp, chunks, None))
            await sink.flush_all()
            if tp.partition == into.partitions - 1:
                tell(f"{tp.topic} read")
    finally:
        await sink.bounds.close()
        await sink.writer.close()


async def _store_catalogs(sink: Sink, found: dict[int, Published], tell: Tell) -> None:
    """Every revision: a closed period is audited under the one that closed it."""
    catalogs = Catalogs(found)
    for revision in catalogs.revisions:
        origin = Origin(sink.names.catalog, 0, revision - 1, revision - 1)
        try:
            await sink.writer.write(of_catalog(catalogs.of(revision)), origin)
        except Unavailable as error:
            tell(f"{error}: periods that it closed cannot be audited")
