"""Stripe behind the port, through the real SDK.

The SDK's own retries are off (the sender's rules decide), telemetry is off, the API version is
pinned, and live keys are refused unless they are asked for.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import stripe

from billing_sync.currencies import MINIMUM_CHARGE
from billing_sync.planner import Plan, PlannedLine, period_seconds
from billing_sync.port import Caps, CustomerMissing, Halt, HeldInvoice, HeldLine, Rejected
from billing_sync.providers.stripe_errors import ask
from billing_sync.stripe_fake.client import FakeClient
from billing_sync.stripe_fake.core import Fake
from metering.errors import UserError

API_VERSION = "2026-03-25.dahlia"
FAKE_KEY = "sk_test_local_fake"
_LIVE = ("sk_live_", "rk_live_")
_PAGE = 100
_TIMEOUT = (3, 20)  # seconds to connect, to answer
_LIVE_RATE, _TEST_RATE, _FAKE_RATE = 100.0, 25.0, 10_000.0  # requests a second that Stripe allows


def api_key() -> str:
    """The key from STRIPE_API_KEY or from the file that STRIPE_API_KEY_FILE names; may be empty."""
    file = os.environ.get("STRIPE_API_KEY_FILE", "")
    return Path(file).read_text().strip() if file else os.environ.get("STRIPE_API_KEY", "")


TaxOf = Callable[[str], bool | None]


def no_tax(_customer: str) -> bool:
    """Nobody's invoices get tax."""
    return False


class StripeConnection:
    """The SDK with our settings: against Stripe, a fake on a socket, or a fake in this process."""

    def __init__(self, key: str, *, base: str = "", live: bool = False, fake: Fake | None = None) -> None:
        if key.startswith(_LIVE) and not live:
            raise UserError(
                "this is a live Stripe key: real customers would be charged",
                hint="use a test key, or add --live when you mean it",
            )
        stripe.enable_telemetry = False
        addresses: Any = {"api": base, "meter_events": base} if base else {}
        self.sdk = stripe.StripeClient(
            key,
            base_addresses=addresses,
            stripe_version=API_VERSION,
            max_network_retries=0,
            http_client=FakeClient(fake) if fake else stripe.RequestsClient(timeout=_TIMEOUT),
        )
        self.v1 = self.sdk.v1
        self.is_live = key.startswith(_LIVE)
        mode = "live" if self.is_live else "test"
        self.name = f"Stripe fake at {base}" if base else f"Stripe, {mode} mode"
        self.rate = _FAKE_RATE if base or fake else _LIVE_RATE if self.is_live else _TEST_RATE

    def all(self, page: Any) -> Iterator[Any]:
        """Everything of a listing, over all its pages."""
        after: str | None = None
        while True:
            found: Any = ask(partial(page, after))
            yield from found.data
            if not found.has_more:
                return
            after = found.data[-1].id


