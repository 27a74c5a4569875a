"""Invoices: drafts, lines, finalization, what is too small, and what tax needs."""

from typing import Any

from billing_sync.currencies import exponent_and_step
from billing_sync.stripe_fake.api import Resources
from billing_sync.stripe_fake.errors import invalid

LINES_PER_INVOICE = 250
LARGEST_AMOUNT = 99_999_999
# The smallest charge, in minor units; a currency that is not here has none in the fake.
MINIMUM = {"usd": 50, "eur": 50, "gbp": 30, "jpy": 50}


class Invoices(Resources):
    """Invoices from draft to paid or void; `tax_percent` is what Stripe Tax adds where it is on."""

    tax_percent = 0
    tax_status = "pending"

    def tax_settings(self) -> dict[str, Any]:
        """GET /v1/tax/settings: active once the account has set Stripe Tax up."""
        return {"object": "tax.settings", "status": self.tax_status, "livemode": False}

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/invoices: a draft."""
        customer = params.get("customer", "")
        self.need(customer, "customer", param="customer", status=400)
        body = {
            "customer": customer,
            "currency": params.get("currency", "usd"),
            "status": "draft",
            "number": None,
            "auto_advance": params.get("auto_advance") == "true",
            "billing_reason": "manual",
            "automatic_tax": {"enabled": params.get("automatic_tax", {}).get("enabled") == "true"},
            "description": params.get("description"),
            "metadata": params.get("metadata", {}),
            "subtotal": 0,
            "total": 0,
            "created": self.now,
            "livemode": False,
        }
        made = self.state.create("invoice", "in", body, parent=customer)
        self.tell("invoice.created", made)
        return made

    def get(self, identity: str) -> dict[str, Any]:
        """GET /v1/invoices/ID."""
        return self.need(identity, "invoice")

    def _draft(self, identity: str) -> dict[str, Any]:
        found = self.get(identity)
        if found["status"] != "draft":
            raise invalid("This invoice is no longer editable", "invoice_not_editable")
        return found

    def lines(self, identity: str) -> list[dict[str, Any]]:
        """GET /v1/invoices/ID/lines."""
        return self.state.all("line_item", self.get(identity)["id"])

    def add_lines(self, identity: str, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/invoices/ID/add_lines: all of them or none."""
        draft = self._draft(identity)
        lines = params.get("lines", [])
        if len(self.lines(identity)) + len(lines) > LINES_PER_INVOICE:
            raise invalid(f"Invoices can have at most {LINES_PER_INVOICE} line items", param="lines")
        _, step = exponent_and_step(draft["currency"])
        amounts = [_amount(line, step) for line in lines]
        for line, amount in zip(lines, amounts, strict=True):
            self._keep(draft, line, amount)
        draft["subtotal"] += sum(amounts)
        draft["total"] = draft["subtotal"]
        self.state.put(draft)
        return draft

    def _keep(self, draft: dict[str, Any], line: dict[str, Any], amount: int) -> None:
        body = {
            "amount": amount,
            "currency": draft["currency"],
            "description": line.get("description"),
            "metadata": line.get("metadata", {}),
            "period": {name: int(at) for name, at in line.get("period", {}).items()},
            "invoice": draft["id"],
        }
        self.state.create("line_item", "il", body, parent=draft["id"])

    def finalize(self, identity: str) -> dict[str, Any]:
        """POST /v1/invoices/ID/finalize: open, or paid when nothing or too little is due."""
        draft = self._draft(identity)
        customer = self.state.get(draft["customer"]) or {}
        if draft["automatic_tax"]["enabled"] and not customer.get("address"):
            raise invalid(
                "The customer's location isn't recognized. Set a valid customer address in order to"
                " automatically calculate tax.",
                "customer_tax_location_invalid",
            )
        if draft["automatic_tax"]["enabled"]:
            draft["total"] = draft["subtotal"] * (100 + self.tax_percent) // 100
        numbered = sum(1 for i in self.state.all("invoice") if i["number"])
        balance = customer.get("balance", 0)
        due = draft["total"] + balance
        is_small = due < MINIMUM.get(draft["currency"], 1)
        draft.update(
            status="paid" if is_small else "open",
            number=f"FAKE-{numbered + 1:04d}",
            starting_balance=balance,
            ending_balance=due if is_small else 0,
            amount_due=0 if is_small else due,
        )
        self.state.put({**customer, "balance": draft["ending_balance"]})
        self.state.put(draft)
        self.tell("invoice.finalized", draft)
        return draft

    def pay(self, identity: str) -> dict[str, Any]:
        """POST /v1/invoices/ID/pay."""
        return self._close(identity, "paid", "invoice.paid", "pay")

    def void(self, identity: str) -> dict[str, Any]:
        """POST /v1/invoices/ID/void."""
        return self._close(identity, "void", "invoice.voided", "void")

    def _close(self, identity: str, status: str, event: str, verb: str) -> dict[str, Any]:
        found = self.get(identity)
        if found["status"] != "open":
            raise invalid(f"You can only {verb} open invoices", "invoice_not_editable")
        found["status"] = status
        self.state.put(found)
        self.tell(event, found)
        return found

    def delete_draft(self, identity: str) -> dict[str, Any]:
        """DELETE /v1/invoices/ID."""
        self._draft(identity)
        self.state.delete(identity)
        return {"id": identity, "object": "invoice", "deleted": True}

    def advance(self) -> None:
        """Finalize the drafts whose hour is over."""
        for held in self.state.all("invoice"):
            due = held.get("automatically_finalizes_at")
            if held["status"] == "draft" and due and due <= self.now:
                self.finalize(held["id"])


def _amount(line: dict[str, Any], step: int) -> int:
    if "amount" not in line:
        raise invalid("lines need an integer amount", param="lines")
    amount = int(line["amount"])
    if amount % step:
        raise invalid(f"amount must be a multiple of {step} in this currency", param="lines")
    if abs(amount) > LARGEST_AMOUNT:
        raise invalid(f"Amount must be no more than {LARGEST_AMOUNT}", "amount_too_large", "lines")
    return amount
