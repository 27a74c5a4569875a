"""A ClickHouse in memory: it reads the real migrations, replaces by key and version, and loses answers."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clickhouse_connect.driver.exceptions import DatabaseError

import metering.sinks
from metering.sinks.rows import COLUMNS, Row
from tests.simulation.chance import Chance
from tests.simulation.clients import alive, hop

MIGRATIONS = Path(metering.sinks.__file__).parent / "migrations"
NO_SUCH_TABLE = 60
_TABLE = re.compile(
    r"CREATE TABLE IF NOT EXISTS (?P<name>\w+) .*?ENGINE = ReplacingMergeTree(?:\((?P<version>\w+)\))?"
    r".*?ORDER BY \((?P<key>.*?)\)\nSETTINGS (?P<settings>.*?);",
    re.DOTALL,
)


class Schema(NamedTuple):
    """What a migration says of a table."""

    key: tuple[int, ...]  # columns
    version: int | None  # column; the latest insert wins where there is none
    is_synced: bool  # an acknowledged insert survives a crash


def schemas() -> dict[str, Schema]:
    """Every table of the books."""
    text = "\n".join(file.read_text() for file in sorted(MIGRATIONS.glob("*.sql")))
    found = {}
    for match in _TABLE.finditer(text):
        if match["name"] not in COLUMNS:
            continue  # billing writes it for dashboards; the sink does not
        columns = COLUMNS[match["name"]]
        key = tuple(dict.fromkeys(c for c in re.findall(r"\w+", match["key"]) if c in columns))
        version = columns.index(match["version"]) if match["version"] else None
        synced = "fsync_after_insert = 1" in match["settings"]
        found[match["name"]] = Schema(tuple(columns.index(c) for c in key), version, synced)
    return found


SCHEMAS = schemas()


class Table:
    """The current rows of one table, as `FINAL` shows them, and how to take back what is not synced."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rows: dict[tuple[Any, ...], Row] = {}
        self.tokens: set[str] = set()
        self.unsynced: list[tuple[str, dict[tuple[Any, ...], Row | None]]] = []

    def insert(self, rows: Sequence[Row], token: str) -> None:
        """Store a block once; a row gives way to one of a higher version."""
        if token in self.tokens:
            return
        self.tokens.add(token)
        before: dict[tuple[Any, ...], Row | None] = {}
        for row in rows:
            place = self.place_of(row)
            held = self.rows.get(place)
            if held is None or self.is_newer(row, held):
                before.setdefault(place, held)
                self.rows[place] = row
        if not self.schema.is_synced:
            self.unsynced.append((token, before))

    def place_of(self, row: Row) -> tuple[Any, ...]:
        """The key by which rows replace each other."""
        return tuple(row[column] for column in self.schema.key)

    def is_newer(self, row: Row, held: Row) -> bool:
        """Whether a row takes the place of the one held."""
        version = self.schema.version
        return version is None or bool(row[version] >= held[version])

    def crash(self, lost: int) -> None:
        """Lose the latest inserts that were acknowledged before they were on disk."""
        for _ in range(lost):
            token, before = self.unsynced.pop()
            self.tokens.discard(token)
            for place, row in before.items():
                if row is None:
                    self.rows.pop(place, None)
                else:
                    self.rows[place] = row
        self.unsynced.clear()


class Answer(NamedTuple):
    """The result of a query."""

    result_rows: list[tuple[Any, ...]]


