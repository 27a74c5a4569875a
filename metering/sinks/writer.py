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
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from hashlib import sha256
from typing import Any, NamedTuple

import structlog

from metering.errors import UserError
from metering.observe.families import FAILURES, FLUSH, ROWS, timed
from metering.records import version
from metering.sinks.client import Remedy, connect_async, remedy_for
from metering.sinks.rows import COLUMNS, Row, TableRow

log = structlog.get_logger()

_WIDE = Context(prec=80)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
# Digits behind the point that a column holds, where it is not 6.
_DECIMALS = {"rounding": 36, "effect_amounts": 36, "slice_unit_prices": 12, "slice_amounts": 18}


class Origin(NamedTuple):
    """Where the rows of a batch come from: a topic's partition, offsets `first` to `last`."""

    topic: str
    partition: int
    first: int
    last: int

    def token(self, table: str) -> str:
        """The insert token of this batch for one table."""
        return f"{table}:{self.topic}:{self.partition}:{self.first}-{self.last}"


class Writer:
    """Writes batches to the books of one database."""

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._database = database
        self._client: Any = None
        self._types: dict[str, list[Any]] = {}
        self._down_since: float | None = None

    @property
    def is_away(self) -> bool:
        """Whether ClickHouse does not answer at the moment."""
        return self._down_since is not None

    @timed(FLUSH)
    async def write(self, rows: Sequence[TableRow], origin: Origin) -> None:
        """Store rows of any tables; returns when ClickHouse has acknowledged all of them."""
        tables: defaultdict[str, list[Row]] = defaultdict(list)
        for table, row in rows:
            tables[table].append(row)
        for table, batch in tables.items():
            await self._store(table, batch, origin, origin.token(table))
            ROWS.labels(table).inc(len(batch))

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

    async def _store(self, table: str, rows: list[Row], origin: Origin, token: str) -> None:
        try:
            for row in rows:
                _check_exact(table, row)
            await self._insist(lambda: self._insert(table, rows, token))
        except Exception as error:
            if remedy_for(error) is not Remedy.POISON:
                raise
            if len(rows) == 1:
                await self._put_aside(table, rows[0], origin, error)
                return
            middle = len(rows) // 2
            await self._store(table, rows[:middle], origin, f"{token}:0")
            await self._store(table, rows[middle:], origin, f"{token}:1")

    async def _insert(self, table: str, rows: list[Row], token: str) -> None:
        if table not in self._types:
            context = await self._client.create_insert_context(table, COLUMNS[table])
            self._types[table] = context.column_types
        await self._client.insert(
            table,
            rows,
            column_names=COLUMNS[table],
            column_types=self._types[table],
            settings={
                "insert_deduplication_token": token,
                "async_insert": 0,
                "insert_deduplicate": 1,
            },
        )

    async def _put_aside(self, table: str, row: Row, origin: Origin, error: Exception) -> None:
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
        await self._insist(lambda: self._insert("rejected", [letter], token))

    async def _insist(self, work: Any) -> Any:
        """Do it until it is done; only errors that waiting cannot mend come out."""
        pause = _FIRST_PAUSE
        while True:
            try:
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


def decimals_of(column: str) -> int:
    """Digits behind the point that a column of Decimals holds."""
    return _DECIMALS.get(column, 6)


def _check_exact(table: str, row: Row) -> None:
    """ClickHouse cuts digits that a column has no room for; here that is an error."""
    for column, value in zip(COLUMNS[table], row, strict=True):
        for part in value if isinstance(value, list) else (value,):
            if isinstance(part, float):
                raise ValueError(f"{table}.{column}: {part!r} is a float")
            if isinstance(part, Decimal) and not _fits(part, decimals_of(column)):
                raise ValueError(f"{table}.{column}: {part} has more decimals than the column")


def _fits(value: Decimal, decimals: int) -> bool:
    return value.is_finite() and value == value.quantize(Decimal(1).scaleb(-decimals), context=_WIDE)
