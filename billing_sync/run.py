"""Rounds of billing for a deployment, and what came of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from billing_sync.books import ClickHouseBooks
from billing_sync.config import BillingConfig, load_config
from billing_sync.currencies import major
from billing_sync.ledger import Entry, Ledger, ledger_url
from billing_sync.port import Provider
from billing_sync.providers.files import FileProvider
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider, api_key
from billing_sync.round import Round, Waits
from billing_sync.stripe_fake.server import running
from metering.settings import Settings
from metering.sinks.client import connect

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
    waiting: Waits = field(default_factory=list)
    sent_now: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits and nothing is blocked."""
        return not self.waiting and all(i.state in ("finalized", "carried") for i in self.invoices)


def run_once(settings: Settings, *, period: str | None = None, live: bool = False) -> RunResult:
    """Bill every closed period that can be billed; a second call finds nothing to do."""
    with billing(settings, live=live) as (work, ledger, provider):
        work.run(period)
        return result_of(work, ledger, provider, period)


@contextmanager
def billing(settings: Settings, *, live: bool = False) -> Iterator[tuple[Round, Ledger, Provider]]:
    """A round's parts for a deployment, released at the end."""
    config = load_config(settings)
    with (
        connect(settings.clickhouse(), settings.database) as client,
        provider_for(settings, config, live=live) as provider,
        open_ledger(settings) as ledger,
    ):
        may_create = is_fake() if config.create_customers is None else config.create_customers
        books = ClickHouseBooks(client)
        yield Round(books, ledger, provider, config=config, may_create=may_create), ledger, provider


@contextmanager
def open_ledger(settings: Settings) -> Iterator[Ledger]:
    """The deployment's ledger."""
    ledger = Ledger(ledger_url(settings))
    try:
        yield ledger
    finally:
        ledger.close()


def result_of(work: Round, ledger: Ledger, provider: Provider, period: str | None) -> RunResult:
    """What a round came to."""
    invoices = [_result(entry) for entry in ledger.entries(period)]
    return RunResult(provider.name, invoices, work.waits, work.sent_now)


def _result(entry: Entry) -> InvoiceResult:
    plan = entry.plan
    return InvoiceResult(
        customer=plan.customer,
        period=plan.period,
        currency=plan.currency,
        state=entry.state,
        reason=entry.reason,
        number=entry.number,
        lines=len(plan.lines),
        rated=Decimal(plan.micro) / _MICRO,
        invoiced=major(plan.minor, plan.currency),
        carried_before=Decimal(plan.carry_in) / _MICRO,
        carried_after=Decimal(plan.carry_out) / _MICRO,
    )


def is_fake() -> bool:
    """Whether the deployment works against the fake: no key, or a fake's address."""
    return not api_key() or bool(os.environ.get("STRIPE_API_BASE", ""))


@contextmanager
def provider_for(
    settings: Settings, config: BillingConfig | None = None, *, live: bool = False
) -> Iterator[Provider]:
    """Files if the billing file says so, Stripe when a key is set, else a fake."""
    config = config or BillingConfig()
    key, base = api_key(), os.environ.get("STRIPE_API_BASE", "")
    if config.provider == "files":
        yield FileProvider(settings.home / "billing" / "files")
        return
    if key or base:
        yield StripeProvider(key or FAKE_KEY, base=base, live=live, automatic_tax=config.automatic_tax)
        return
    state = settings.home / "billing" / "stripe_fake.sqlite3"
    with running(state) as (address, _):
        yield StripeProvider(FAKE_KEY, base=address, automatic_tax=config.automatic_tax)