class Books:
    """The database: its tables, until it is lost."""

    def __init__(self, chance: Chance) -> None:
        self.tables: dict[str, Table] = {}
        self.tell_close: Callable[[], None] = lambda: None  # called when a close is stored
        self.migrate()
        self._chance = chance

    def migrate(self) -> None:
        """Make every table."""
        self.tables = {name: Table(schema) for name, schema in SCHEMAS.items()}

    def lose(self) -> None:
        """Lose every table."""
        self.tables = {}

    def crash(self) -> None:
        """Start again from what is on disk."""
        for table in self.tables.values():
            table.crash(self._chance.random.randint(0, len(table.unsynced)))

    def table(self, name: str) -> Table:
        """A table; an error when it is not there."""
        if name not in self.tables:
            raise _error(NO_SUCH_TABLE)
        return self.tables[name]

    def current(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table by column."""
        return [dict(zip(COLUMNS[name], row, strict=True)) for row in self.table(name).rows.values()]

    # -- the few queries that are asked ----------------------------------------------------------

    def answer(self, sql: str, parameters: dict[str, str]) -> list[tuple[Any, ...]]:
        """The rows of one of the queries of the sink and of billing."""
        for text, ask in _QUERIES.items():
            if text in sql:
                return ask(self, parameters)
        raise AssertionError(f"a query that the simulation does not know: {sql}")


def _positions(books: Books, parameters: dict[str, str]) -> list[tuple[Any, ...]]:
    found: defaultdict[tuple[str, int], int] = defaultdict(int)
    for row in books.current("sink_progress"):
        if row["sink"] == parameters["sink"]:
            place = (row["k_topic"], row["k_partition"])
            found[place] = max(found[place], row["next_offset"])
    return [(*place, offset) for place, offset in found.items()]


def _closes(books: Books, _: dict[str, str]) -> list[tuple[Any, ...]]:
    people = {row["customer"]: row for row in books.current("catalog_customers")}
    columns = ("period", "currency", "rows", "errors", "amount", "digest", "revision")
    by_revision = sorted(books.current("period_closes"), key=lambda c: c["revision"])
    latest = {(close["period"], close["customer"]): close for close in by_revision}
    rows = []
    for _, close in sorted(latest.items()):
        person = people.get(close["customer"], {"name": "", "stripe_customer": ""})
        who = (close["customer"], person["name"], person["stripe_customer"])
        rows.append((*who, *(close[c] for c in columns)))
    return rows


def _charges(books: Books, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    columns = ("customer", "price", "meter", "line", "corrects", "hour", "quantity", "amount")
    customers, period = parameters["customers"], parameters["period"]
    return [
        tuple(row[c] for c in columns)
        for row in books.current("charges")
        if row["card"] and row["customer"] in customers and row["period"] == period
    ]


_QUERIES: dict[str, Callable[[Books, dict[str, str]], list[tuple[Any, ...]]]] = {
    "FROM sink_progress": _positions,
    "FROM period_closes_current": _closes,
    "FROM charges_current": _charges,
    "FROM bill_lines": lambda _books, _parameters: [],  # only says how an amount came about
}


class Client:
    """As clickhouse-connect's asyncio client."""

    def __init__(self, books: Books, chance: Chance) -> None:
        self._books = books
        self._chance = chance

    async def create_insert_context(self, table: str, columns: list[str]) -> Any:
        """The types of a table's columns; nothing here needs them."""
        await self._reach()
        self._books.table(table)
        assert columns == COLUMNS[table]
        return _Context()

    async def insert(
        self,
        table: str,
        rows: Sequence[Row],
        *,
        column_names: list[str],
        column_types: list[Any],
        settings: dict[str, Any],
    ) -> None:
        """Store a block; by chance not at all, or without saying so."""
        assert column_names == COLUMNS[table]
        assert not column_types
        await self._reach()
        if self._chance.hits("insert refused"):
            raise ConnectionResetError("the simulated database refused")
        self._books.table(table).insert(rows, settings["insert_deduplication_token"])
        if table == "period_closes":
            self._books.tell_close()
        if self._chance.hits("insert answer lost"):
            raise ConnectionResetError("the simulated answer was lost")
        await asyncio.sleep(self._chance.latency())
        alive()

    async def query(self, sql: str, *, parameters: dict[str, str]) -> Answer:
        """Rows of a query."""
        await self._reach()
        return Answer(self._books.answer(sql, parameters))

    async def _reach(self) -> None:
        await hop(self._chance)
        if self._chance.hits("database away"):
            raise ConnectionRefusedError("the simulated database is away")


class _Context:
    column_types: tuple[Any, ...] = ()


def _error(code: int) -> DatabaseError:
    return DatabaseError(f"Code: {code}. the simulated database has no such table", code=code)
