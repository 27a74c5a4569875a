"""What is wanted, into the ledger: closed hours and periods that have no plan yet, many in a transaction."""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple, cast

from billing_sync.books import BookSource, Close, ClosedPeriod
from billing_sync.config import BillingConfig
from billing_sync.ledger import CarryChanged, Ledger
from billing_sync.meters import expired_hours, unsettled_hours
from billing_sync.planner import Credit, Plan, Rules, billable, invoice_id, plan_invoice, plan_restatement
from billing_sync.port import CreditProvider, Provider, Rejected, Retry, Unknown
from billing_sync.wanted_hours import plan_hours
from metering.errors import UserError

AT_ONCE = 500  # periods that are read and planned together
Waits = list[tuple[str, str, str]]  # customer, period and reason


class Someone(NamedTuple):
    """A customer as the books know it."""

    name: str
    account: str


class Planning:
    """Plans into one ledger for one provider."""

    def __init__(
        self,
        books: BookSource,
        ledger: Ledger,
        provider: Provider,
        config: BillingConfig,
        clock: Callable[[], int],
    ) -> None:
        self._books = books
        self._ledger = ledger
        self._provider = provider
        self._config = config
        self._clock = clock
        self.waits: Waits = []

    def run(self, period: str | None = None, *, has_meters: bool = False) -> dict[str, Someone]:
        """Everything that is wanted, in the ledger; the customers by id."""
        people: dict[str, Someone] = {}
        self.waits = []
        if self._config.meter_events:
            if not has_meters:
                raise UserError(f"{self._provider.name} has no meters", hint="remove meter_events")
            hours = plan_hours(self._books, self._ledger, self._config, self._clock())
            people |= {c: Someone(h.name, h.external_customer) for c, h in hours.items()}
            people |= self._with_open_hours(people.keys())
        planned, waiting = self._ledger.planned_ids(), []
        for close in self._books.closes(period):
            people[close.customer] = Someone(close.name, close.external_customer)
            if _id(close) not in planned:
                waiting.append(close)
        for start in range(0, len(waiting), AT_ONCE):
            self._plan_some(waiting[start : start + AT_ONCE])
        return people

    def _with_open_hours(self, known: Collection[str]) -> dict[str, Someone]:
        """Customers whose hours still have to be sent, although nothing new was read of them."""
        others = self._ledger.customers_with_open_hours().difference(known)
        found = {p.customer: Someone(p.name, p.external_customer) for p in self._books.people(sorted(others))}
        return {customer: found.get(customer, Someone(customer, "")) for customer in others}

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
        refused = dict(self._provider.caps.refused)
        if closed.currency.lower() in refused:
            return f"currency_refused: {closed.currency}: {refused[closed.currency.lower()]}"
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
        if self._adds_tax(place[0]):
            return None  # carried: the next invoice's tax is of what is left
        entries = self._ledger.entries_of(*place)
        for entry in entries:
            if entry.state == "finalized" and entry.plan.minor > 0 and entry.status != "void":
                given = sum(e.plan.minor for e in entries if e.plan.credits == entry.plan.id)
                return Credit(entry.plan.id, entry.plan.minor + given)
        return None

    def _adds_tax(self, customer: str) -> bool:
        """Whether invoices have tax, as far as it can be known; carrying is right in any case."""
        try:
            return cast("CreditProvider", self._provider).adds_tax(customer)
        except (Retry, Unknown, Rejected):
            return True


def _id(close: Close) -> str:
    return invoice_id(close.customer, close.period, close.currency, close.revision)
