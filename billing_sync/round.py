"""One round: what is wanted goes into the ledger, what is open goes to the provider."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import cast

from billing_sync.accounts import Accounts, Stopped, Unmapped
from billing_sync.books import BookSource
from billing_sync.config import BillingConfig
from billing_sync.exchange import Exchange
from billing_sync.ledger import ClaimLost, Entry, Ledger, MeterHour
from billing_sync.meters import MeterSender
from billing_sync.pace import Pace, Paused, Sleep, Waiting
from billing_sync.planning import Planning, Someone, Waits
from billing_sync.port import CustomerMissing, Halt, MeterProvider, Provider, Rejected
from billing_sync.sender import InvoiceSender
from billing_sync.stream import Streamed, StreamSender
from metering.errors import UserError

OPEN = ("planned", "inflight", "delivered", "verified", "unknown")
CLOSED_SECONDS = 75 * 60  # an hour, and the lateness after which it counts as over


class Round:
    """Plans and sends with one ledger and one provider."""

    def __init__(
        self,
        books: BookSource,
        ledger: Ledger,
        provider: Provider,
        *,
        config: BillingConfig | None = None,
        may_create: bool = True,
        clock: Callable[[], int] = lambda: int(time.time()),
        sleep: Sleep = time.sleep,
        pace: Pace | None = None,
        spread_seconds: int = 0,
    ) -> None:
        self._planning = Planning(books, ledger, provider, config or BillingConfig(), clock)
        self._ledger = ledger
        self._provider = provider
        self._config = config or BillingConfig()
        self._clock = clock
        self.pace = pace or Pace(provider.caps.requests_per_second, clock, sleep)
        self.exchange = Exchange(ledger, self.pace, clock, provider.caps.key_seconds)
        self._accounts = Accounts(ledger, provider, self.exchange, self._config, may_create=may_create)
        self._invoices = InvoiceSender(ledger, provider, self.exchange, clock)
        meters = cast("MeterProvider", provider) if provider.caps.meter_events else None
        self._meters = MeterSender(ledger, meters, self.exchange, clock) if meters else None
        is_stream = meters is not None and provider.caps.meter_stream and self._config.meter_stream
        stream = StreamSender(ledger, meters, self.exchange, clock) if meters and is_stream else None
        self._stream_sender = stream
        self._spread_seconds = spread_seconds
        self.sent_now = 0
        self.waits: Waits = []

    def run(self, period: str | None = None) -> None:
        """Plan, then send; what cannot go on is in `waits` and in the ledger, with its reason."""
        self.sent_now, self.waits = 0, []
        try:
            self._send(period, self.plan(period))
        except Paused as error:
            self.waits.append(("", "", str(error)))
        except Halt as error:
            raise UserError(
                f"the provider refuses our key: {error}",
                hint="check STRIPE_API_KEY and its permissions; nothing was lost",
            ) from error

    def plan(self, period: str | None = None) -> dict[str, Someone]:
        """Everything that is wanted, in the ledger; the customers by id."""
        people = self._planning.run(period, has_meters=self._meters is not None)
        self.waits += self._planning.waits
        return people

    def _send(self, period: str | None, people: dict[str, Someone]) -> None:
        self._stream(people)
        waiting = self._ledger.customers_in(*OPEN) | self._ledger.customers_with_open_hours()
        for customer in sorted(waiting):
            someone = people.get(customer)
            if someone is None:
                continue  # not in the books that were asked for
            entries = [
                e for e in self._ledger.entries_in(*OPEN, customer=customer) if self._is_due(e, period)
            ]
            hours = [h for h in self._ledger.open_hours(customer) if self._is_hour_due(h)]
            if not entries and not hours:
                continue
            with self._claimed(customer) as is_mine:
                if is_mine:
                    self._send_all(customer, someone, hours, entries)

    def _stream(self, people: dict[str, Someone]) -> None:
        """Hours of many customers in few requests; what cannot go this way goes on its own afterwards."""
        if self._stream_sender is None:
            return
        batch: list[Streamed] = []
        claimed: list[str] = []
        try:
            for customer in sorted(self._ledger.customers_with_open_hours() & people.keys()):
                hours = self._streamable(customer)
                if hours and self._ledger.claim(customer, self._clock()):
                    claimed.append(customer)
                    batch += self._streamed(customer, people[customer], hours)
            for start in range(0, len(batch), self._stream_sender.most):
                for one in (some := batch[start : start + self._stream_sender.most]):
                    self._ledger.claim(one.hour.customer, self._clock())
                self._stream_sender.send(some)
        except (Waiting, Rejected) as error:
            if isinstance(error, Paused):
                raise
            self.waits.append(("", "", f"stream: {error}"))
        finally:
            for customer in claimed:
                self._ledger.release(customer)

    def _streamable(self, customer: str) -> list[MeterHour]:
        assert self._stream_sender is not None, "it was asked before"
        rules, takes = self._config.rules_for(customer), self._stream_sender.takes
        hours = [h for h in self._ledger.open_hours(customer) if h.meter in rules and self._is_hour_due(h)]
        return [hour for hour in hours if takes(hour)]

    def _streamed(self, customer: str, someone: Someone, hours: list[MeterHour]) -> list[Streamed]:
        rules = self._config.rules_for(customer)
        try:
            account = self._account(customer, someone, [])
        except (Unmapped, Stopped, Rejected):
            return []  # its own turn says why
        return [Streamed(hour, account, rules[hour.meter]) for hour in hours]

    def _is_due(self, entry: Entry, period: str | None) -> bool:
        """Whether an invoice's place in the hour has come; a subscription's draft does not wait."""
        if period not in (None, entry.plan.period):
            return False
        is_begun = entry.state != "planned" or entry.reason
        if not self._spread_seconds or is_begun or self._subscription(entry.plan.customer):
            return True
        return self._clock() >= entry.changed + self._place(entry.plan.customer)

    def _is_hour_due(self, hour: MeterHour) -> bool:
        if not self._spread_seconds:
            return True
        return self._clock() >= hour.hour + CLOSED_SECONDS + self._place(hour.customer)

    def _place(self, customer: str) -> int:
        """The customer's own seconds in the time that work is spread over: no fan-out at midnight."""
        return int.from_bytes(sha256(customer.encode()).digest()[:8]) % self._spread_seconds

    def _subscription(self, customer: str) -> str:
        rule = self._config.customers.get(customer)
        return rule.subscription if rule else ""

    @contextmanager
    def _claimed(self, customer: str) -> Iterator[bool]:
        if not self._ledger.claim(customer, self._clock()):
            yield False
            return
        try:
            yield True
        except ClaimLost:
            self.waits.append((customer, "", "another sender took this customer over"))
        finally:
            self._ledger.release(customer)

    def _send_all(
        self, customer: str, someone: Someone, hours: list[MeterHour], entries: list[Entry]
    ) -> None:
        """One customer's open work; a fault ends this customer's round and nobody else's."""
        now = self._clock()
        try:
            account = self._account(customer, someone, entries)
            for hour in hours:
                self._send_hour(hour, account)
            for entry in sorted(entries, key=lambda e: e.plan.period):
                self._send_invoice(entry, account)
        except CustomerMissing as error:
            self._accounts.stop(customer, error, now)
            self._park(customer, entries, f"customer_missing: {error}")
        except (Unmapped, Stopped) as error:
            code = "customer_unmapped" if isinstance(error, Unmapped) else "stopped"
            self._park(customer, entries, f"{code}: {error}")
        except Paused:
            raise
        except (Waiting, Rejected) as error:
            self.waits.append((customer, "", str(error)))

    def _account(self, customer: str, someone: Someone, entries: list[Entry]) -> str:
        try:
            return self._accounts.of(customer, someone.name, someone.account, self._clock())
        except Waiting as error:
            for entry in entries:
                self._ledger.set_state(entry.plan.id, "unknown", reason=str(error), now=self._clock())
            raise

    def _park(self, customer: str, entries: list[Entry], reason: str) -> None:
        for entry in entries:
            self._ledger.park(customer, entry.plan.period, reason, self._clock())
        self.waits += [(customer, entry.plan.period, reason) for entry in entries] or [(customer, "", reason)]

    def _send_hour(self, hour: MeterHour, account: str) -> None:
        event_name = self._config.rules_for(hour.customer).get(hour.meter)
        current = self._ledger.hour(hour.customer, hour.meter, hour.hour)
        if current is None or current[:6] != hour[:6]:
            return  # another sender has moved it on
        if self._meters is None or event_name is None:
            text = f"no rule for {hour.meter} in meter_events any more"
            self._ledger.set_hour(hour, "rejected", reason=f"meter_missing: {text}")
            return
        try:
            self._meters.send(hour, account, event_name)
        except CustomerMissing:
            raise
        except Rejected as error:
            self.waits.append((hour.customer, "", str(error)))

    def _send_invoice(self, entry: Entry, account: str) -> None:
        current = self._ledger.entry(entry.plan.id)  # another sender may have moved it on
        if current is None or current.state not in OPEN:
            return
        self._ledger.unpark(entry.plan.customer, entry.plan.period)
        self.sent_now += 1
        try:
            self._invoices.send(current, account, self._subscription(entry.plan.customer))
        except CustomerMissing:
            self._ledger.set_state(entry.plan.id, "planned", now=self._clock())
            raise
        except Rejected as error:
            self.waits.append((entry.plan.customer, entry.plan.period, str(error)))
