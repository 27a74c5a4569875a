"""The ledger: what was planned, what was sent, what came of it. SQLite, durable before each request.

An invoice goes planned → inflight → delivered → verified → finalized, or is carried, parked,
unknown or blocked with a reason. A carried remainder changes in the transaction that plans the
invoice.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from billing_sync.planner import Plan, PlannedLine
from metering.errors import UserError
from metering.settings import Settings

SCHEMA = 1
_TABLES = """
CREATE TABLE invoice (
    id TEXT PRIMARY KEY, customer TEXT NOT NULL, period TEXT NOT NULL, currency TEXT NOT NULL,
    plan TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    external TEXT NOT NULL DEFAULT '', number TEXT NOT NULL DEFAULT '');
CREATE TABLE request (
    id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, state TEXT NOT NULL, payload TEXT NOT NULL,
    first_sent INTEGER NOT NULL, last_sent INTEGER NOT NULL, saw_5xx INTEGER NOT NULL DEFAULT 0,
    external TEXT NOT NULL DEFAULT '');
CREATE TABLE carry (
    customer TEXT NOT NULL, currency TEXT NOT NULL, micro INTEGER NOT NULL, invoice TEXT NOT NULL,
    PRIMARY KEY (customer, currency));
CREATE TABLE parked (
    customer TEXT NOT NULL, period TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (customer, period));
"""


def ledger_path(settings: Settings) -> Path:
    """Where the ledger of a deployment is."""
    return settings.home / "billing" / "ledger.sqlite3"


class Entry(NamedTuple):
    """An invoice in the ledger."""

    plan: Plan
    state: str
    reason: str
    external: str
    number: str


class Request(NamedTuple):
    """A request in the ledger; times are epoch seconds, `payload` its fingerprint."""

    epoch: int
    state: str
    payload: str
    first_sent: int
    last_sent: int
    saw_5xx: bool
    external: str


class Ledger:
    """One ledger file, held by one sender at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another billing sync uses the ledger {path}",
                hint="let it finish; two senders would invoice twice",
            ) from error
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._open_schema(path)

    def _open_schema(self, path: Path) -> None:
        ((version,),) = self._db.execute("PRAGMA user_version").fetchall()
        if version == 0:
            with self._transaction():
                for statement in _TABLES.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA}")
        elif version != SCHEMA:
            raise UserError(f"the ledger {path} has schema {version}, this program knows {SCHEMA}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Release the file."""
        self._db.close()
        self._lock.close()

    def carry(self, customer: str, currency: str) -> int:
        """The micro-units that earlier invoices left."""
        row = self._db.execute(
            "SELECT micro FROM carry WHERE customer = ? AND currency = ?", (customer, currency)
        ).fetchone()
        return int(row[0]) if row else 0

    def planned(self, customer: str, period: str, currency: str) -> int:
        """The micro-units that the invoices of a period came to so far, carried ones included."""
        found = self._entries(
            "WHERE customer = ? AND period = ? AND currency = ?", customer, period, currency
        )
        return sum(entry.plan.micro for entry in found)

    def add_plan(self, plan: Plan) -> None:
        """Record a plan and the remainder it leaves, in one transaction."""
        state = "planned" if plan.lines else "carried"
        with self._transaction():
            self._db.execute(
                "INSERT INTO invoice (id, customer, period, currency, plan, state) VALUES (?, ?, ?, ?, ?, ?)",
                (plan.id, plan.customer, plan.period, plan.currency, json.dumps(plan), state),
            )
            self._db.execute(
                "INSERT INTO carry VALUES (?, ?, ?, ?) ON CONFLICT (customer, currency)"
                " DO UPDATE SET micro = excluded.micro, invoice = excluded.invoice",
                (plan.customer, plan.currency, plan.carry_out, plan.id),
            )
            self._db.execute(
                "DELETE FROM parked WHERE customer = ? AND period = ?", (plan.customer, plan.period)
            )

    def entry(self, invoice: str) -> Entry | None:
        """An invoice by our id."""
        found = self._entries("WHERE id = ?", invoice)
        return found[0] if found else None

    def entries(self, period: str | None = None) -> list[Entry]:
        """All invoices, or those of a period."""
        return self._entries("WHERE period = ?", period) if period else self._entries("")

    def _entries(self, where: str, *values: str) -> list[Entry]:
        rows = self._db.execute(
            "SELECT plan, state, reason, external, number FROM invoice "
            + where
            + " ORDER BY period, customer",
            values,
        ).fetchall()
        return [Entry(_plan(plan), *rest) for plan, *rest in rows]

    def set_state(
        self, invoice: str, state: str, *, reason: str = "", external: str = "", number: str = ""
    ) -> None:
        """Move an invoice on; ids that are known stay."""
        with self._transaction():
            self._db.execute(
                "UPDATE invoice SET state = ?, reason = ?,"
                " external = CASE WHEN ? = '' THEN external ELSE ? END,"
                " number = CASE WHEN ? = '' THEN number ELSE ? END WHERE id = ?",
                (state, reason, external, external, number, number, invoice),
            )

    def park(self, customer: str, period: str, reason: str) -> None:
        """Remember a period that cannot be billed yet, and why."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO parked VALUES (?, ?, ?)", (customer, period, reason))

    def parked(self) -> list[tuple[str, str, str]]:
        """Customer, period and reason of what cannot be billed yet."""
        rows = self._db.execute("SELECT * FROM parked ORDER BY period, customer").fetchall()
        return [(str(c), str(p), str(r)) for c, p, r in rows]

    def request(self, request_id: str) -> Request | None:
        """A request by our id."""
        row = self._db.execute(
            "SELECT epoch, state, payload, first_sent, last_sent, saw_5xx, external FROM request"
            " WHERE id = ?",
            (request_id,),
        ).fetchone()
        if row is None:
            return None
        epoch, state, payload, first, last, saw_5xx, external = row
        return Request(epoch, state, payload, first, last, bool(saw_5xx), external)

    def intend(self, request_id: str, epoch: int, payload: str, now: int) -> None:
        """Commit the intent before the request leaves."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO request (id, epoch, state, payload, first_sent, last_sent)"
                " VALUES (?, ?, 'inflight', ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " first_sent = CASE WHEN epoch = excluded.epoch THEN first_sent"
                " ELSE excluded.first_sent END,"
                " saw_5xx = CASE WHEN epoch = excluded.epoch THEN saw_5xx ELSE 0 END,"
                " epoch = excluded.epoch, payload = excluded.payload, last_sent = excluded.last_sent",
                (request_id, epoch, payload, now, now),
            )

    def saw_5xx(self, request_id: str) -> None:
        """The provider failed inside: its key replays that answer for a day."""
        with self._transaction():
            self._db.execute("UPDATE request SET saw_5xx = 1 WHERE id = ?", (request_id,))

    def done(self, request_id: str, external: str) -> None:
        """The provider has done it."""
        with self._transaction():
            self._db.execute(
                "UPDATE request SET state = 'done', external = ? WHERE id = ?",
                (external, request_id),
            )


