"""What the command line reads from the books: typed answers, exact numbers."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from metering.catalog.resolved import Catalog
from metering.rating.terms import Period
from metering.rating.usage import HourUse
from metering.rerate import cuts, read_usage


class Counters(NamedTuple):
    """Events of all partitions: read = accepted + duplicates + rejected."""

    read: int
    accepted: int
    duplicates: int
    rejected: int
    late: int


class BillLine(NamedTuple):
    """What one tier, cell or rule of one card version came to in a period."""

    price: str
    meter: str
    line: str
    card: str
    card_version: str
    tier: int
    label: str
    units: Decimal
    billed: Decimal
    unit_price: Decimal
    flat_fees: Decimal
    amount: Decimal


class BillEffect(NamedTuple):
    """What a maximum, a discount, a cap, a conversion or proration added to a price."""

    price: str
    card_version: str
    name: str
    amount: Decimal


class Bill(NamedTuple):
    """A customer's period: Σ lines + Σ effects + rounding = total."""

    customer: str
    name: str
    period: str
    currency: str
    lines: list[BillLine]
    effects: list[BillEffect]
    rounding: Decimal
    total: Decimal
    is_closed: bool


class Close(NamedTuple):
    """A closed period, and whether the charges that are here are those it speaks of."""

    customer: str
    period: str
    amount: Decimal
    agrees: bool


class Books:
    """The reads over one blocking client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def _rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return list(self._client.query(sql, parameters=parameters).result_rows)

    def counters(self) -> Counters:
        """Events read and what became of them."""
        (row,) = self._rows(
            "SELECT sum(read), sum(accepted), sum(duplicates), sum(rejected), sum(late)"
            " FROM progress_current WHERE fold = 'meter'"
        )
        return Counters(*map(int, row))

    def folded(self) -> dict[int, int]:
        """Next offset of each partition of usage.events."""
        rows = self._rows("SELECT partition, next_offset FROM progress_current WHERE fold = 'meter'")
        return {int(partition): int(offset) for partition, offset in rows}

    def watermarks(self) -> dict[int, int]:
        """How far event time has come in each partition of usage.events, epoch ms."""
        rows = self._rows(
            "SELECT partition, toUnixTimestamp64Milli(watermark) FROM progress_current WHERE fold = 'meter'"
        )
        return {int(partition): int(time) for partition, time in rows}

    def stored(self) -> dict[tuple[str, int], int]:
        """Next offset of each topic's partition that the sink will store."""
        rows = self._rows("SELECT k_topic, k_partition, next_offset FROM sink_progress_current")
        return {(topic, int(p)): int(offset) for topic, p, offset in rows}

    def rejected_by_reason(self) -> dict[str, int]:
        """Dead letters by reason, most first."""
        rows = self._rows(
            "SELECT reason, count() FROM rejected_current GROUP BY reason ORDER BY count() DESC, reason"
        )
        return {reason: int(count) for reason, count in rows}

    def archived(self) -> tuple[int, int]:
        """Readable copies of events, and the distinct events among them."""
        (row,) = self._rows("SELECT count(), uniqExact(customer, source, id) FROM events_current")
        return int(row[0]), int(row[1])

    def metered(self, period: str) -> dict[str, Decimal]:
        """What each meter counted in a period."""
        rows = self._rows(
            "SELECT meter, sum(quantity) FROM hourly_current"
            " WHERE formatDateTime(hour, '%Y-%m') = {period:String} GROUP BY meter ORDER BY meter",
            period=period,
        )
        return dict(rows)

    def usage(self, catalog: Catalog, period: Period, customer: str = "") -> Iterator[HourUse]:
        """The usage of a period, kept apart where a catalog needs it; see `metering.rerate`."""
        return read_usage(self._client, cuts(period, catalog), period, customer)

    def customers_metered(self, period: str) -> int:
        """How many customers have usage in a period."""
        ((count,),) = self._rows(
            "SELECT uniqExact(customer) FROM hourly_current"
            " WHERE formatDateTime(hour, '%Y-%m') = {period:String}",
            period=period,
        )
        return int(count)

    def charged(self, period: str) -> dict[str, Decimal]:
        """The sum of the hourly charges of a period by customer, largest first."""
        rows = self._rows(
            "SELECT customer, sum(amount) AS total FROM charges_current"
            " WHERE period = {period:String} GROUP BY customer ORDER BY total DESC, customer",
            period=period,
        )
        return dict(rows)

    def charge_rows(self, period: str) -> int:
        """The number of hourly charges of a period."""
        ((count,),) = self._rows(
            "SELECT count() FROM charges_current WHERE period = {period:String}", period=period
        )
        return int(count)

    def rating_errors(self, period: str) -> int:
        """Usage of a period that no price covers."""
        ((count,),) = self._rows(
            "SELECT count() FROM rating_errors_current WHERE period = {period:String}",
            period=period,
        )
        return int(count)

    def closes(self, period: str) -> list[Close]:
        """The customers whose period is closed."""
        rows = self._rows(
            "SELECT customer, period, amount_closed, agrees FROM close_check"
            " WHERE period = {period:String} ORDER BY customer",
            period=period,
        )
        return [Close(c, p, amount, bool(agrees)) for c, p, amount, agrees in rows]

    def bill(self, customer: str, period: str) -> Bill | None:
        """The bill of a customer's period as it stands; None when nothing was charged."""
        lines = self._rows(
            "SELECT price, meter, line, card, card_version, tier, label, units, billed, unit_price,"
            " flat_fees, amount"
            " FROM bill_lines WHERE customer = {customer:String} AND period = {period:String}"
            " AND (units != 0 OR billed != 0 OR amount != 0)"
            " ORDER BY line NOT IN ('usage', 'flat'), price, first_hour, card_version, label, tier",
            customer=customer,
            period=period,
        )
        effects = self._rows(
            "SELECT price, card_version, name, amount FROM bill_effects"
            " WHERE customer = {customer:String} AND period = {period:String} AND amount != 0"
            " ORDER BY price, first_hour, card_version, name",
            customer=customer,
            period=period,
        )
        totals = self._rows(
            "SELECT currency, sum(rounding), sum(amount) FROM charges_current"
            " WHERE customer = {customer:String} AND period = {period:String} GROUP BY currency",
            customer=customer,
            period=period,
        )
        if not totals:
            return None
        currency, rounding, total = totals[0]
        closed = any(c.customer == customer for c in self.closes(period))
        found = [BillLine(*line) for line in lines]
        name = self.name(customer)
        moved = [BillEffect(*effect) for effect in effects]
        return Bill(customer, name, period, currency, found, moved, rounding, total, closed)

    def name(self, customer: str) -> str:
        """The name of a customer in the latest catalog; its id when it has none."""
        rows = self._rows(
            "SELECT name FROM catalog_customers_current WHERE customer = {customer:String}",
            customer=customer,
        )
        return str(rows[0][0]) if rows else customer
