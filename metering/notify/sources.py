"""Where happenings come from: the books, what billing sync exported, the inbox of the payment provider."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from billing_sync.ledger.store import SQLITE, ledger_url
from billing_sync.webhooks.inbox import inbox_url
from metering.errors import UserError
from metering.explain import plain
from metering.notify.happening import Happening, Kind
from metering.settings import Settings

_QUOTAS: dict[str, Kind] = {
    "threshold": "quota.threshold",
    "blocked": "quota.blocked",
    "unblocked": "quota.unblocked",
    "overrun": "quota.overrun",
}
_QUOTA = (
    "SELECT id, event, happened, scope, meter, limit_id, window_start, percent, posted, amount"
    " FROM quota_events_current WHERE event IN {kinds:Array(String)}"
    " AND toUnixTimestamp64Milli(happened) >= {since:Int64} * 1000 ORDER BY happened, id"
)
_FAILED = (
    "SELECT invoice, state, changed, customer, period, currency, reason FROM billing_invoices_current"
    " WHERE state IN ('blocked', 'blocked_tax', 'unknown') ORDER BY invoice"
)
_DRIFT = (
    "SELECT customer, kind, subject, verdict, checked, period, wanted, held, note"
    " FROM billing_reconcile_current WHERE verdict NOT IN ('ok', 'lagging') ORDER BY customer, subject"
)
# A month is closed when each customer with charges in it is.
_MONTHS = (
    "SELECT c.period, c.customers, c.closed FROM (SELECT period, uniqExact(customer) AS customers,"
    " max(watermark) AS closed FROM period_closes_current GROUP BY period) AS c"
    " INNER JOIN (SELECT period, uniqExact(customer) AS customers FROM charges_current GROUP BY period) AS r"
    " ON r.period = c.period WHERE c.customers >= r.customers ORDER BY c.period"
)
_RESTATED = (
    "SELECT customer, period, revision, watermark, amount, currency FROM period_closes_history"
    " WHERE revision > 0 ORDER BY customer, period, revision"
)
_CUSTOMERS = "SELECT invoice, customer FROM billing_invoices_current WHERE invoice IN {ours:Array(String)}"
_PAYMENTS = (
    "SELECT id, body, received FROM webhook WHERE kind = 'invoice.payment_failed' ORDER BY received, id"
)


def happenings(client: Any, settings: Settings, since: int) -> list[Happening]:
    """Everything that is to be told, seen before or not; quota events from `since` (epoch s) on."""
    return [*_quotas(client, since), *_billing(client), *_periods(client), *_payments(client, settings)]


def _quotas(client: Any, since: int) -> Iterator[Happening]:
    rows = client.query(_QUOTA, parameters={"kinds": list(_QUOTAS), "since": since}).result_rows
    for found, event, at, scope, meter, limit, window, percent, posted, amount in rows:
        facts = {"customer": scope, "meter": meter, "limit": limit, "window_start": _time(window)}
        facts |= {"percent": str(percent), "used": _number(posted), "of": _number(amount)}
        yield Happening(_QUOTAS[event], (found,), at, facts)


def _billing(client: Any) -> Iterator[Happening]:
    for invoice, state, at, customer, period, currency, reason in client.query(_FAILED).result_rows:
        facts = {"invoice": invoice, "state": state, "customer": customer, "period": period}
        facts |= {"currency": currency, "reason": reason}
        yield Happening("billing.sync_failed", (invoice, state, _time(at)), at, facts)
    for customer, kind, subject, verdict, at, period, wanted, held, note in client.query(_DRIFT).result_rows:
        facts = {"customer": customer, "compared": kind, "subject": subject, "verdict": verdict}
        facts |= {"period": period, "wanted": _number(wanted), "held": _number(held), "note": note}
        # Not the time: it is found again by every reconciliation until somebody acts.
        yield Happening("billing.drift", (customer, kind, subject, verdict, facts["held"]), at, facts)


def _periods(client: Any) -> Iterator[Happening]:
    for period, customers, at in client.query(_MONTHS).result_rows:
        facts = {"period": period, "customers": str(customers)}
        yield Happening("period.month_closed", (period,), at, facts)
    for customer, period, revision, at, amount, currency in client.query(_RESTATED).result_rows:
        facts = {"customer": customer, "period": period, "revision": str(revision)}
        facts |= {"amount": f"{amount:f}", "currency": currency}
        yield Happening("period.restated", (customer, period, str(revision)), at, facts)


def _payments(client: Any, settings: Settings) -> Iterator[Happening]:
    """The provider's invoice names ours; whose it is stands in what billing sync exported."""
    found = [
        (event, json.loads(body).get("data", {}).get("object", {}), received)
        for event, body, received in _inbox(inbox_url(ledger_url(settings)))
    ]
    ours = sorted({_ours(invoice) for _, invoice, _ in found} - {""})
    whose = dict(client.query(_CUSTOMERS, parameters={"ours": ours}).result_rows) if ours else {}
    for event, invoice, received in found:
        facts = {"invoice": str(invoice.get("number") or invoice.get("id") or "")}
        facts |= {"customer": str(whose.get(_ours(invoice), ""))}
        facts |= {"attempt": str(invoice.get("attempt_count", ""))}
        yield Happening("billing.payment_failed", (event,), datetime.fromtimestamp(received, UTC), facts)


def _ours(invoice: dict[str, Any]) -> str:
    return str((invoice.get("metadata") or {}).get("um_invoice", ""))


def _inbox(url: str) -> Iterable[Any]:
    """What billing's webhook endpoint keeps; nothing where none has run."""
    if url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE)).exists():
        return []
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(_PAYMENTS)))
    except DBAPIError as error:
        raise UserError(
            f"the inbox of billing cannot be read: {error.orig}", hint="see METERING_LEDGER_URL"
        ) from error
    finally:
        engine.dispose()


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _number(amount: Any) -> str:
    return plain(amount).replace(",", "")
