"""A ledger as it stands, read beside whoever sends: nothing is locked, nothing is made."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from billing_sync.ledger.invoices import OF_PERIOD, Entry, to_entry
from billing_sync.ledger.store import SQLITE
from billing_sync.planner import Plan, plan_from_json
from metering.errors import UserError

_INSTANT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"


class Standing(NamedTuple):
    """Plans in their order, carried micro-units by customer and currency, corrections by id."""

    plans: list[Plan]
    carried: dict[tuple[str, str], int]
    corrected: dict[str, int]


class LedgerReader:
    """Questions to a ledger; one that is not there is empty."""

    def __init__(self, place: str | Path) -> None:
        self._url = f"{SQLITE}{place}" if isinstance(place, Path) else place
        self._path = Path(self._url.removeprefix(SQLITE)) if self._url.startswith(SQLITE) else None

    def entry(self, invoice: str) -> Entry | None:
        """An invoice by our id."""
        sql = "SELECT plan, state, reason, external, number FROM invoice WHERE id = :id"
        found = self._rows(sql, id=invoice)
        return to_entry(found[0]) if found else None

    def entries(self, customer: str, period: str, currency: str) -> list[Entry]:
        """The invoices of a period: the first, and those of its restatements."""
        sql = f"SELECT plan, state, reason, external, number FROM invoice {OF_PERIOD} ORDER BY since, id"
        return [to_entry(row) for row in self._rows(sql, customer=customer, period=period, currency=currency)]

    def standing(self) -> Standing:
        """Everything that was planned and what is carried, at one instant."""
        plans, carries, corrections = self._all(
            "SELECT plan FROM invoice ORDER BY since, id",
            "SELECT customer, currency, micro FROM carry",
            "SELECT id, micro FROM correction",
        )
        return Standing(
            [plan_from_json(json.loads(plan)) for (plan,) in plans],
            {(customer, currency): int(micro) for customer, currency, micro in carries},
            {str(name): int(micro) for name, micro in corrections},
        )

    def parked(self, customer: str, period: str) -> str:
        """Why a period cannot be billed yet; empty when nothing is known."""
        sql = "SELECT reason FROM parked WHERE customer = :customer AND period = :period"
        found = self._rows(sql, customer=customer, period=period)
        return str(found[0][0]) if found else ""

    def _rows(self, sql: str, **values: str) -> list[Any]:
        return self._all(sql, **values)[0]

    def _all(self, *questions: str, **values: str) -> list[list[Any]]:
        """The answers to some questions, all at one instant."""
        if self._path is not None and not self._path.exists():
            return [[] for _ in questions]
        url = self._url
        if self._path is not None:
            url = f"{SQLITE}file:{self._path.resolve()}?mode=ro&uri=true"
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("BEGIN" if self._path is not None else _INSTANT)
                return [list(connection.execute(text(sql), values).fetchall()) for sql in questions]
        except DBAPIError as error:
            where = self._path or engine.url.render_as_string()
            raise UserError(f"the ledger {where} cannot be read: {error.orig}") from error
        finally:
            engine.dispose()
