"""Whether a deployment can bill: key, permissions, meters, API version, clock."""

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NamedTuple

from billing_sync.config import BillingConfig
from billing_sync.port import Halt, Provider, Rejected, Retry, Unknown
from billing_sync.providers.stripe import API_VERSION, StripeProvider
from billing_sync.providers.stripe_errors import ask

_CLOCK_SECONDS = 60  # further off, hours would be reported as being in the future


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    is_ok: bool
    text: str


def examine(provider: Provider, config: BillingConfig, now: float) -> list[Check]:
    """Look at everything; whether we may write is asked with requests for things that do not exist."""
    first = Check("provider", True, provider.name)
    if not isinstance(provider, StripeProvider):
        return [first]
    v1 = provider.connection.v1
    checks = [
        first,
        Check("API version", True, f"{API_VERSION}, pinned"),
        _try("read customers", lambda: str(len(v1.customers.list({"limit": 1}).data)) + " seen"),
        _try("read invoices", lambda: str(len(v1.invoices.list({"limit": 1}).data)) + " seen"),
        _try("read meters", lambda: str(len(v1.billing.meters.list({"limit": 1}).data)) + " seen"),
        _try("clock", lambda: _clock(provider, now)),
        *(_try(f"write {name}", partial(_may_write, call)) for name, call in _writes(v1, config).items()),
    ]
    names = sorted({rule.event_name for rule in config.meter_events})
    return checks + [_try(f"meter {name}", partial(_meter, provider, name)) for name in names]


def _try(name: str, work: Callable[[], str]) -> Check:
    try:
        return Check(name, True, ask(work))
    except (Halt, Rejected, Retry, Unknown) as error:
        return Check(name, False, str(error))


def _writes(v1: Any, config: BillingConfig) -> dict[str, Callable[[], Any]]:
    """A request for each thing that we write, to an object that is not there: it can change nothing."""
    nobody = "doctor_asks"
    lines: Any = {"lines": []}
    found = {
        "customers": lambda: v1.customers.update(nobody, {"name": nobody}),
        "invoices": lambda: v1.invoices.create({"customer": nobody}),
        "invoice lines": lambda: v1.invoices.add_lines(nobody, lines),
    }
    if config.credit_notes:
        found["credit notes"] = lambda: v1.credit_notes.create({"invoice": nobody})
    if config.meter_events:
        event: Any = {"event_name": nobody, "payload": {"stripe_customer_id": nobody, "value": "0"}}
        found["meter events"] = lambda: v1.billing.meter_events.create(event)
    return found


def _may_write(call: Callable[[], Any]) -> str:
    """A key without the right is refused before anybody looks for the object."""
    try:
        ask(call)
    except Rejected:
        return "allowed"
    raise Rejected("an object that does not exist was changed")


def _meter(provider: StripeProvider, event_name: str) -> str:
    return f"{provider.meter(event_name).id}, by the hour"


def _clock(provider: StripeProvider, now: float) -> str:
    headers = provider.connection.sdk.raw_request("get", "/v1/customers", limit=1).headers
    said = next((value for name, value in headers.items() if name.lower() == "date"), "")
    if not said:
        return "the provider does not say its time"
    off = now - parsedate_to_datetime(said).timestamp()
    if abs(off) > _CLOCK_SECONDS:
        raise Rejected(f"this machine's clock is {off:+.0f} s off the provider's: set it right", "clock")
    return f"{off:+.0f} s off"
