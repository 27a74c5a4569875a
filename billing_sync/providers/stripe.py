"""Stripe as a whole: invoices and meters over one connection."""

from billing_sync.providers.stripe_credits import StripeCredits
from billing_sync.providers.stripe_invoices import (
    API_VERSION,
    FAKE_KEY,
    StripeConnection,
    StripeInvoices,
    TaxOf,
    api_key,
    no_tax,
)
from billing_sync.providers.stripe_meters import StripeMeters
from billing_sync.providers.stripe_subscriptions import StripeSubscriptions
from billing_sync.stripe_fake.core import Fake

__all__ = ["API_VERSION", "FAKE_KEY", "StripeProvider", "api_key"]


class StripeProvider(StripeInvoices, StripeCredits, StripeMeters, StripeSubscriptions):
    """All of Stripe that billing sync uses."""

    def __init__(
        self,
        key: str,
        *,
        base: str = "",
        live: bool = False,
        fake: Fake | None = None,
        tax_of: TaxOf = no_tax,
    ) -> None:
        connection = StripeConnection(key, base=base, live=live, fake=fake)
        StripeInvoices.__init__(self, connection, tax_of)
        StripeCredits.__init__(self, connection)
        StripeMeters.__init__(self, connection)
        StripeSubscriptions.__init__(self, connection)
