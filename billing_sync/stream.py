"""Metered hours over the provider's stream: many customers' hours in one request.

The stream says nothing: what it takes counts as delivered, and reconcile verifies it. An error report
names the request; its hours are sent again one by one, so that each gets an answer of its own.
"""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import NamedTuple

from billing_sync.exchange import Exchange
from billing_sync.ledger import Ledger, MeterHour
from billing_sync.meters import DAY, HOUR, LARGEST_DIGITS, identifier
from billing_sync.port import MeterProvider, StreamedHour

REPORTED = "reported"  # the reason of an hour that a report named


class Streamed(NamedTuple):
    """An hour with the account and the meter it goes to."""

    hour: MeterHour
    account: str
    event_name: str


class StreamSender:
    """Brings batches of hours to one provider."""

    def __init__(
        self, ledger: Ledger, provider: MeterProvider, exchange: Exchange, clock: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._exchange = exchange
        self._clock = clock
        self.most = provider.caps.stream_events

    def takes(self, hour: MeterHour) -> bool:
        """Whether an hour can go by stream: not too old, not too long, not named by a report."""
        is_young = hour.hour >= self._clock() - self._provider.caps.past_seconds + DAY
        digits = len(Decimal(hour.quantity).normalize().as_tuple().digits)
        return is_young and digits <= LARGEST_DIGITS and not hour.reason.startswith(REPORTED)

    def send(self, batch: Sequence[Streamed]) -> None:
        """Set some hours in one request; the same hours are the same request."""
        names = [identifier(one.hour) for one in batch]
        name = batch_id(names)
        now = self._clock()
        with self._ledger.transaction():
            for one in batch:
                self._ledger.set_hour(one.hour, "inflight", sent_at=now)
        events = [
            StreamedHour(one.account, one.event_name, one.hour.hour, one.hour.quantity, own)
            for one, own in zip(batch, names, strict=True)
        ]

        def call(key: str) -> str:
            self._provider.stream_hours(events, key)
            return name

        self._exchange.once("", name, name, call, lambda: name if self._all_held(batch) else None)
        with self._ledger.transaction():
            for one in batch:
                self._ledger.set_hour(one.hour, "delivered", reason=name, sent_at=self._clock())

    def _all_held(self, batch: Sequence[Streamed]) -> bool:
        return all(self._is_held(one) for one in batch)

    def _is_held(self, one: Streamed) -> bool:
        at, wanted = one.hour.hour, Decimal(one.hour.quantity)
        held = self._provider.held_hours(one.account, one.event_name, at, at + HOUR)
        return any(found.hour == at and found.quantity == wanted for found in held)


def batch_id(names: Sequence[str]) -> str:
    """A request of some hours, by their identifiers (R2)."""
    return "m2_" + sha256(json.dumps(sorted(names)).encode()).hexdigest()[:40]
