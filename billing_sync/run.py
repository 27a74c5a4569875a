"""Rounds of billing for a deployment, and what came of them."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError

from billing_sync.books import ClickHouseBooks
from billing_sync.catalog_stream import tell_catalog
from billing_sync.config import BillingConfig, load_config
from billing_sync.currencies import major
from billing_sync.desk import Who
from billing_sync.export import export_findings, export_invoices
from billing_sync.ledger import Action, Entry, Ledger, LedgerBusy, ledger_url
from billing_sync.metrics import NOTHING, Standing, standing_of
from billing_sync.pace import Pace, Waiting
from billing_sync.planning import Waits
from billing_sync.port import Halt, Provider, Rejected
from billing_sync.providers.files import FileProvider
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider, api_key
from billing_sync.reconcile import Finding, Reconciler, Scope
from billing_sync.round import Round
from billing_sync.stripe_fake.server import running
from billing_sync.webhooks.inbox import Inbox, inbox_url
from billing_sync.webhooks.worker import Worker
from metering.settings import Settings
from metering.sinks.client import connect

log = structlog.get_logger()

_MICRO = Decimal(1_000_000)
_BUSY_PAUSE = 0.2


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


@dataclass
class Checks:
    """What goes on from round to round: reconcile in small steps, so many requests each, and the pace."""

    requests: int
    pace: Pace | None = None
    exported: int = 0  # epoch seconds up to which the dashboards know the ledger
    drifted: list[Finding] = field(default_factory=list)
    standing: Standing = NOTHING


class Parts(NamedTuple):
    """What a round of a deployment is made of."""

    client: Any  # of ClickHouse
    config: BillingConfig
    work: Round
    ledger: Ledger
    provider: Provider
    reconciler: Reconciler


def run_once(
    settings: Settings, *, period: str | None = None, live: bool = False, checks: Checks | None = None
) -> RunResult:
    """Bill every closed period that can be billed; a second call finds nothing to do.

    With `checks` a few customers are reconciled after the round, and its work is spread over the hour.
    """
    with billing(settings, live=live, checks=checks) as parts:
        if checks is not None:
            checks.pace = parts.work.pace
        _process_inbox(settings, parts)
        if parts.config.plans:
            tell_catalog(settings, parts.ledger.subscriptions(), parts.config)
        parts.work.run(period)
        _export_changes(parts, checks)
        if checks is not None:
            _check_some(parts, checks)
            checks.standing = standing_of(parts.ledger)
        return result_of(parts.work, parts.ledger, parts.provider, period)


def _export_changes(parts: Parts, checks: Checks | None) -> None:
    """The first round of a process exports everything, the next ones what has changed."""
    now = _now()

    def work() -> None:
        export_invoices(parts.client, parts.ledger.entries(since=checks.exported if checks else 0))
        if checks is not None:
            checks.exported = now

    _export(work)


def _process_inbox(settings: Settings, parts: Parts) -> None:
    """What the webhook endpoint has stored since the last round."""
    inbox = Inbox(inbox_url(ledger_url(settings)))
    try:
        Worker(inbox, parts.ledger, parts.provider, parts.work.exchange, _now).run()
    except Halt as error:
        log.warning("webhooks wait for a key that is accepted", reason=str(error))
    finally:
        inbox.close()


def _now() -> int:
    return int(time.time())


def _check_some(parts: Parts, checks: Checks) -> None:
    try:
        found = parts.reconciler.step(checks.requests)
    except (Waiting, Rejected, Halt) as error:
        log.warning("reconcile goes on with the next round", reason=str(error))
        return
    _export(lambda: export_findings(parts.client, found))
    checks.drifted = [f for f in found if f.is_drift]


def reconcile(
    settings: Settings, scope: Scope, *, repaired_by: Who | None = None, live: bool = False
) -> tuple[list[Finding], int]:
    """Compare, and plan repairs if somebody wants them: the findings, and how many repairs were planned."""
    with billing(settings, live=live) as parts:
        found = parts.reconciler.check(scope)
        _export(lambda: export_findings(parts.client, found))
        if repaired_by is None:
            return found, 0
        planned = parts.reconciler.repair(found)
        subject = f"{planned} repairs: {' '.join(filter(None, scope)) or 'everything'}"
        parts.ledger.record(
            Action(_now(), repaired_by.actor, "reconcile --repair", subject, repaired_by.reason)
        )
        return found, planned


def _export(work: Callable[[], None]) -> None:
    """Dashboards may be behind; billing is not held up by them."""
    try:
        work()
    except (ClickHouseError, OSError) as error:
        log.warning("the dashboards' tables were not written", error=str(error).splitlines()[0])


@contextmanager
def billing(settings: Settings, *, live: bool = False, checks: Checks | None = None) -> Iterator[Parts]:
    """A round's parts for a deployment, released at the end."""
    pace = checks.pace if checks else None
    config = load_config(settings)
    with (
        connect(settings.clickhouse(), settings.database) as client,
        provider_for(settings, config, live=live) as provider,
        open_ledger(settings) as ledger,
    ):
        is_ours = is_fake() or config.provider == "files"
        may_create = is_ours if config.create_customers is None else config.create_customers
        books = ClickHouseBooks(client, settings.partitions)
        work = Round(
            books,
            ledger,
            provider,
            config=config,
            may_create=may_create,
            pace=pace,
            spread_seconds=config.spread_minutes * 60 if checks else 0,
        )
        checker = Reconciler(books, ledger, provider, work.exchange, config=config, clock=_now)
        yield Parts(client, config, work, ledger, provider, checker)


@contextmanager
def open_ledger(settings: Settings, *, patience: float = 0.0) -> Iterator[Ledger]:
    """The deployment's ledger; a command of a person waits for a round to end."""
    deadline = time.monotonic() + patience
    while True:
        try:
            ledger = Ledger(ledger_url(settings))
            break
        except LedgerBusy:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_BUSY_PAUSE)
    try:
        yield ledger
    finally:
        ledger.close()


def result_of(work: Round, ledger: Ledger, provider: Provider, period: str | None) -> RunResult:
    """What a round came to."""
    invoices = [_result(entry) for entry in ledger.entries(period)]
    return RunResult(provider.name, invoices, work.waits, work.sent_now)


def standing(settings: Settings, period: str | None = None) -> RunResult:
    """What the rounds so far came to, from the ledger alone."""
    with open_ledger(settings) as ledger:
        waits = [(p.customer, p.period, p.reason) for p in ledger.parked() if period in (None, p.period)]
        return RunResult(_name(settings), [_result(entry) for entry in ledger.entries(period)], waits)


def _name(settings: Settings) -> str:
    if load_config(settings).provider == "files":
        return "files"
    return "Stripe fake" if is_fake() else "Stripe"


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
        yield StripeProvider(key or FAKE_KEY, base=base, live=live, tax_of=config.tax_of)
        return
    state = settings.home / "billing" / "stripe_fake.sqlite3"
    with running(state) as (address, _):
        yield StripeProvider(FAKE_KEY, base=address, tax_of=config.tax_of)
