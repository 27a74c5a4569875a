"""The digest of the books: two databases that say the same have the same digest.

It covers every column of every charge, hourly total, rating error and close except the versions and the
watermarks of closes: they say when something was decided, not what. Rows are ordered by their natural keys.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple

from metering.sinks.rows import COLUMNS

_PIECE_BYTES = 1 << 20
_WHEN = {"version", "watermark"}


class _Part(NamedTuple):
    name: str
    view: str
    table: str
    order: str
    period: str
    amount: str


_ERROR = "customer, period, meter, hour"
_PARTS = (
    _Part("charges", "charges_current", "charges", "customer, period, price, hour", "period", "amount"),
    _Part(
        "hourly totals",
        "hourly_current",
        "hourly",
        "customer, meter, hour, dimensions",
        "formatDateTime(hour, '%Y-%m')",
        "quantity",
    ),
    _Part("rating errors", "rating_errors_current", "rating_errors", _ERROR, "period", "quantity"),
    _Part("closes", "period_closes_current", "period_closes", "customer, period", "period", "amount"),
)


class PartDigest(NamedTuple):
    """One kind of rows; `total` is their sum, whatever the unit: a figure to compare, not to read."""

    name: str
    rows: int
    total: Decimal
    digest: str


class BooksDigest(NamedTuple):
    """The digest of everything, and of its parts."""

    digest: str
    parts: tuple[PartDigest, ...]


def books_digest(client: Any, period: str = "") -> BooksDigest:
    """The digest of one period or of all."""
    parts = tuple(_part(client, part, period) for part in _PARTS)
    whole = sha256("".join(f"{p.name} {p.rows} {p.digest}\n" for p in parts).encode()).hexdigest()
    return BooksDigest(whole, parts)


def _part(client: Any, part: _Part, period: str) -> PartDigest:
    where = f"WHERE {part.period} = {{period:String}}" if period else ""
    parameters = {"period": period}
    columns = ", ".join(f"`{name}`" for name in COLUMNS[part.table] if name not in _WHEN)
    digest = sha256()
    sql = f"SELECT {columns} FROM {part.view} {where} ORDER BY {part.order}"
    for piece in _pieces(client, sql, parameters):
        digest.update(piece)
    figures = f"SELECT count(), sum({part.amount}) FROM {part.view} {where}"
    ((rows, total),) = client.query(figures, parameters=parameters).result_rows
    return PartDigest(part.name, int(rows), Decimal(total), digest.hexdigest())


def _pieces(client: Any, sql: str, parameters: dict[str, str]) -> Iterator[bytes]:
    """The answer as tab-separated text, as ClickHouse writes it: exact, and the same for equal rows."""
    with client.raw_stream(sql, parameters=parameters, fmt="TabSeparated") as answer:
        while piece := answer.read(_PIECE_BYTES):
            yield piece


class CloseState(NamedTuple):
    """A closed period of a customer: its close record, and the charges that are there."""

    customer: str
    period: str
    currency: str
    rows_closed: int
    amount_closed: Decimal
    digest_closed: str
    rows: int
    amount: Decimal
    digest: str

    @property
    def agrees(self) -> bool:
        """Whether the charges are those that were closed."""
        closed = (self.rows_closed, self.amount_closed, self.digest_closed)
        return closed == (self.rows, self.amount, self.digest)


# The digest of `state.postings.close_digest`: sha256 over the lines `price|hour|amount`.
_CLOSE_STATES = """
SELECT
    c.customer, c.period, c.currency, c.rows, c.amount, c.digest, r.count_here, r.sum_here,
    if(r.count_here = 0, lower(hex(SHA256(''))), r.digest_here)
FROM (SELECT * FROM period_closes_current WHERE {in_periods}) AS c
LEFT JOIN (
    SELECT
        customer, period, count() AS count_here, sum(amount) AS sum_here,
        arraySort(groupArray((price, toUnixTimestamp(hour), amount))) AS lines,
        lower(hex(SHA256(arrayStringConcat(arrayMap(
            line -> concat(line.1, '|', toString(line.2), '|', toDecimalString(line.3, 6), '\\n'), lines
        ))))) AS digest_here
    FROM charges_current WHERE {in_periods}
    GROUP BY customer, period
) AS r ON r.customer = c.customer AND r.period = c.period
ORDER BY c.period, c.currency, c.customer
"""


def close_states(client: Any, periods: list[str] | None = None) -> list[CloseState]:
    """Every closed period of every customer, or those of some periods."""
    condition = "1" if periods is None else "has({periods:Array(String)}, period)"
    sql = re.sub(r"{in_periods}", condition, _CLOSE_STATES)
    rows = client.query(sql, parameters={"periods": periods or []}).result_rows
    return [CloseState(*row) for row in rows]


class PeriodFigures(NamedTuple):
    """A closed period in one currency: what its customers' charges come to, and who disagrees."""

    customers: int
    rows: int
    amount: Decimal
    digest: str
    disagreeing: tuple[str, ...]


def closed_periods(states: list[CloseState]) -> dict[tuple[str, str], PeriodFigures]:
    """The figures of each closed period and currency."""
    found: dict[tuple[str, str], list[CloseState]] = {}
    for state in states:
        found.setdefault((state.period, state.currency), []).append(state)
    return {place: _figures(group) for place, group in found.items()}


def _figures(states: list[CloseState]) -> PeriodFigures:
    lines = (f"{s.customer}|{s.rows}|{s.amount:.6f}|{s.digest}\n" for s in states)
    return PeriodFigures(
        customers=len(states),
        rows=sum(s.rows for s in states),
        amount=sum((s.amount for s in states), Decimal(0)),
        digest=sha256("".join(lines).encode()).hexdigest(),
        disagreeing=tuple(s.customer for s in states if not s.agrees),
    )
