"""What the ledger and the reconciler know, to ClickHouse for dashboards; the ledger stays the truth."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing_sync.currencies import major
from billing_sync.ledger import Entry
from billing_sync.reconcile import Finding

_MICRO = Decimal(1_000_000)
_INVOICES = (
    "invoice customer period currency state reason external number rated invoiced carried_before"
    " carried_after changed version payment payment_told"
).split()
_FINDINGS = "customer kind subject period verdict wanted held note checked version".split()


def export_invoices(client: Any, entries: list[Entry]) -> None:
    """Every invoice of the ledger, as it stands; a later export replaces it."""
    now = time.time_ns()
    rows = [
        (
            entry.plan.id,
            entry.plan.customer,
            entry.plan.period,
            entry.plan.currency,
            entry.state,
            entry.reason,
            entry.external,
            entry.number,
            Decimal(entry.plan.micro) / _MICRO,
            major(entry.plan.minor, entry.plan.currency),
            Decimal(entry.plan.carry_in) / _MICRO,
            Decimal(entry.plan.carry_out) / _MICRO,
            datetime.fromtimestamp(entry.changed, UTC),
            now,
            entry.status,
            datetime.fromtimestamp(entry.told, UTC),
        )
        for entry in entries
    ]
    if rows:
        client.insert("billing_invoices", rows, column_names=_INVOICES)


def export_findings(client: Any, findings: list[Finding]) -> None:
    """What a reconciliation found; the newest finding of a subject counts."""
    now, version = datetime.now(UTC), time.time_ns()
    rows = [
        (f.customer, f.kind, f.subject, f.period, f.verdict, f.wanted, f.held, f.note, now, version)
        for f in findings
    ]
    if rows:
        client.insert("billing_reconcile", rows, column_names=_FINDINGS)
