"""Metered hours: what of a closed period has come to rest, and bringing an hour to the provider.

An hour is set, never added to: its last total counts, so late usage is the same hour once more. An
hour that grew too old for the meter becomes part of an invoice line.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256

from billing_sync.books import ClosedPeriod, HourCharge
from billing_sync.exchange import Exchange
from billing_sync.ledger import Ledger, MeterHour
from billing_sync.ledger.hours import SETTLED
from billing_sync.pace import Waiting
from billing_sync.port import CustomerMissing, MeterProvider, Rejected

HOUR, DAY = 3_600, 86_400
SEEN_SECONDS = 6 * HOUR  # within this time a summary shows what was sent; the provider names no bound
LARGEST_DIGITS = 15


def unsettled_hours(
    closed: ClosedPeriod, ledger: Ledger, metered: frozenset[str]
) -> list[tuple[str, HourCharge]]:
    """Price and hour of what has not yet come to rest of a closed period's metered hours."""
    known = {(h.meter, h.hour): h for h in ledger.hours(closed.customer)}
    missing = []
    for price in closed.prices:
        for hour in price.hours if price.price in metered else ():
            held = known.get((price.price, hour.hour))
            if held is None:
                is_open = hour.quantity != 0
            else:
                is_right = held.state in SETTLED and Decimal(held.quantity) == hour.quantity
                is_open = held.state != "expired" and not is_right
            if is_open:
                missing.append((price.price, hour))
    return missing


def expired_hours(ledger: Ledger, customer: str) -> dict[tuple[str, int], Decimal]:
    """What the meter holds, by price and hour, of hours whose rest is billed as a line."""
    found = (h for h in ledger.hours(customer) if h.state == "expired")
    return {(h.meter, h.hour): Decimal(h.at_meter) for h in found}


def identifier(hour: MeterHour) -> str:
    """One revision of one hour (R2); it goes to the provider as the event's identifier."""
    said = [hour.customer, hour.meter, hour.hour, hour.revision, hour.quantity]
    return "m1_" + sha256(json.dumps(said).encode()).hexdigest()[:40]


class MeterSender:
    """Brings metered hours to one provider, one revision after the other (R6)."""

    def __init__(
        self, ledger: Ledger, provider: MeterProvider, exchange: Exchange, clock: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._exchange = exchange
        self._clock = clock

    def send(self, hour: MeterHour, account: str, event_name: str) -> None:
        """Set one hour; its state in the ledger says what came of it."""
        try:
            if hour.hour < self._clock() - self._provider.caps.past_seconds + DAY:
                self._expire(hour, account, event_name)
            else:
                self._set(hour, account, event_name)
        except CustomerMissing:
            raise
        except Rejected as error:
            self._ledger.set_hour(hour, "rejected", reason=f"{error.code or 'refused'}: {error}")
            raise

    def _set(self, hour: MeterHour, account: str, event_name: str) -> None:
        if len(Decimal(hour.quantity).normalize().as_tuple().digits) > LARGEST_DIGITS:
            raise Rejected(f"{hour.quantity} has more than {LARGEST_DIGITS} digits", "value_invalid")
        name, value = identifier(hour), hour.quantity
        self._ledger.set_hour(hour, "inflight", sent_at=self._clock())

        def call(key: str) -> str:
            self._provider.set_hour(account, event_name, hour.hour, value, name, key)
            return name

        def find() -> str | None:
            return name if self._held(hour, account, event_name) == Decimal(value) else None

        self._exchange.once(hour.customer, name, name, call, find)
        self._ledger.set_hour(hour, "delivered", sent_at=self._clock())

    def _held(self, hour: MeterHour, account: str, event_name: str) -> Decimal | None:
        found = self._provider.held_hours(account, event_name, hour.hour, hour.hour + HOUR)
        return next((held.quantity for held in found if held.hour == hour.hour), None)

    def _expire(self, hour: MeterHour, account: str, event_name: str) -> None:
        """Too old for the meter: billed as a line, unless the meter holds something of it."""
        held = None
        if hour.sent_at:
            if self._clock() < hour.sent_at + SEEN_SECONDS:
                raise Waiting("an earlier attempt may not be seen yet")
            held = self._exchange.read(lambda: self._held(hour, account, event_name))
            if held == Decimal(hour.quantity):
                self._ledger.set_hour(hour, "delivered")
                return
            if held and not Decimal(hour.quantity):
                text = f"the meter holds {held} although nothing was used, and takes no correction"
                raise Rejected(text, "too_old")
        self._ledger.expire_hour(hour, held or Decimal(0))
