"""A ledger as it stands, read beside whoever sends: nothing is locked, nothing is made."""

from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from billing_sync.ledger.invoices import Entry, to_entry
from billing_sync.ledger.store import SQLITE
from metering.errors import UserError


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

    def parked(self, customer: str, period: str) -> str:
        """Why a period cannot be billed yet; empty when nothing is known."""
        sql = "SELECT reason FROM parked WHERE customer = :customer AND period = :period"
        found = self._rows(sql, customer=customer, period=period)
        return str(found[0][0]) if found else ""

    def _rows(self, sql: str, **values: str) -> list[Any]:
        if self._path is not None and not self._path.exists():
            return []
        url = self._url
        if self._path is not None:
            url = f"{SQLITE}file:{self._path.resolve()}?mode=ro&uri=true"
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                return list(connection.execute(text(sql), values).fetchall())
        except DBAPIError as error:
            where = self._path or engine.url.render_as_string()
            raise UserError(f"the ledger {where} cannot be read: {error.orig}") from error
        finally:
            engine.dispose()
