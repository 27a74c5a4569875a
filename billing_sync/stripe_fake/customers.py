"""Customers and subscriptions, as far as billing needs them."""

from typing import Any

from billing_sync.stripe_fake.api import Resources
from billing_sync.stripe_fake.errors import invalid

DRAFT_SECONDS = 3_600  # Stripe finalizes a subscription's draft about an hour after it was made


class Customers(Resources):
    """Customers with their balance, and subscriptions with their cycle."""

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/customers."""
        body = {
            "name": params.get("name"),
            "email": params.get("email"),
            "metadata": params.get("metadata", {}),
            "address": params.get("address"),
            "balance": 0,
            "created": self.now,
            "livemode": False,
        }
        made = self.state.create("customer", "cus", body)
        self.tell("customer.created", made)
        return made

    def update(self, identity: str, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/customers/ID: name, address and metadata, which is merged."""
        found = self.need(identity, "customer")
        found["metadata"] = {**found["metadata"], **params.get("metadata", {})}
        found |= {name: params[name] for name in ("name", "email", "address") if name in params}
        self.state.put(found)
        self.tell("customer.updated", found)
        return found

    def get(self, identity: str) -> dict[str, Any]:
        """GET /v1/customers/ID: a deleted one says so."""
        found = self.state.get(identity)
        if found is not None and found.get("deleted"):
            return {"id": identity, "object": "customer", "deleted": True}
        return self.need(identity, "customer")

    def all(self) -> list[dict[str, Any]]:
        """GET /v1/customers."""
        return [held for held in self.state.all("customer") if not held.get("deleted")]

    def delete(self, identity: str) -> dict[str, Any]:
        """DELETE /v1/customers/ID: it cannot be used again."""
        found = self.need(identity, "customer")
        self.state.put({**found, "deleted": True})
        self.tell("customer.deleted", found)
        return {"id": identity, "object": "customer", "deleted": True}

    def subscribe(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/subscriptions: active at once; items are kept as they came."""
        self.need(params["customer"], "customer", param="customer", status=400)
        body = {
            "customer": params["customer"],
            "status": "active",
            "currency": params.get("currency", "usd"),
            "metadata": params.get("metadata", {}),
            "items": _items(params),
            "start_date": self.now,
            "billing_cycle_anchor": int(params.get("billing_cycle_anchor", self.now)),
            "trial_end": int(params["trial_end"]) if "trial_end" in params else None,
            "ended_at": None,
            "created": self.now,
        }
        made = self.state.create("subscription", "sub", body, parent=params["customer"])
        self.tell("customer.subscription.created", made)
        return made

    def change(self, identity: str, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/subscriptions/ID: other items."""
        found = self.need(identity, "subscription")
        found |= {"items": _items(params)}
        self.state.put(found)
        self.tell("customer.subscription.updated", found)
        return found

    def cancel(self, identity: str) -> dict[str, Any]:
        """DELETE /v1/subscriptions/ID."""
        found = self.need(identity, "subscription")
        found |= {"status": "canceled", "canceled_at": self.now, "ended_at": self.now}
        self.state.put(found)
        self.tell("customer.subscription.deleted", found)
        return found

    def cycle(self, identity: str, start: int, end: int, fee: int = 0) -> dict[str, Any]:
        """Turn a subscription's page: its draft invoice, with its fee, open for an hour."""
        held = self.need(identity, "subscription")
        if held["status"] != "active":
            raise invalid(f"Subscription {identity} is {held['status']}")
        body = {
            "customer": held["customer"],
            "currency": held["currency"],
            "status": "draft",
            "number": None,
            "auto_advance": True,
            "billing_reason": "subscription_cycle",
            "parent": {"subscription_details": {"subscription": identity}},
            "period_start": start,
            "period_end": end,
            "automatically_finalizes_at": self.now + DRAFT_SECONDS,
            "automatic_tax": {"enabled": False},
            "metadata": {},
            "subtotal": fee,
            "total": fee,
            "created": self.now,
            "livemode": False,
        }
        made = self.state.create("invoice", "in", body, parent=held["customer"])
        if fee:
            line = {"amount": fee, "currency": held["currency"], "metadata": {}, "invoice": made["id"]}
            self.state.create("line_item", "il", line, parent=made["id"])
        self.tell("invoice.created", made)
        return made


def _items(params: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [{"price": {"id": item["price"]}} for item in params.get("items", [])]}
