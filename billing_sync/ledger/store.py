"""Where a ledger is and how it is reached: SQLite for one sender, PostgreSQL for several."""

import fcntl
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, CursorResult, Engine, TextClause, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from billing_sync.ledger.schema import upgrade
from metering.errors import UserError
from metering.settings import Settings

SQLITE = "sqlite:///"
MEMORY = "sqlite://"


def ledger_url(settings: Settings) -> str:
    """Where the ledger of a deployment is."""
    url = settings.ledger_url or f"{SQLITE}{settings.home / 'billing' / 'ledger.sqlite3'}"
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def engine_of(url: str) -> Engine:
    """An engine whose transactions take their locks at once, on either database."""
    if not url.startswith(MEMORY):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class LedgerBusy(UserError):
    """Another process holds the ledger's file."""


class Store:
    """An open ledger; what it says is in its subclasses."""

    def __init__(self, place: str | Path, holder: str = "") -> None:
        url = f"{SQLITE}{place}" if isinstance(place, Path) else place
        self.holder = holder or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._lock = _lock(Path(url.removeprefix(SQLITE))) if url.startswith(SQLITE) else None
        self._engine = engine_of(url)
        try:
            with self._engine.begin() as connection:
                if connection.dialect.name == "postgresql":  # two that start at once upgrade in turn
                    connection.execute(text("SELECT pg_advisory_xact_lock(7355608)"))
                upgrade(connection, self._engine.url.render_as_string())
                if self._lock:  # we are alone: whoever held these is dead
                    connection.execute(text("DELETE FROM claim"))
        except DBAPIError as error:
            self.close()
            raise _unreadable(self._engine, error) from error
        except UserError:
            self.close()
            raise

    def close(self) -> None:
        """Release the ledger."""
        self._engine.dispose()
        if self._lock:
            self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is written together or not at all."""
        if self._open is not None:
            yield
            return
        with self._engine.begin() as connection:
            self._open = connection
            try:
                yield
            finally:
                self._open = None

    _open: Connection | None = None

    def run(self, sql: str, **values: Any) -> CursorResult[Any]:
        """One statement, in the open transaction or in one of its own."""
        if self._open is not None:
            return self._open.execute(_statement(sql), values)
        with self._engine.begin() as connection:
            return connection.execute(_statement(sql), values)

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """What a question answers."""
        if self._open is not None:
            return list(self._open.execute(_statement(sql), values).fetchall())
        with self._engine.begin() as connection:
            return list(connection.execute(_statement(sql), values).fetchall())


@lru_cache(maxsize=256)
def _statement(sql: str) -> TextClause:
    """A statement that was read before need not be read again."""
    return text(sql)


def _lock(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise LedgerBusy(
            f"another billing sync uses the ledger {path}",
            hint="let it finish; several senders at once need PostgreSQL (METERING_LEDGER_URL)",
        ) from error
    return lock


def _unreadable(engine: Engine, error: DBAPIError) -> UserError:
    reason = str(error.orig).splitlines()[0]
    return UserError(
        f"the ledger {engine.url.render_as_string()} cannot be read: {reason}",
        hint="check METERING_LEDGER_URL and that the database is there",
    )
