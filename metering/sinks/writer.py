"""Inserting rows so that a replay, a lost answer and a poison row are all harmless.

- A batch has the token `table:topic:partition:first-last`; with the same token it is stored once.
- What cannot be reached is tried again for as long as it takes; Kafka keeps what is not written.
- A row that ClickHouse refuses is found by bisection and put into `rejected`, with its origin.
- What only a person can mend stops the sink with a sentence that says how.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import structlog

from metering.errors import UserError
from metering.observe.families import FAILURES, FLUSH, ROWS, timed
from metering.records import version
from metering.sinks.blocks import Block, Held, by_table, joined
from metering.sinks.client import Remedy, connect_async, remedy_for
from metering.sinks.exact import check_exact
from metering.sinks.rows import COLUMNS, TableRow

log = structlog.get_logger()

Work = Callable[[], Awaitable[None]]
# No row replaces another of its insert, so that ClickHouse need not look for one: half the cost of a row.
_ALL_DIFFERENT = frozenset({"events"})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Origin(NamedTuple):
    """Where the rows of a batch come from: a topic's partition, offsets `first` to `last`."""

    topic: str
    partition: int
    first: int
    last: int

    def token(self, table: str) -> str:
        """The insert token of this batch for one table."""
        return f"{table}:{self.topic}:{self.partition}:{self.first}-{self.last}"


class Stretch(NamedTuple):
    """Rows of any tables that come from one stretch of the log."""

    origin: Origin
    rows: Sequence[TableRow | Block]


class Piece(NamedTuple):
    """Rows of one table that come from one stretch of the log."""

    origin: Origin
    rows: Held


class Writer:
    """Writes batches to the books of one database."""

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._database = database
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._types: dict[str, list[Any]] = {}
        self._down_since: float | None = None

    @property
    def is_away(self) -> bool:
        """Whether ClickHouse does not answer at the moment."""
        return self._down_since is not None

    async def write(self, rows: Sequence[TableRow | Block], origin: Origin) -> None:
        """Store rows of any tables; returns when ClickHouse has acknowledged all of them."""
        await self.store([Stretch(origin, rows)])

    @timed(FLUSH)
    async def store(self, stretches: Iterable[Stretch]) -> None:
        """Store rows of several stretches, one insert a table, the tables side by side; as `write`."""
        tables: defaultdict[str, list[Piece]] = defaultdict(list)
        for origin, rows in sorted(stretches, key=lambda found: found.origin):
            for table, parts in by_table(rows).items():
                tables[table] += [Piece(origin, part) for part in parts]
        await side_by_side(*(partial(self._store_table, *found) for found in tables.items()))

    async def _store_table(self, table: str, pieces: list[Piece]) -> None:
        await self._store(table, pieces, token_of(table, [piece.origin for piece in pieces]))
        ROWS.labels(table).inc(sum(len(piece.rows) for piece in pieces))

    async def query(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, tried again until the database answers."""

        async def ask() -> list[tuple[Any, ...]]:
            answer = await self._client.query(sql, parameters=parameters)
            return list(answer.result_rows)

        found: list[tuple[Any, ...]] = await self._insist(ask)
        return found

    async def close(self) -> None:
        """Release the connection."""
        if self._client is not None:
            await self._client.close()

    async def _store(self, table: str, pieces: list[Piece], token: str) -> None:
        try:
            block = joined(table, [piece.rows for piece in pieces])
            check_exact(block)
            await self._insist(lambda: self._insert(block, token))
        except Exception as error:
            if remedy_for(error) is not Remedy.POISON:
                raise
            halves = _halves(pieces)
            if halves is None:
                await self._put_aside(table, pieces[0], error)
                return
            for number, half in enumerate(halves):
                await self._store(table, half, f"{token}:{number}")

    async def _insert(self, block: Block, token: str) -> None:
        table = block.table
        if table not in self._types:
            context = await self._client.create_insert_context(table, COLUMNS[table])
            self._types[table] = context.column_types
        await self._client.insert(
            table,
            block,
            column_names=COLUMNS[table],
            column_types=self._types[table],
            settings={
                "insert_deduplication_token": token,
                "async_insert": 0,
                "insert_deduplicate": 1,
                "max_partitions_per_insert_block": 0,  # a fetch may hold events of many months
                "optimize_on_insert": int(table not in _ALL_DIFFERENT),
            },
        )

    async def _put_aside(self, table: str, piece: Piece, error: Exception) -> None:
        origin, (row,) = piece
        log.error("row_refused", table=table, **origin._asdict(), error=str(error))
        letter = (
            origin.topic,
            origin.partition,
            origin.first,
            -2,  # not an event of an envelope: a row of ours
            datetime.now(UTC),
            "sink_refused",
            f"ClickHouse refused this row for table {table}: {str(error)[:500]}",
            "",
            "",
            table,
            repr(row).encode(),
            version(1, origin.first),
        )
        token = f"{origin.token('rejected')}:{sha256(repr(row).encode()).hexdigest()[:16]}"
        block = joined("rejected", [[letter]])
        await self._insist(lambda: self._insert(block, token))

    async def _insist(self, work: Any) -> Any:
        """Do it until it is done; only errors that waiting cannot mend come out."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with self._connecting:
                    if self._client is None:
                        self._client = await connect_async(self._url, self._database)
                result = await work()
                self._recovered()
                return result
            except UserError as error:
                if "does not answer" not in str(error):
                    raise
                self._still_down(error, pause)
            except Exception as error:
                remedy = remedy_for(error)
                FAILURES.labels(remedy.name.lower()).inc()
                if remedy is Remedy.POISON:
                    raise
                if remedy is Remedy.STOP:
                    raise UserError(
                        f"ClickHouse refused a statement: {str(error)[:300]}",
                        hint="is the schema current (`metering migrate`), and is there room?",
                    ) from error
                self._still_down(error, pause)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _still_down(self, error: Exception, pause: float) -> None:
        now = time.monotonic()
        self._down_since = self._down_since or now
        log.warning(
            "clickhouse_unreachable",
            seconds=round(now - self._down_since, 1),
            error=str(error).splitlines()[0][:200],
            retry_in_seconds=round(pause, 1),
            note="nothing is lost: Kafka keeps what is not written",
        )

    def _recovered(self) -> None:
        if self._down_since is not None:
            log.info("clickhouse_back", seconds=round(time.monotonic() - self._down_since, 1))
            self._down_since = None


def token_of(table: str, origins: Sequence[Origin]) -> str:
    """The insert token of some stretches of the log for one table: nothing but their offsets is in it."""
    tokens = dict.fromkeys(origin.token(table) for origin in origins)
    if len(tokens) == 1:
        return next(iter(tokens))
    return f"{table}:{len(tokens)}:{sha256(chr(10).join(tokens).encode()).hexdigest()}"


def _halves(pieces: list[Piece]) -> tuple[list[Piece], list[Piece]] | None:
    """Two halves to look for a poison row in; None when there is only one row."""
    if len(pieces) > 1:
        middle = len(pieces) // 2
        return pieces[:middle], pieces[middle:]
    origin, rows = pieces[0]
    if len(rows) == 1:
        return None
    middle = len(rows) // 2
    return [Piece(origin, rows[:middle])], [Piece(origin, rows[middle:])]


async def side_by_side(*works: Work) -> None:
    """Do things side by side; the first error comes out when none of them runs any more."""

    async def caught(work: Work) -> Exception | None:
        try:
            await work()
        except Exception as error:
            return error
        return None

    for error in await asyncio.gather(*map(caught, works)):
        if error is not None:
            raise error
