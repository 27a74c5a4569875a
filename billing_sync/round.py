"""One round: what is wanted goes into the ledger, what is open goes to the provider."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

from billing_sync.accounts import Accounts, Stopped, Unmapped
from billing_sync.books import BookSource, Close, ClosedPeriod
from billing_sync.config import BillingConfig
from billing_sync.exchange import Exchange
from billing_sync.ledger import CarryChanged, ClaimLost, Entry, Ledger, MeterHour
from billing_sync.meters import MeterSender, expired_hours, plan_hours, unsettled_hours
from billing_sync.pace import Pace, Paused, Sleep, Waiting
from billing_sync.planner import Plan, Rules, billable, invoice_id, plan_invoice, plan_restatement
from billing_sync.port import CustomerMissing, Halt, MeterProvider, Provider, Rejected
from billing_sync.sender import InvoiceSender
from metering.errors import UserError

OPEN = ("planned", "inflight", "delivered", "verified", "unknown")
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
        planned = self._ledger.planned_ids()
        for close in self._books.closes(period):
            people[close.customer] = Someone(close.name, close.external_customer)
            if _id(close) not in planned:
                self._plan(close)
        return people

    def _plan(self, close: Close) -> None:
        ledger, customer = self._ledger, close.customer
        if not ledger.claim(customer, self._clock()):
            return  # another sender plans it now
        try:
            found = None if ledger.entry(_id(close)) else self.planned(close)
            if isinstance(found, str):
                ledger.park(customer, close.period, found, self._clock())
                self.waits.append((customer, close.period, found))
            elif found is not None:
                ledger.add_plan(found, self._clock())
        except CarryChanged:
            return  # another sender was faster: the next round plans with the new carry
        finally:
            ledger.release(customer)

    def planned(self, close: Close, *, is_dry: bool = False) -> Plan | str | None:
        """The plan of a close that has none, why there can be none yet, or nothing to bill."""
        ledger, customer = self._ledger, close.customer
        if ledger.is_held(customer, close.period):
            return "held back by `periods freeze`"
        closed = self._books.read(close)
        if closed.problem:
            return closed.problem
        metered = frozenset(self._config.rules_for(customer))
        missing = unsettled_hours(closed, ledger, metered) if metered else []
        for price, hour in missing if not is_dry else ():
            ledger.want_hour(customer, price, hour.hour, hour.quantity)
        if missing:
            return f"{len(missing)} hours are not at the meter yet"
        rules = Rules(
            self._provider.caps.lines_per_invoice,
            self._config.minimum.get(close.currency, 0),
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
        return plan_restatement(closed, invoiced, carry, corrections, rules)

    def _send(self, period: str | None, people: dict[str, Someone]) -> None:
        entries: dict[str, list[Entry]] = {}
        for entry in self._ledger.entries_in(*OPEN):
            if period in (None, entry.plan.period):
                entries.setdefault(entry.plan.customer, []).append(entry)
        hours: dict[str, list[MeterHour]] = {}
        for hour in self._ledger.open_hours():
            hours.setdefault(hour.customer, []).append(hour)
        for customer in sorted({*entries, *hours}):
            someone = people.get(customer)
            if someone is None:
                continue  # not in the books that were asked for
            with self._claimed(customer) as is_mine:
                if is_mine:
                    self._send_all(customer, someone, hours.get(customer, []), entries.get(customer, []))

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
        rule = self._config.customers.get(entry.plan.customer)
        self._ledger.unpark(entry.plan.customer, entry.plan.period)
        self.sent_now += 1
        try:
            self._invoices.send(current, account, rule.subscription if rule else "")
        except CustomerMissing:
            self._ledger.set_state(entry.plan.id, "planned", now=self._clock())
            raise
        except Rejected as error:
            self.waits.append((entry.plan.customer, entry.plan.period, str(error)))


def _id(close: Close) -> str:
    return invoice_id(close.customer, close.period, close.currency, close.revision)
