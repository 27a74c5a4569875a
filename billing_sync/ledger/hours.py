"""Metered hours in the ledger: the total that is wanted, and how far it came."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from billing_sync.ledger.store import Store

_COLUMNS = "customer, meter, hour, revision, quantity, state, reason, sent_at, at_meter"
_OPEN = "state IN ('planned', 'inflight')"
SETTLED = ("delivered", "verified", "expired")


class MeterHour(NamedTuple):
    """One hour of one meter; `hour` and `sent_at` in epoch seconds, `quantity` a plain decimal.

    `state`: planned, inflight, delivered, verified, rejected or expired: too old for the meter, which
    holds `at_meter` of it; the rest is billed as a line.
    """

    customer: str
    meter: str
    hour: int
    revision: int
    quantity: str
    state: str
    reason: str
    sent_at: int
    at_meter: str = "0"


class Hours(Store):
    """One row an hour with usage; a change is the next revision of the same hour."""

    def want_hour(self, customer: str, meter: str, hour: int, quantity: Decimal) -> bool:
        """Plan an hour's total; whether that is news. A revision waits while one is under way."""
        wanted = format(quantity.normalize(), "f")
        with self.transaction():
            held = self.hour(customer, meter, hour)
            if held is None:
                self._insert_hour(customer, meter, hour, wanted)
                return True
            if held.quantity == wanted or held.state in ("inflight", "expired"):
                return False
            self.run(
                "UPDATE meter_hour SET quantity = :quantity, revision = revision + 1, state = 'planned',"
                " reason = '' WHERE customer = :customer AND meter = :meter AND hour = :hour"
                " AND revision = :revision",  # another sender may have written it meanwhile
                customer=customer,
                meter=meter,
                hour=hour,
                quantity=wanted,
                revision=held.revision,
            )
        return True

    def _insert_hour(self, customer: str, meter: str, hour: int, quantity: str) -> None:
        self.run(
            "INSERT INTO meter_hour (customer, meter, hour, revision, quantity, state)"
            " VALUES (:customer, :meter, :hour, 0, :quantity, 'planned')"
            " ON CONFLICT (customer, meter, hour) DO NOTHING",
            customer=customer,
            meter=meter,
            hour=hour,
            quantity=quantity,
        )

    def hour(self, customer: str, meter: str, hour: int) -> MeterHour | None:
        """One hour."""
        where = "customer = :customer AND meter = :meter AND hour = :hour"
        found = self.rows(
            f"SELECT {_COLUMNS} FROM meter_hour WHERE {where}", customer=customer, meter=meter, hour=hour
        )
        return MeterHour(*found[0]) if found else None

    def hours(self, customer: str = "") -> list[MeterHour]:
        """Every hour, or those of a customer."""
        where, values = ("WHERE customer = :customer", {"customer": customer}) if customer else ("", {})
        rows = self.rows(
            f"SELECT {_COLUMNS} FROM meter_hour {where} ORDER BY customer, meter, hour", **values
        )
        return [MeterHour(*row) for row in rows]

    def hours_of(self, customers: Sequence[str], since: int) -> list[MeterHour]:
        """The hours of some customers from a moment on."""
        named = {f"c{n}": customer for n, customer in enumerate(customers)}
        rows = self.rows(
            f"SELECT {_COLUMNS} FROM meter_hour WHERE hour >= :since"
            f" AND customer IN ({', '.join(f':{name}' for name in named)})",
            since=since,
            **named,
        )
        return [MeterHour(*row) for row in rows]

    def open_hours(self, customer: str = "") -> list[MeterHour]:
        """Hours that have to be sent, of every customer or of one."""
        sql = f"SELECT {_COLUMNS} FROM meter_hour WHERE {_OPEN}"
        if customer:
            sql += " AND customer = :customer"
        rows = self.rows(
            sql + " ORDER BY customer, meter, hour", **({"customer": customer} if customer else {})
        )
        return [MeterHour(*row) for row in rows]

    def customers_with_open_hours(self) -> set[str]:
        """The customers that have hours to be sent."""
        return {str(c) for (c,) in self.rows(f"SELECT DISTINCT customer FROM meter_hour WHERE {_OPEN}")}

    def customers_with_hours(self) -> set[str]:
        """The customers with metered hours."""
        return {str(c) for (c,) in self.rows("SELECT DISTINCT customer FROM meter_hour")}

    def set_hour(self, held: MeterHour, state: str, *, reason: str = "", sent_at: int = 0) -> None:
        """Move an hour on, as long as it is still the same revision."""
        self.run(
            "UPDATE meter_hour SET state = :state, reason = :reason,"
            " sent_at = CASE WHEN :sent_at = 0 THEN sent_at ELSE :sent_at END"
            " WHERE customer = :customer AND meter = :meter AND hour = :hour AND revision = :revision",
            customer=held.customer,
            meter=held.meter,
            hour=held.hour,
            revision=held.revision,
            state=state,
            reason=reason,
            sent_at=sent_at,
        )

    def expire_hour(self, held: MeterHour, at_meter: Decimal) -> None:
        """The meter takes no more of this hour: what it does not hold is billed as a line."""
        self.run(
            "UPDATE meter_hour SET state = 'expired', at_meter = :at_meter,"
            " reason = 'too old for the meter: billed as a line'"
            " WHERE customer = :customer AND meter = :meter AND hour = :hour AND revision = :revision",
            customer=held.customer,
            meter=held.meter,
            hour=held.hour,
            revision=held.revision,
            at_meter=format(at_meter, "f"),
        )

    def report_hours(self, batch: str, code: str) -> int:
        """Send the hours of a streamed request again, one by one; how many there were."""
        sql = (
            "UPDATE meter_hour SET revision = revision + 1, state = 'planned', reason = :reason"
            " WHERE reason = :batch AND state IN ('delivered', 'verified')"
        )
        return self.run(sql, reason=f"reported: {code}", batch=batch).rowcount

    def repeat_hour(self, held: MeterHour) -> None:
        """Send an hour's total once more: what the provider holds differs from it."""
        self.run(
            "UPDATE meter_hour SET revision = revision + 1, state = 'planned', reason = 'repair'"
            " WHERE customer = :customer AND meter = :meter AND hour = :hour AND revision = :revision"
            " AND state IN ('delivered', 'verified', 'rejected')",
            customer=held.customer,
            meter=held.meter,
            hour=held.hour,
            revision=held.revision,
        )
