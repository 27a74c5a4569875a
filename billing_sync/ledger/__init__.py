"""The ledger: what was planned, what was sent, what came of it; durable before each request.

An invoice goes planned → inflight → delivered → verified → finalized, or is carried, unknown (looked
up before anything is sent again) or blocked with a reason. A carried remainder changes in the
transaction that plans the invoice.
"""

from billing_sync.ledger.hours import Hours, MeterHour
from billing_sync.ledger.invoices import NOT_PAID, CarryChanged, Entry, Invoices, Parked
from billing_sync.ledger.people import Action, People, Person
from billing_sync.ledger.reader import LedgerReader
from billing_sync.ledger.requests import CLAIM_SECONDS, ClaimLost, Request, Requests
from billing_sync.ledger.store import MEMORY, LedgerBusy, ledger_url
from billing_sync.ledger.subscriptions import Subscribed, Subscriptions

__all__ = [
    "CLAIM_SECONDS",
    "MEMORY",
    "NOT_PAID",
    "Action",
    "CarryChanged",
    "ClaimLost",
    "Entry",
    "Ledger",
    "LedgerBusy",
    "LedgerReader",
    "MeterHour",
    "Parked",
    "Person",
    "Request",
    "Subscribed",
    "ledger_url",
]


class Ledger(Invoices, Requests, Hours, People, Subscriptions):
    """One ledger: a SQLite file held by one sender, or PostgreSQL shared by several."""
