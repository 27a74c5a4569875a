"""Stripe's subscriptions behind the port, and the price that an event shows."""

from typing import Any

from billing_sync.port import HeldSubscription, Rejected
from billing_sync.providers.stripe_errors import ask
from billing_sync.providers.stripe_invoices import StripeConnection


class StripeSubscriptions:
    """Subscriptions, as far as the catalog needs them."""

    def __init__(self, connection: StripeConnection) -> None:
        self._subscriptions = connection.v1.subscriptions

    def get_subscription(self, external: str) -> HeldSubscription | None:
        """A subscription by its Stripe id; a cancelled one is still there."""
        try:
            found: dict[str, Any] = ask(lambda: self._subscriptions.retrieve(external)).to_dict()
        except Rejected as error:
            if error.code == "resource_missing":
                return None
            raise
        return HeldSubscription(
            found["id"],
            found["customer"],
            (found.get("metadata") or {}).get("um_customer", ""),
            found["currency"],
            found["start_date"],
            found["billing_cycle_anchor"],
            found.get("trial_end") or 0,
            found.get("ended_at") or 0,
        )


def price_of(subscription: dict[str, Any]) -> str:
    """The price of a subscription's first item, as an event carries it."""
    return str(subscription["items"]["data"][0]["price"]["id"])
