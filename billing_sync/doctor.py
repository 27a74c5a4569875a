"""Whether a deployment can bill: key, permissions, meters, API version, clock."""

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import NamedTuple

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
    """Look at everything that can be looked at without writing."""
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
    ]
    names = sorted({rule.event_name for rule in config.meter_events})
    return checks + [_try(f"meter {name}", partial(_meter, provider, name)) for name in names]


def _try(name: str, work: Callable[[], str]) -> Check:
    try:
        return Check(name, True, ask(work))
    except (Halt, Rejected, Retry, Unknown) as error:
        return Check(name, False, str(error))


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
