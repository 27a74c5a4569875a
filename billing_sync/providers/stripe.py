"""Stripe behind the port, through the real SDK.

The SDK's own retries are off (the sender's rules decide), telemetry is off, the API version is
pinned, and live keys are refused unless they are asked for.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import stripe

from billing_sync.planner import Plan, PlannedLine
from billing_sync.port import Halt, HeldInvoice, HeldLine, Rejected, Retry, Unknown
from metering.errors import UserError

API_VERSION = "2026-03-25.dahlia"
FAKE_KEY = "sk_test_local_fake"
_LIVE = ("sk_live_", "rk_live_")
_PAGE = 100
_TIMEOUT = (3, 20)  # seconds to connect, to answer

T = TypeVar("T")


def api_key() -> str:
    """The key from STRIPE_API_KEY or from the file that STRIPE_API_KEY_FILE names; may be empty."""
    file = os.environ.get("STRIPE_API_KEY_FILE", "")
    return Path(file).read_text().strip() if file else os.environ.get("STRIPE_API_KEY", "")


class StripeProvider:
    """Invoices with lines, bound to drafts at once, found again by our ids in their metadata."""

    lines_per_call = 100
    lines_per_invoice = 250

    def __init__(self, key: str, *, base: str = "", live: bool = False) -> None:
        if key.startswith(_LIVE) and not live:
            raise UserError(
                "this is a live Stripe key: real customers would be charged",
                hint="use a test key, or add --live when you mean it",
            )
        stripe.enable_telemetry = False
        addresses: Any = {"api": base} if base else {}
        self._client = stripe.StripeClient(
            key,
            base_addresses=addresses,
            stripe_version=API_VERSION,
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=_TIMEOUT),
        ).v1
        mode = "live" if key.startswith(_LIVE) else "test"
        self.name = f"Stripe fake at {base}" if base else f"Stripe, {mode} mode"

    def find_customer(self, customer: str) -> str | None:
        """The Stripe customer that carries our customer's id."""
        for held in self._all(lambda after: self._client.customers.list(_page(after))):
            if held.metadata and held.metadata.to_dict().get("um_customer") == customer:
                return str(held.id)
        return None

    def create_customer(self, customer: str, name: str, key: str) -> str:
        """Create a Stripe customer that carries our customer's id."""
        params: Any = {"name": name, "metadata": {"um_customer": customer}}
        return str(_call(lambda: self._client.customers.create(params, _options(key))).id)

    def find_invoice(self, external_customer: str, plan: Plan) -> HeldInvoice | None:
        """The invoice that carries the plan's id; voided and deleted ones do not count."""
        listed = self._all(lambda after: self._client.invoices.list(_page(after, customer=external_customer)))
        for held in listed:
            mine = held.metadata and held.metadata.to_dict().get("um_invoice") == plan.id
            if mine and held.status != "void":
                return _held(held)
        return None

    def get_invoice(self, external: str) -> HeldInvoice:
        """An invoice by its Stripe id."""
        return _held(_call(lambda: self._client.invoices.retrieve(external)))

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
        return str(_call(lambda: self._client.invoices.create(params, _options(key))).id)

    def add_lines(self, external: str, plan: Plan, lines: Sequence[PlannedLine], key: str) -> None:
        """Add lines, each with our line id."""
        params: Any = {
            "lines": [
                {
                    "amount": line.minor,
                    "description": line.description,
                    "metadata": {"um_line": line.id, "um_period": plan.period},
                }
                for line in lines
            ]
        }
        _call(lambda: self._client.invoices.add_lines(external, params, _options(key)))

    def lines(self, external: str) -> list[HeldLine]:
        """Every line of an invoice; one that is not ours keeps Stripe's id."""
        listed = self._all(lambda after: self._client.invoices.line_items.list(external, _page(after)))
        return [
            HeldLine(str((line.metadata or {})["um_line"]) if _ours(line) else line.id, line.amount)
            for line in listed
        ]

    def finalize(self, external: str, key: str) -> HeldInvoice:
        """Finalize a draft; Stripe collects from then on."""
        params: Any = {"auto_advance": True}
        return _held(_call(lambda: self._client.invoices.finalize_invoice(external, params, _options(key))))

    def _all(self, page: Callable[[str | None], Any]) -> Iterator[Any]:
        after = None
        while True:
            found: Any = _call(partial(page, after))
            yield from found.data
            if not found.has_more:
                return
            after = found.data[-1].id


def _ours(line: Any) -> bool:
    return bool(line.metadata) and "um_line" in line.metadata.to_dict()


def _held(invoice: Any) -> HeldInvoice:
    return HeldInvoice(invoice.id, invoice.status, invoice.number or "", invoice.total)


def _page(after: str | None, **filters: str) -> Any:
    return {"limit": _PAGE, **({"starting_after": after} if after else {}), **filters}


def _options(key: str) -> Any:
    return {"idempotency_key": key}


def _call(work: Callable[[], T]) -> T:
    """Translate the SDK's errors into what the sender has to decide."""
    try:
        return work()
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise Halt(str(error)) from error
    except stripe.RateLimitError as error:
        raise Retry(str(error)) from error
    except stripe.APIConnectionError as error:
        # No answer: the same key makes the repetition harmless.
        raise Retry(str(error)) from error
    except stripe.StripeError as error:
        status = error.http_status or 0
        if status == 409:
            raise Retry(str(error)) from error
        if status >= 500 or status == 200 or isinstance(error, stripe.APIError):
            raise Unknown(f"Stripe answered {status}: {error.user_message or error}") from error
        raise Rejected(f"{error.user_message or error} ({error.code or status})") from error
