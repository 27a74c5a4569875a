"""One round: what is wanted goes into the ledger, what is open goes to the provider."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import NamedTuple, cast

from billing_sync.accounts import Accounts, Stopped, Unmapped
from billing_sync.books import BookSource, Close, ClosedPeriod
from billing_sync.config import BillingConfig
from billing_sync.currencies import REFUSED
from billing_sync.exchange import Exchange
from billing_sync.ledger import CarryChanged, ClaimLost, Entry, Ledger, MeterHour
from billing_sync.meters import MeterSender, expired_hours, plan_hours, unsettled_hours
from billing_sync.pace import Pace, Paused, Sleep, Waiting
from billing_sync.planner import Credit, Plan, Rules, billable, invoice_id, plan_invoice, plan_restatement
from billing_sync.port import CustomerMissing, Halt, MeterProvider, Provider, Rejected
from billing_sync.sender import InvoiceSender
from metering.errors import UserError

OPEN = ("planned", "inflight", "delivered", "verified", "unknown")
AT_ONCE = 500  # periods that are read and planned together
CLOSED_SECONDS = 75 * 60  # an hour, and the lateness after which it counts as over
Waits = list[tuple[str, str, str]]


class Someone(NamedTuple):
    """A customer as the books know it."""

    name: str
    account: str


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
        self._books = books
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
        self._spread_seconds = spread_seconds
        self.sent_now = 0
        self.waits: Waits = []

    def run(self, period: str | None = None) -> None:
        """Plan, then send; what cannot go on is in `waits` and in the ledger, with its reason."""
        self.sent_now, self.waits = 0, []
        people = self.plan(period)
        try:
            self._send(period, people)
        except Paused as error:
            self.waits.append(("", "", str(error)))
        except Halt as error:
            raise UserError(
                f"the provider refuses our key: {error}",
                hint="check STRIPE_API_KEY and its permissions; nothing was lost",
            ) from error

    def plan(self, period: str | None = None) -> dict[str, Someone]:
        """Everything that is wanted, in the ledger; the customers by id."""
        people: dict[str, Someone] = {}
        if self._config.meter_events:
            if self._meters is None:
                raise UserError(f"{self._provider.name} has no meters", hint="remove meter_events")
            hours = plan_hours(self._books, self._ledger, self._config, self._clock())
            people |= {c: Someone(h.name, h.external_customer) for c, h in hours.items()}
        planned, waiting = self._ledger.planned_ids(), []
        for close in self._books.closes(period):
            people[close.customer] = Someone(close.name, close.external_customer)
            if _id(close) not in planned:
                waiting.append(close)
        for start in range(0, len(waiting), AT_ONCE):
            self._plan_some(waiting[start : start + AT_ONCE])
        return people

    def _plan_some(self, closes: list[Close]) -> None:
        """One transaction for many plans; if another sender was faster with one of them, one for each."""
        read = self._books.read(closes)
        try:
            with self._ledger.transaction():
                self.waits += [found for closed in read for found in self._plan(closed)]
        except CarryChanged:
            for closed in read:
                with suppress(CarryChanged), self._ledger.transaction():
                    self.waits += self._plan(closed)

    def _plan(self, closed: ClosedPeriod) -> Waits:
        found = self.planned(closed)
        if isinstance(found, str):
            self._ledger.park(closed.customer, closed.period, found, self._clock())
            return [(closed.customer, closed.period, found)]
        if found is not None:
            self._ledger.add_plan(found, self._clock())
        return []

    def planned(self, closed: ClosedPeriod, *, is_dry: bool = False) -> Plan | str | None:
        """The plan of a period that has none, why there can be none yet, or nothing to bill."""
        ledger, customer = self._ledger, closed.customer
        if ledger.is_held(customer, closed.period):
            return "held back by `periods freeze`"
        if closed.problem:
            return closed.problem
        if closed.currency.lower() in REFUSED:
            return f"currency_refused: {closed.currency}: {REFUSED[closed.currency.lower()]}"
        metered = frozenset(self._config.rules_for(customer))
        missing = unsettled_hours(closed, ledger, metered) if metered else []
        for price, hour in missing if not is_dry else ():
            ledger.want_hour(customer, price, hour.hour, hour.quantity)
        if missing:
            return f"{len(missing)} hours are not at the meter yet"
        rules = Rules(
            self._provider.caps.lines_per_invoice,
            self._config.minimum.get(
                closed.currency, dict(self._provider.caps.minimum).get(closed.currency, 0)
            ),
            metered,
            expired_hours(ledger, customer) if metered else {},
        )
        return self._invoice_of(closed, rules)

    def _invoice_of(self, closed: ClosedPeriod, rules: Rules) -> Plan | None:
        """The period's own invoice, or once it has one what a restatement changed."""
        ledger, place = self._ledger, (closed.customer, closed.period, closed.currency)
        carry = ledger.carry(closed.customer, closed.currency)
        corrections = [c for c, currency in ledger.corrections(closed.customer) if currency == place[2]]
        if ledger.entry(invoice_id(*place)) is None:
            if not closed.prices and not corrections:
                return None  # closed without usage: nothing to charge
            return plan_invoice(closed, carry, corrections, rules)
        invoiced = ledger.invoiced(*place)
        if billable(closed, rules) == invoiced:
            return None
        rules = rules._replace(credit=self._credit(place))
        return plan_restatement(closed, invoiced, carry, corrections, rules)

    def _credit(self, place: tuple[str, str, str]) -> Credit | None:
        """The period's invoice that a credit note could go to, if that is how we give back."""
        if not (self._config.credit_notes and self._provider.caps.credit_notes):
            return None
        entries = self._ledger.entries_of(*place)
        for entry in entries:
            if entry.state == "finalized" and entry.plan.minor > 0 and entry.status != "void":
                given = sum(e.plan.minor for e in entries if e.plan.credits == entry.plan.id)
                return Credit(entry.plan.id, entry.plan.minor + given)
        return None

    def _send(self, period: str | None, people: dict[str, Someone]) -> None:
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


def _id(close: Close) -> str:
    return invoice_id(close.customer, close.period, close.currency, close.revision)
