"""The desired state: closed periods in ClickHouse whose charges are all here."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from metering.rating.money import MICRO, parse_decimal
from metering.state.postings import close_digest


class PriceTotal(NamedTuple):
    """What one price came to: quantity in the meter's unit, amount in micro-units."""

    price: str
    meter: str
    quantity: Decimal
    micro: int


class ClosedPeriod(NamedTuple):
    """A closed period with its charges; `problem` is empty when it can be billed.

    `revision` counts the restatements since it was closed.
    """

    customer: str
    name: str
    external_customer: str
    period: str
    currency: str
    prices: tuple[PriceTotal, ...]
    micro: int
    problem: str
    revision: int = 0


class BookSource(Protocol):
    """Where closed periods come from."""

    def closed_periods(self, period: str | None) -> Iterable[ClosedPeriod]:
        """Closed periods of every customer, or those of one period."""


class ClickHouseBooks:
    """Closed periods from the views of the books."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def closed_periods(self, period: str | None) -> Iterable[ClosedPeriod]:
        """Every closed period, each checked against its close record: number, sum and digest."""
        where = "WHERE period = {period:String}" if period else ""
        closes = self._rows(
            "SELECT c.customer, c.period, c.currency, c.rows, c.errors, c.amount, c.digest,"
            " c.revision, k.name, k.stripe_customer FROM (SELECT * FROM period_closes_current "
            + where
            + ") AS c LEFT JOIN catalog_customers_current AS k ON k.customer = c.customer"
            " ORDER BY c.period, c.customer",
            period=period or "",
        )
        for customer, name_of_period, currency, *closed, revision, name, external in closes:
            charges = self._charges(customer, name_of_period)
            yield ClosedPeriod(
                customer,
                name or customer,
                external or "",
                name_of_period,
                currency,
                _by_price(charges),
                sum(c.micro for c in charges),
                _problem(charges, closed),
                int(revision),
            )

    def _charges(self, customer: str, period: str) -> list["_Charge"]:
        rows = self._rows(
            "SELECT price, meter, hour, quantity, amount FROM charges_current"
            " WHERE customer = {customer:String} AND period = {period:String}",
            customer=customer,
            period=period,
        )
        return [
            _Charge(price, meter, _seconds(hour), quantity, parse_decimal(amount, MICRO))
            for price, meter, hour, quantity, amount in rows
        ]

    def _rows(self, sql: str, **parameters: str) -> list[tuple[Any, ...]]:
        return list(self._client.query(sql, parameters=parameters).result_rows)


class _Charge(NamedTuple):
    price: str
    meter: str
    hour: int
    quantity: Decimal
    micro: int


def _seconds(hour: datetime) -> int:
    return int(hour.timestamp())


def _by_price(charges: list[_Charge]) -> tuple[PriceTotal, ...]:
    totals: dict[str, PriceTotal] = {}
    for c in charges:
        held = totals.get(c.price, PriceTotal(c.price, c.meter, Decimal(0), 0))
        totals[c.price] = PriceTotal(c.price, c.meter, held.quantity + c.quantity, held.micro + c.micro)
    return tuple(totals[price] for price in sorted(totals))


def _problem(charges: list[_Charge], closed: list[Any]) -> str:
    rows, errors, amount, digest = closed
    if errors:
        return f"{errors} hours have no price: correct the rate card"
    if len(charges) != rows:
        return f"{len(charges)} of {rows} charges have arrived: wait for the sink"
    if sum(c.micro for c in charges) != parse_decimal(amount, MICRO):
        return f"the charges do not add up to the close record's {amount}"
    if close_digest([(c.price, c.hour, c.micro) for c in charges]) != digest:
        return "the charges differ from what was closed (digest)"
    return ""