class LedgerReader:
    """A ledger as it stands, read beside whoever sends; one that is not there is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entry(self, invoice: str) -> Entry | None:
        """An invoice by our id."""
        found = self._rows("SELECT plan, state, reason, external, number FROM invoice WHERE id = ?", invoice)
        return Entry(_plan(found[0][0]), *found[0][1:]) if found else None

    def entries(self, customer: str, period: str, currency: str) -> list[Entry]:
        """The invoices of a period: the first, and those of its restatements."""
        found = self._rows(
            "SELECT plan, state, reason, external, number FROM invoice"
            " WHERE customer = ? AND period = ? AND currency = ? ORDER BY rowid",
            customer,
            period,
            currency,
        )
        return [Entry(_plan(plan), *rest) for plan, *rest in found]

    def parked(self, customer: str, period: str) -> str:
        """Why a period cannot be billed yet; empty when nothing is known."""
        found = self._rows("SELECT reason FROM parked WHERE customer = ? AND period = ?", customer, period)
        return str(found[0][0]) if found else ""

    def _rows(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)) as db:
                return db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise UserError(f"the ledger {self._path} cannot be read: {error}") from error


def _plan(text: str) -> Plan:
    fields: list[Any] = json.loads(text)
    return Plan._make([*fields[:7], tuple(PlannedLine(*line) for line in fields[7])])
