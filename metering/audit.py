"""The proof by a second implementation: hourly totals and charges computed again in SQL.

The arithmetic lives in the views `audit_*` (migration 004); here they are only asked. A closed period is
computed with the catalog revision that closed it, an open one with the latest.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

SHOWN = 1_000  # differences that are listed; all are counted


class Difference(NamedTuple):
    """One figure of the books that the audit computes differently."""

    check: str
    period: str
    customer: str
    what: str
    hour: str
    in_books: str
    expected: str


class Uncovered(NamedTuple):
    """Charges that the audit does not compute again, by kind of line and model."""

    line: str
    model: str
    rows: int
    amount: Decimal


@dataclass(frozen=True)
class Audit:
    """What was compared, and what differs."""

    period: str
    totals: int
    charges: int
    amount: Decimal
    explained: int
    closes: int
    differences: list[Difference]
    uncovered: list[Uncovered]

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def run_audit(client: Any, period: str = "") -> Audit:
    """Compare the books with their archive, for one period or all."""
    ask = _Asking(client, period)
    ((totals,),) = ask(
        "SELECT count() FROM hourly_current WHERE {in_period}", "formatDateTime(hour, '%Y-%m')"
    )
    ((charges, amount),) = ask("SELECT count(), sum(amount) FROM audit_covered_charges WHERE {in_period}")
    ((explained,),) = ask("SELECT count() FROM charges_current WHERE {in_period}")
    ((closes,),) = ask("SELECT count() FROM close_check WHERE {in_period}")
    return Audit(
        period=period,
        totals=int(totals),
        charges=int(charges),
        amount=amount,
        explained=int(explained),
        closes=int(closes),
        differences=[*_totals(ask), *_charges(ask), *_unexplained(ask), *_closes(ask)],
        uncovered=_uncovered(ask),
    )


class _Asking:
    """Queries limited to a period."""

    def __init__(self, client: Any, period: str) -> None:
        self._client = client
        self._period = period

    def __call__(self, sql: str, column: str = "period") -> list[tuple[Any, ...]]:
        in_period = f"{column} = {{period:String}}" if self._period else "1"
        found = self._client.query(sql.replace("{in_period}", in_period), parameters={"period": self._period})
        return list(found.result_rows)


def _totals(ask: _Asking) -> list[Difference]:
    rows = ask(
        "SELECT period, customer, meter, toString(dimensions), toString(hour), toString(in_books),"
        " toString(expected), events_in_books, events_expected FROM audit_hourly_differences"
        f" WHERE {{in_period}} ORDER BY customer, meter, hour LIMIT {SHOWN}"
    )
    return [
        Difference("hourly", p, c, f"{meter} {where}", hour, f"{a} of {n} events", f"{b} of {m} events")
        for p, c, meter, where, hour, a, b, n, m in rows
    ]


def _charges(ask: _Asking) -> list[Difference]:
    rows = ask(
        "SELECT 'charge', period, customer, price, toString(hour), toString(in_books), toString(expected)"
        f" FROM audit_charge_differences WHERE {{in_period}} ORDER BY customer, price, hour LIMIT {SHOWN}"
    )
    return [Difference(*row) for row in rows]


def _unexplained(ask: _Asking) -> list[Difference]:
    rows = ask(
        "SELECT 'explanation', period, customer, price, toString(hour), toString(amount), toString(explained)"
        f" FROM audit_unexplained WHERE {{in_period}} ORDER BY customer, price, hour LIMIT {SHOWN}"
    )
    return [Difference(*row) for row in rows]


def _closes(ask: _Asking) -> list[Difference]:
    rows = ask(
        "SELECT 'close', period, customer,"
        " concat(toString(rows_here), ' of ', toString(rows_closed), ' rows'),"
        " '', toString(amount_here), toString(amount_closed) FROM close_check"
        f" WHERE {{in_period}} AND (rows_here != rows_closed OR amount_here != amount_closed) LIMIT {SHOWN}"
    )
    return [Difference(*row) for row in rows]


def _uncovered(ask: _Asking) -> list[Uncovered]:
    rows = ask(
        "SELECT line, model, count(), sum(amount) FROM charges_current WHERE {in_period}"
        " AND (customer, period, price, hour) NOT IN"
        " (SELECT customer, period, price, hour FROM audit_covered_charges)"
        " GROUP BY line, model ORDER BY line, model"
    )
    return [Uncovered(line, model, int(count), amount) for line, model, count, amount in rows]
