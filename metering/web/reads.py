"""What the pages ask the books: small typed answers, exact numbers, no sum across currencies."""

from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

PAGE_ROWS = 50
_TOP = 8
# An average is kept as its sum; of the others a day shows the hour that tells most.
_OF_A_DAY = (
    "multiIf(kind = 'average',"
    " toDecimal128(divideDecimal(sum(quantity), toDecimal128(sum(events), 0), 6), 6),"
    " kind = 'latest', argMax(quantity, hour), kind = 'min', min(quantity),"
    " kind IN ('max', 'unique'), max(quantity), sum(quantity))"
)
DAY_WORDS = {
    "average": "average of its measurements",
    "latest": "last value",
    "min": "lowest hour",
    "max": "highest hour",
    "unique": "most in an hour",
}


class Sum(NamedTuple):
    """What a period's charges come to in one currency, and how many customers have any."""

    currency: str
    amount: Decimal
    customers: int


class Listed(NamedTuple):
    """A customer in a list, with what its period comes to; no amount: nothing was charged."""

    customer: str
    name: str
    plan: str
    currency: str
    amount: Decimal | None


class Found(NamedTuple):
    """A page of customers, and how many there are in all."""

    customers: list[Listed]
    total: int


class DayAmount(NamedTuple):
    """The charges of one day (UTC) in one currency."""

    day: date
    currency: str
    amount: Decimal


class DayUsage(NamedTuple):
    """What one meter counted on one day (UTC); what cannot be added up is told as `_OF_A_DAY` says."""

    day: date
    meter: str
    aggregation: str
    quantity: Decimal


class PeriodCount(NamedTuple):
    """How many customers' billing periods are closed, restated, or still open."""

    period: str
    open: int
    closed: int
    restated: int


class Reads:
    """The reads over one blocking client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def _rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return list(self._client.query(sql, parameters=parameters).result_rows)

    def periods(self, customer: str = "") -> list[str]:
        """Billing periods with charges, the newest first."""
        rows = self._rows(
            "SELECT DISTINCT period FROM charges WHERE card != ''"
            " AND ({customer:String} = '' OR customer = {customer:String}) ORDER BY period DESC",
            customer=customer,
        )
        return [str(period) for (period,) in rows]

    def sums(self, period: str) -> list[Sum]:
        """What a period comes to, by currency."""
        rows = self._rows(
            "SELECT currency, sum(amount), uniqExact(customer) FROM charges_current"
            " WHERE period = {period:String} GROUP BY currency ORDER BY currency",
            period=period,
        )
        return [Sum(*row) for row in rows]

    def days(self, period: str, customer: str = "") -> list[DayAmount]:
        """The charges of a period by day and currency, in time order."""
        rows = self._rows(
            "SELECT toDate(hour) AS day, currency, sum(amount) FROM charges_current"
            " WHERE period = {period:String} AND ({customer:String} = '' OR customer = {customer:String})"
            " GROUP BY day, currency ORDER BY day, currency",
            period=period,
            customer=customer,
        )
        return [DayAmount(*row) for row in rows]

    def top(self, period: str) -> list[Listed]:
        """The customers with the largest charges of a period, in each currency."""
        rows = self._rows(
            "SELECT t.customer, if(c.customer = '', t.customer, c.name), c.plan, t.currency, t.amount FROM"
            " (SELECT customer, currency, sum(amount) AS amount FROM charges_current"
            f" WHERE period = {{period:String}} GROUP BY customer, currency ORDER BY amount DESC LIMIT {_TOP}"
            " BY currency) AS t LEFT JOIN catalog_customers_current AS c ON c.customer = t.customer"
            " ORDER BY t.currency, t.amount DESC, t.customer",
            period=period,
        )
        return [Listed(*row) for row in rows]

    def find(self, text: str, page: int, period: str) -> Found:
        """Customers of the catalog whose id or name holds a text, by id; `page` counts from 0."""
        where = (
            "WHERE {text:String} = '' OR positionCaseInsensitiveUTF8(name, {text:String}) > 0"
            " OR positionCaseInsensitiveUTF8(customer, {text:String}) > 0"
        )
        ((total,),) = self._rows(f"SELECT count() FROM catalog_customers_current {where}", text=text)
        rows = self._rows(
            f"SELECT customer, name, plan, currency FROM catalog_customers_current {where}"
            f" ORDER BY customer LIMIT {PAGE_ROWS} OFFSET {{first:UInt64}}",
            text=text,
            first=page * PAGE_ROWS,
        )
        amounts = dict(
            self._rows(
                "SELECT customer, sum(amount) FROM charges_current WHERE period = {period:String}"
                " AND customer IN {names:Array(String)} GROUP BY customer",
                period=period,
                names=[row[0] for row in rows],
            )
        )
        return Found([Listed(c, n, p, cur, amounts.get(c)) for c, n, p, cur in rows], int(total))

    def customer(self, customer: str) -> Listed | None:
        """A customer of the catalog; None when there is none of this id."""
        rows = self._rows(
            "SELECT customer, name, plan, currency FROM catalog_customers_current"
            " WHERE customer = {customer:String}",
            customer=customer,
        )
        return next((Listed(c, name, plan, currency, None) for c, name, plan, currency in rows), None)

    def usage(self, customer: str, period: str) -> list[DayUsage]:
        """A customer's usage of a period by day and meter, in time order."""
        rows = self._rows(
            f"SELECT toDate(hour) AS day, meter, any(aggregation) AS kind, {_OF_A_DAY} FROM hourly_current"
            " WHERE customer = {customer:String} AND formatDateTime(hour, '%Y-%m') = {period:String}"
            " GROUP BY day, meter ORDER BY day, meter",
            customer=customer,
            period=period,
        )
        return [DayUsage(*row) for row in rows]

    def period_counts(self) -> list[PeriodCount]:
        """Billing periods with charges: how many customers' are open, closed, restated; the newest first."""
        rows = self._rows(
            "SELECT period, countIf(newest < 0), countIf(newest = 0), countIf(newest > 0) FROM"
            " (SELECT customer, period, max(revision) AS newest, min(revision) AS charged FROM"
            " (SELECT customer, period, -1 AS revision FROM charges WHERE card != ''"
            " GROUP BY customer, period UNION ALL"
            " SELECT customer, period, toInt64(revision) FROM period_closes_current)"
            " GROUP BY customer, period)"
            " GROUP BY period HAVING min(charged) < 0 ORDER BY period DESC LIMIT 12"
        )
        return [PeriodCount(str(p), int(a), int(b), int(c)) for p, a, b, c in rows]

    def unpriced(self) -> int:
        """Hours of usage that no price covers."""
        ((count,),) = self._rows("SELECT count() FROM rating_errors_current")
        return int(count)

    def letters_of(self, customer: str) -> int:
        """A customer's dead letters that wait for a person."""
        ((count,),) = self._rows(
            "SELECT count() FROM rejected_letters WHERE customer = {customer:String} AND state = 'open'",
            customer=customer,
        )
        return int(count)
