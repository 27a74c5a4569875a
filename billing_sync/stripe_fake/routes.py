"""Which path is which operation, and which of the SDK's types its parameters must fit."""

from collections.abc import Callable
from typing import Any

from stripe import params as types
from stripe.params import billing
from stripe.params.v2 import billing as billing_v2

from billing_sync.stripe_fake.api import page
from billing_sync.stripe_fake.credits import Credits
from billing_sync.stripe_fake.customers import Customers
from billing_sync.stripe_fake.errors import ApiError
from billing_sync.stripe_fake.form import check_params
from billing_sync.stripe_fake.invoices import Invoices
from billing_sync.stripe_fake.meters import Meters

_TYPES: dict[tuple[str, ...], Any] = {
    ("v1", "customers"): types.CustomerCreateParams,
    ("v1", "customers", "*"): types.CustomerUpdateParams,
    ("v1", "subscriptions"): types.SubscriptionCreateParams,
    ("v1", "subscriptions", "*"): types.SubscriptionUpdateParams,
    ("v1", "invoices"): types.InvoiceCreateParams,
    ("v1", "invoices", "*", "add_lines"): types.InvoiceAddLinesParams,
    ("v1", "invoices", "*", "finalize"): types.InvoiceFinalizeInvoiceParams,
    ("v1", "invoices", "*", "void"): types.InvoiceVoidInvoiceParams,
    ("v1", "invoices", "*", "pay"): types.InvoicePayParams,
    ("v1", "credit_notes"): types.CreditNoteCreateParams,
    ("v1", "billing", "meters"): billing.MeterCreateParams,
    ("v1", "billing", "meters", "*", "deactivate"): billing.MeterDeactivateParams,
    ("v1", "billing", "meters", "*", "reactivate"): billing.MeterReactivateParams,
    ("v1", "billing", "meter_events"): billing.MeterEventCreateParams,
    ("v1", "billing", "meter_event_adjustments"): billing.MeterEventAdjustmentCreateParams,
    ("v2", "billing", "meter_events"): billing_v2.MeterEventCreateParams,
    ("v2", "billing", "meter_event_stream"): billing_v2.MeterEventStreamCreateParams,
}
_NAMES = {name for steps in _TYPES for name in steps if name != "*"}

Effect = Callable[[], dict[str, Any]]


class Routes:
    """The operations by method and path."""

    def __init__(
        self, customers: Customers, invoices: Invoices, credit_notes: Credits, meters: Meters
    ) -> None:
        self._customers = customers
        self._invoices = invoices
        self._credits = credit_notes
        self._meters = meters

    def answer(self, method: str, path: str, params: dict[str, Any]) -> dict[str, Any]:
        """The answer of an operation; an unknown path is Stripe's 404."""
        steps = tuple(path.strip("/").split("/"))
        if method == "POST":
            self.check(steps, params)
            found = self._write(steps, params)
        else:
            found = self._list(steps, params) if method == "GET" else None
            found = found or self._read(method, steps)
        if found is None:
            text = f"Unrecognized request URL ({method}: {path})"
            raise ApiError(404, "invalid_request_error", text, stored=False)
        return found()

    def check(self, steps: tuple[str, ...], params: dict[str, Any]) -> None:
        """Refuse parameters that the SDK's own type for this operation does not have."""
        kind = _TYPES.get(tuple(step if step in _NAMES else "*" for step in steps))
        if kind is not None:
            check_params(params, kind)

    def _write(self, steps: tuple[str, ...], params: dict[str, Any]) -> Effect | None:
        match steps[1:]:
            case ("customers",):
                return lambda: self._customers.create(params)
            case ("customers", identity):
                return lambda: self._customers.update(identity, params)
            case ("subscriptions",):
                return lambda: self._customers.subscribe(params)
            case ("subscriptions", identity):
                return lambda: self._customers.change(identity, params)
            case ("credit_notes",):
                return lambda: self._credits.create(params)
            case ("invoices", *rest):
                return self._write_invoice(tuple(rest), params)
            case ("billing", *rest):
                return self._write_meter(steps[0], tuple(rest), params)
        return None

    def _write_invoice(self, steps: tuple[str, ...], params: dict[str, Any]) -> Effect | None:
        match steps:
            case ():
                return lambda: self._invoices.create(params)
            case (identity, "add_lines"):
                return lambda: self._invoices.add_lines(identity, params)
            case (identity, "finalize"):
                return lambda: self._invoices.finalize(identity)
            case (identity, "void"):
                return lambda: self._invoices.void(identity)
            case (identity, "pay"):
                return lambda: self._invoices.pay(identity)
        return None

    def _write_meter(self, version: str, steps: tuple[str, ...], params: dict[str, Any]) -> Effect | None:
        meters = self._meters
        match (version, *steps):
            case ("v1", "meters"):
                return lambda: meters.create(params)
            case ("v1", "meters", identity, "deactivate"):
                return lambda: meters.set_status(identity, "inactive")
            case ("v1", "meters", identity, "reactivate"):
                return lambda: meters.set_status(identity, "active")
            case ("v1", "meter_events"):
                return lambda: meters.report(params)
            case ("v1", "meter_event_adjustments"):
                return lambda: meters.cancel(params)
            case ("v2", "meter_events"):
                return lambda: meters.report_v2(params)
            case ("v2", "meter_event_session"):
                return meters.session
        return None

    def _read(self, method: str, steps: tuple[str, ...]) -> Effect | None:
        match (method, *steps[1:]):
            case ("GET", "customers", identity):
                return lambda: self._customers.get(identity)
            case ("DELETE", "customers", identity):
                return lambda: self._customers.delete(identity)
            case ("DELETE", "subscriptions", identity):
                return lambda: self._customers.cancel(identity)
            case ("GET", "invoices", identity):
                return lambda: self._invoices.get(identity)
            case ("DELETE", "invoices", identity):
                return lambda: self._invoices.delete_draft(identity)
            case ("GET", "credit_notes", identity):
                return lambda: self._credits.need(identity, "credit_note")
            case ("GET", "tax", "settings"):
                return self._invoices.tax_settings
            case ("GET", "subscriptions", identity):
                return lambda: self._customers.need(identity, "subscription")
            case ("GET", "events", identity):
                return lambda: self._invoices.need(identity, "event")
        return None

    def _list(self, steps: tuple[str, ...], query: dict[str, str]) -> Effect | None:
        url, state = "/" + "/".join(steps), self._invoices.state
        match steps[1:]:
            case ("customers",):
                return lambda: page(self._customers.all(), query, url)
            case ("invoices",):
                return lambda: page(state.all("invoice", query.get("customer", "")), query, url)
            case ("credit_notes",):
                return lambda: page(self._credits.all(query.get("invoice", "")), query, url)
            case ("subscriptions",):
                return lambda: page(state.all("subscription", query.get("customer", "")), query, url)
            case ("invoices", identity, "lines"):
                return lambda: page(self._invoices.lines(identity), query, url)
            case ("billing", "meters"):
                return lambda: page(state.all("billing.meter"), query, url)
            case ("billing", "meters", identity, "event_summaries"):
                return lambda: page(self._meters.summaries(identity, query), query, url)
        return None
