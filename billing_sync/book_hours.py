"""Metered hours in ClickHouse: who used something, how far hours are over, and what each came to."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from metering.state.partitioning import partition_of

HOUR_SECONDS = 3_600
_LATENESS_SECONDS = 15 * 60
_AT_ONCE = 500  # customers of one question about names


class HourTotal(NamedTuple):
    """What a customer used of a price in an hour that is over; `hour` in epoch seconds."""

    customer: str
    name: str
    external_customer: str
    price: str
    hour: int
    quantity: Decimal


class BookPerson(NamedTuple):
    """A customer as the catalog knows it."""

    customer: str
    name: str
    external_customer: str


class HourSource(Protocol):
    """Where metered hours come from."""

    def hours_until(self) -> int:
        """The first hour (epoch seconds) that is not over for everybody; 0 when nothing is known."""

    def metered_customers(self, prices: Iterable[str], since: int, after: str, most: int) -> list[str]:
        """The next customers by name, behind `after`, with hours of some prices from `since` on."""

    def closed_hours(
        self, prices: Iterable[str], since: int, customers: Sequence[str]
    ) -> Iterable[HourTotal]:
        """Hours of some customers that are over, from `since` (epoch seconds) on, by customer."""

    def people(self, customers: Sequence[str]) -> Iterable[BookPerson]:
        """Customers as the catalog knows them; one that it does not know is left out."""


class ClickHouseHours:
    """Metered hours from the views of the books."""

    def __init__(self, client: Any, partitions: int = 0) -> None:
        self._client = client
        self._partitions = partitions  # of `usage.events`; only hours need it

    def hours_until(self) -> int:
        """The hour that the slowest partition is in; one that has never seen anything does not count."""
        marks = [mark for mark in self._watermarks().values() if mark > 0]
        return (min(marks) - _LATENESS_SECONDS) // HOUR_SECONDS * HOUR_SECONDS if marks else 0

    def metered_customers(self, prices: Iterable[str], since: int, after: str, most: int) -> list[str]:
        """Customers with usage, by name."""
        rows = self._rows(
            "SELECT DISTINCT customer FROM charges_current WHERE price IN {prices:Array(String)}"
            " AND line = 'usage' AND hour >= toDateTime({since:Int64}, 'UTC')"
            " AND customer > {after:String} ORDER BY customer LIMIT {most:UInt32}",
            prices=sorted(set(prices)),
            since=since,
            after=after,
            most=most,
        )
        return [str(customer) for (customer,) in rows]

    def closed_hours(
        self, prices: Iterable[str], since: int, customers: Sequence[str]
    ) -> Iterator[HourTotal]:
        """Usage by hour, up to the watermark of the partition that the customer lives in."""
        assert self._partitions, "hours need the number of partitions"
        marks = self._watermarks()
        rows = self._rows(
            "SELECT c.customer, k.name, k.stripe_customer, k.pool, c.price, c.hour, c.quantity"
            " FROM charges_current AS c LEFT JOIN (SELECT * FROM catalog_customers_current"
            " WHERE customer IN {customers:Array(String)}) AS k ON k.customer = c.customer"
            " WHERE c.customer IN {customers:Array(String)} AND c.price IN {prices:Array(String)}"
            " AND c.line = 'usage' AND c.hour >= toDateTime({since:Int64}, 'UTC')"
            " ORDER BY c.customer, c.price, c.hour",
            customers=list(customers),
            prices=sorted(set(prices)),
            since=since,
        )
        for customer, name, external, pool, price, hour, quantity in rows:
            at = seconds(hour)
            mark = marks.get(partition_of(pool or customer, self._partitions), 0)
            if at + HOUR_SECONDS + _LATENESS_SECONDS <= mark:
                yield HourTotal(customer, name or customer, external or "", price, at, quantity)

    def people(self, customers: Sequence[str]) -> Iterator[BookPerson]:
        """Names and accounts."""
        for start in range(0, len(customers), _AT_ONCE):
            rows = self._rows(
                "SELECT customer, name, stripe_customer FROM catalog_customers_current"
                " WHERE customer IN {customers:Array(String)}",
                customers=list(customers[start : start + _AT_ONCE]),
            )
            for customer, name, external in rows:
                yield BookPerson(customer, name or customer, external or "")

    def _watermarks(self) -> dict[int, int]:
        return dict(
            self._rows(
                "SELECT partition, toInt64(toUnixTimestamp64Milli(watermark) / 1000)"
                " FROM progress_current WHERE fold = 'meter'"
            )
        )

    def _rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return list(self._client.query(sql, parameters=parameters).result_rows)


def seconds(hour: datetime) -> int:
    """An hour of ClickHouse in epoch seconds."""
    return int(hour.replace(tzinfo=hour.tzinfo or UTC).timestamp())