class StripeInvoices:
    """Invoices with lines, bound to drafts at once, found again by our ids in their metadata."""

    def __init__(self, connection: StripeConnection, tax_of: TaxOf = no_tax) -> None:
        self.connection = connection
        self.name = connection.name
        self.caps = Caps(
            meter_events=True,
            meter_stream=True,
            credit_notes=True,
            subscriptions=True,
            minimum=tuple(MINIMUM_CHARGE.items()),
            requests_per_second=connection.rate,
        )
        self._client = connection.v1
        self._tax_of = tax_of
        self._account_taxes: bool | None = None
        self._customers: dict[str, list[str]] | None = None

    def find_customer(self, customer: str, *, is_fresh: bool = False) -> str | None:
        """The Stripe customer that carries our customer's id; the listing is read once unless told."""
        if self._customers is None or is_fresh:
            self._customers = self._read_customers()
        found = self._customers.get(customer, [])
        if len(found) > 1:
            raise Rejected(f"{len(found)} Stripe customers carry the id {customer}: {found}", "ambiguous")
        return found[0] if found else None

    def _read_customers(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for held in self.connection.all(lambda after: self._client.customers.list(page(after))):
            ours = metadata_of(held).get("um_customer")
            if ours:
                found.setdefault(ours, []).append(str(held.id))
        return found

    def create_customer(self, customer: str, name: str, key: str) -> str:
        """Create a Stripe customer that carries our customer's id."""
        params: Any = {"name": name, "metadata": {"um_customer": customer}}
        made = str(ask(lambda: self._client.customers.create(params, options(key))).id)
        if self._customers is not None:
            self._customers[customer] = [made]
        return made

    def find_invoice(self, external_customer: str, plan: Plan) -> HeldInvoice | None:
        """The invoice that carries the plan's id; voided and deleted ones do not count."""
        listed = self.connection.all(
            lambda after: self._client.invoices.list(page(after, customer=external_customer))
        )
        found = [
            _held(one)
            for one in listed
            if metadata_of(one).get("um_invoice") == plan.id and one.status != "void"
        ]
        if len(found) > 1:
            names = [held.external for held in found]
            raise Rejected(f"{len(found)} invoices carry the id {plan.id}: {names}", "ambiguous")
        return found[0] if found else None

    def get_invoice(self, external: str) -> HeldInvoice | None:
        """An invoice by its Stripe id."""
        try:
            return _held(ask(lambda: self._client.invoices.retrieve(external)))
        except Rejected as error:
            if error.code == "resource_missing":
                return None
            raise

    def subscription_draft(self, external_customer: str, subscription: str) -> HeldInvoice | None:
        """The draft of a subscription's page."""
        listed = self.connection.all(
            lambda after: self._client.invoices.list(page(after, customer=external_customer))
        )
        for held in listed:
            if held.status == "draft" and _subscription_of(held) == subscription:
                return _held(held)
        return None

    def create_draft(self, external_customer: str, plan: Plan, key: str) -> str:
        """A draft that never advances by itself and sweeps up nothing."""
        params: Any = {
            "customer": external_customer,
            "currency": plan.currency.lower(),
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "description": f"Usage {plan.period}",
            "metadata": {
                "um_invoice": plan.id,
                "um_period": plan.period,
                "um_plan": plan.digest,
            },
        }
        if self.adds_tax(plan.customer):
            params["automatic_tax"] = {"enabled": True}
        try:
            return str(ask(lambda: self._client.invoices.create(params, options(key))).id)
        except Rejected as error:
            if error.code == "resource_missing":
                raise CustomerMissing(str(error), error.code) from error
            raise

    def adds_tax(self, customer: str) -> bool:
        """Whether Stripe Tax is on: for this customer, or as the account's tax settings say."""
        said = self._tax_of(customer)
        if said is not None:
            return said
        if self._account_taxes is None:
            try:
                self._account_taxes = ask(self._client.tax.settings.retrieve).status == "active"
            except Halt as error:
                text = "the tax settings cannot be read: say automatic_tax: true or false in the billing file"
                raise Halt(f"{error}; {text}") from error
        return self._account_taxes

    def add_lines(self, external: str, plan: Plan, lines: Sequence[PlannedLine], key: str) -> None:
        """Add lines, each with our line id and what explains it."""
        params: Any = {"lines": [_line(line, plan) for line in lines]}
        ask(lambda: self._client.invoices.add_lines(external, params, options(key)))

    def lines(self, external: str) -> list[HeldLine]:
        """Every line of an invoice; one that is not ours keeps Stripe's id."""
        listed = self.connection.all(
            lambda after: self._client.invoices.line_items.list(external, page(after))
        )
        return [HeldLine(metadata_of(line).get("um_line") or str(line.id), line.amount) for line in listed]

    def finalize(self, external: str, key: str) -> HeldInvoice:
        """Finalize a draft; Stripe collects from then on."""
        params: Any = {"auto_advance": True}
        return _held(ask(lambda: self._client.invoices.finalize_invoice(external, params, options(key))))

    def delete_draft(self, external: str) -> None:
        """Remove a draft."""
        try:
            ask(lambda: self._client.invoices.delete(external))
        except Rejected as error:
            if error.code != "resource_missing":
                raise


def _line(line: PlannedLine, plan: Plan) -> dict[str, Any]:
    start, end = period_seconds(line.period or plan.period)
    return {
        "amount": line.minor,
        "description": line.description,
        "period": {"start": start, "end": end},
        "metadata": {
            "um_line": line.id,
            "um_period": line.period or plan.period,
            **{f"um_{name}": value for name, value in line.details},
        },
    }


def metadata_of(held: Any) -> dict[str, str]:
    """The metadata of an object of the SDK."""
    return dict(held.metadata.to_dict()) if held.metadata else {}


def _subscription_of(invoice: Any) -> str:
    parent = getattr(invoice, "parent", None)
    details = getattr(parent, "subscription_details", None)
    return str(getattr(details, "subscription", "") or "")


def _held(invoice: Any) -> HeldInvoice:
    at = getattr(invoice, "automatically_finalizes_at", None) or 0
    number, subtotal = invoice.number or "", invoice.subtotal  # the total may hold tax
    return HeldInvoice(invoice.id, invoice.status, number, subtotal, at, invoice.currency)


def page(after: str | None, **filters: str) -> Any:
    """The parameters of a listing's page."""
    return {"limit": _PAGE, **({"starting_after": after} if after else {}), **filters}


def options(key: str) -> Any:
    """The options of a writing request."""
    return {"idempotency_key": key}
