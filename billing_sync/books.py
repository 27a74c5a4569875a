"""The desired state: closed periods and hours in ClickHouse, checked against their close records."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from billing_sync.book_hours import ClickHouseHours, HourSource, seconds
from metering.rating.money import MICRO, parse_decimal
from metering.state.postings import close_digest


class HourCharge(NamedTuple):
    """A price's charge in one hour; `hour` in epoch seconds, `micro` in micro-units."""

    hour: int
    quantity: Decimal
    micro: int


class PriceTotal(NamedTuple):
    """What one price came to: quantity in the meter's unit, amount in micro-units.

    `kind` is the charge's line (usage, flat, discount, true_up, adjustment ...), `corrects` the
    closed period that an adjustment belongs to, `tiers` how the amount came about.
    """

    price: str
    meter: str
    quantity: Decimal
    micro: int
    kind: str = "usage"
    corrects: str = ""
    tiers: str = ""
    hours: tuple[HourCharge, ...] = ()


class Close(NamedTuple):
    """A closed period, before its charges are read; `revision` counts its restatements."""

    customer: str
    name: str
    external_customer: str
    period: str
    currency: str
    rows: int = 0
    errors: int = 0
    amount: Decimal = Decimal(0)
    digest: str = ""
    revision: int = 0


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


class BookSource(HourSource, Protocol):
    """Where closed periods and hours come from."""

    def closes(self, period: str | None, customer: str = "") -> Iterable[Close]:
        """Closed periods, of every customer or one, in all periods or one, oldest first."""

    def read(self, closes: Sequence[Close]) -> list[ClosedPeriod]:
        """Closed periods with their charges, one for each close, in their order."""


class ClickHouseBooks(ClickHouseHours):
    """Closed periods and metered hours from the views of the books."""

    def closes(self, period: str | None, customer: str = "") -> Iterable[Close]:
        """Closed periods with their customers."""
        asked = ["period = {period:String}"] * bool(period)
        asked += ["customer = {customer:String}"] * bool(customer)
        where = f"WHERE {' AND '.join(asked)}" if asked else ""
        rows = self._rows(
            "SELECT c.customer, k.name, k.stripe_customer, c.period, c.currency, c.rows, c.errors,"
            " c.amount, c.digest, c.revision FROM (SELECT * FROM period_closes_current "
            + where
            + ") AS c LEFT JOIN catalog_customers_current AS k ON k.customer = c.customer"
            " ORDER BY c.period, c.customer",
            period=period or "",
            customer=customer,
        )
        for found, name, external, *rest in rows:
            yield Close(found, name or found, external or "", *rest)

    def closed_periods(self, period: str | None) -> Iterable[ClosedPeriod]:
        """Every closed period with its charges."""
        return iter(self.read(list(self.closes(period))))

    def read(self, closes: Sequence[Close]) -> list[ClosedPeriod]:
        """The charges of closes, each checked against its own: number, sum and digest."""
        charges: dict[_Place, list[_Charge]] = {}
        tiers: dict[_Place, dict[str, str]] = {}
        for period in dict.fromkeys(close.period for close in closes):
            customers = [close.customer for close in closes if close.period == period]
            self._read_charges(customers, period, charges)
            self._read_tiers(customers, period, tiers)
        return [_closed(close, charges, tiers) for close in closes]

    def _read_charges(
        self, customers: list[str], period: str, found: dict["_Place", list["_Charge"]]
    ) -> None:
        rows = self._rows(
            "SELECT customer, price, meter, line, corrects, hour, quantity, amount FROM charges_current"
            " WHERE customer IN {customers:Array(String)} AND period = {period:String}"
            " ORDER BY customer, price, hour",
            customers=customers,
            period=period,
        )
        for customer, price, meter, kind, corrects, hour, quantity, amount in rows:
            micro = parse_decimal(amount, MICRO)
            charge = _Charge(price, meter, kind, corrects, seconds(hour), quantity, micro)
            found.setdefault((customer, period), []).append(charge)

    def _read_tiers(self, customers: list[str], period: str, found: dict["_Place", dict[str, str]]) -> None:
        """How each price's amount came about: units times unit price, by tier."""
        rows = self._rows(
            "SELECT customer, price, unit_price, sum(units) AS units FROM bill_lines"
            " WHERE customer IN {customers:Array(String)} AND period = {period:String} AND line = 'usage'"
            " GROUP BY customer, price, tier, unit_price HAVING units != 0 ORDER BY customer, price, tier",
            customers=customers,
            period=period,
        )
        for customer, price, unit_price, units in rows:
            texts = found.setdefault((customer, period), {})
            own = f"{plain(units)} × {plain(unit_price)}"
            texts[price] = f"{texts[price]} + {own}" if price in texts else own


class _Charge(NamedTuple):
    price: str
    meter: str
    kind: str
    corrects: str
    hour: int
    quantity: Decimal
    micro: int


_Place = tuple[str, str]  # customer and period


def _closed(
    close: Close, charges: dict[_Place, list[_Charge]], tiers: dict[_Place, dict[str, str]]
) -> ClosedPeriod:
    place = (close.customer, close.period)
    own = charges.get(place, [])
    return ClosedPeriod(
        *close[:5],
        _by_price(own, tiers.get(place, {})),
        sum(c.micro for c in own),
        _problem(own, close),
        close.revision,
    )


def plain(number: Decimal) -> str:
    """A number as people read it: no exponent, no trailing zeros."""
    return f"{number.normalize():,f}"


def _by_price(charges: list[_Charge], tiers: dict[str, str]) -> tuple[PriceTotal, ...]:
    by_price: dict[str, list[_Charge]] = {}
    for c in charges:
        by_price.setdefault(c.price, []).append(c)
    return tuple(_total(found, tiers.get(price, "")) for price, found in sorted(by_price.items()))


def _total(charges: list[_Charge], tiers: str) -> PriceTotal:
    first = charges[0]
    return PriceTotal(
        first.price,
        first.meter,
        sum((c.quantity for c in charges), Decimal(0)),
        sum(c.micro for c in charges),
        first.kind,
        first.corrects,
        tiers,
        tuple(HourCharge(c.hour, c.quantity, c.micro) for c in charges),
    )


def _problem(charges: list[_Charge], close: Close) -> str:
    if close.errors:
        return f"{close.errors} hours have no price: correct the rate card"
    if len(charges) != close.rows:
        return f"{len(charges)} of {close.rows} charges have arrived: wait for the sink"
    if sum(c.micro for c in charges) != parse_decimal(close.amount, MICRO):
        return f"the charges do not add up to the close record's {close.amount}"
    if close_digest([(c.price, c.hour, c.micro) for c in charges]) != close.digest:
        return "the charges differ from what was closed (digest)"
    return ""
