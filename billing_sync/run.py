"""One round of billing: closed periods to plans, plans to invoices, and what came of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from billing_sync.books import BookSource, ClickHouseBooks, ClosedPeriod
from billing_sync.currencies import exponent_and_step
from billing_sync.ledger import Entry, Ledger, ledger_path
from billing_sync.planner import invoice_id, plan_invoice, plan_restatement
from billing_sync.port import Halt
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider, api_key
from billing_sync.sender import Sender
from billing_sync.stripe_fake.server import running
from metering.errors import UserError
from metering.settings import Settings
from metering.sinks.client import connect

_OPEN_STATES = ("planned", "inflight", "delivered", "verified", "unknown")
_MICRO = Decimal(1_000_000)


@dataclass(frozen=True)
class InvoiceResult:
    """One invoice as the ledger has it; amounts in the currency's major unit."""

    customer: str
    period: str
    currency: str
    state: str
    reason: str
    number: str
    lines: int
    rated: Decimal
    invoiced: Decimal
    carried_before: Decimal
    carried_after: Decimal


@dataclass
class RunResult:
    """A round: every invoice of the periods asked for, what waits, and how many were sent now."""

    provider: str
    invoices: list[InvoiceResult] = field(default_factory=list)
    waiting: list[tuple[str, str, str]] = field(default_factory=list)
    sent_now: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits and nothing is blocked."""
        return not self.waiting and all(i.state in ("finalized", "carried") for i in self.invoices)


def run_once(settings: Settings, *, period: str | None = None, live: bool = False) -> RunResult:
    """Bill every closed period that can be billed; a second call finds nothing to do."""
    with (
        connect(settings.clickhouse(), settings.database) as client,
        provider_for(settings, live=live) as provider,
    ):
        ledger = Ledger(ledger_path(settings))
        try:
            return bill(ClickHouseBooks(client), ledger, Sender(ledger, provider), provider.name, period)
        finally:
            ledger.close()


def bill(books: BookSource, ledger: Ledger, sender: Sender, provider: str, period: str | None) -> RunResult:
    """One round over given books, ledger and sender."""
    result = RunResult(provider)
    closed = list(books.closed_periods(period))
    for one in closed:
        _plan(one, ledger, result)
    people = {one.customer: one for one in closed}
    for entry in ledger.entries(period):
        if entry.state in _OPEN_STATES and entry.plan.customer in people:
            one = people[entry.plan.customer]
            try:
                sender.send(entry, one.name, one.external_customer)
            except Halt as error:
                raise UserError(
                    f"the provider refuses our key: {error}",
                    hint="check STRIPE_API_KEY and its permissions; nothing was lost",
                ) from error
            result.sent_now += 1
    result.invoices = [_result(entry) for entry in ledger.entries(period)]
    return result


def _plan(one: ClosedPeriod, ledger: Ledger, result: RunResult) -> None:
    first = invoice_id(one.customer, one.period, one.currency)
    latest = invoice_id(one.customer, one.period, one.currency, one.revision)
    if ledger.entry(latest) is not None:
        return
    if one.problem:
        ledger.park(one.customer, one.period, one.problem)
        result.waiting.append((one.customer, one.period, one.problem))
        return
    invoiced = ledger.planned(one.customer, one.period, one.currency)
    if not one.prices and not invoiced:
        return  # closed without usage: nothing to charge
    carry = ledger.carry(one.customer, one.currency)
    if ledger.entry(first) is None:
        ledger.add_plan(plan_invoice(one, carry))
    elif one.micro != invoiced:
        ledger.add_plan(plan_restatement(one, invoiced, carry))


def _result(entry: Entry) -> InvoiceResult:
    plan = entry.plan
    exponent, _ = exponent_and_step(plan.currency)
    return InvoiceResult(
        customer=plan.customer,
        period=plan.period,
        currency=plan.currency,
        state=entry.state,
        reason=entry.reason,
        number=entry.number,
        lines=len(plan.lines),
        rated=Decimal(plan.micro) / _MICRO,
        invoiced=Decimal(plan.minor).scaleb(-exponent),
        carried_before=Decimal(plan.carry_in) / _MICRO,
        carried_after=Decimal(plan.carry_out) / _MICRO,
    )


@contextmanager
def provider_for(settings: Settings, *, live: bool = False) -> Iterator[StripeProvider]:
    """Stripe when a key is set, a fake at STRIPE_API_BASE, else a fake for this run's duration."""
    key, base = api_key(), os.environ.get("STRIPE_API_BASE", "")
    if key or base:
        yield StripeProvider(key or FAKE_KEY, base=base, live=live)
        return
    state = settings.home / "billing" / "stripe_fake.sqlite3"
    with running(state) as (address, _):
        yield StripeProvider(FAKE_KEY, base=address)
