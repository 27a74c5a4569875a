"""Stripe as a whole: invoices and meters over one connection."""

from billing_sync.providers.stripe_invoices import (
    API_VERSION,
    FAKE_KEY,
    StripeConnection,
    StripeInvoices,
    api_key,
)
from billing_sync.providers.stripe_meters import StripeMeters
from billing_sync.stripe_fake.core import Fake

__all__ = ["API_VERSION", "FAKE_KEY", "StripeProvider", "api_key"]


class StripeProvider(StripeInvoices, StripeMeters):
    """All of Stripe that billing sync uses."""

    def __init__(
        self,
        key: str,
        *,
        base: str = "",
        live: bool = False,
        fake: Fake | None = None,
        automatic_tax: bool = False,
    ) -> None:
        connection = StripeConnection(key, base=base, live=live, fake=fake)
        StripeInvoices.__init__(self, connection, automatic_tax=automatic_tax)
        StripeMeters.__init__(self, connection)
