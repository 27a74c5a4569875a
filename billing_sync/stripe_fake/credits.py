"""Credit notes: what goes back from an open or a paid invoice, never more than it came to."""

from typing import Any

from billing_sync.stripe_fake.api import Resources
from billing_sync.stripe_fake.errors import invalid


class Credits(Resources):
    """Credit notes of final invoices."""

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/credit_notes: of a paid invoice it names where the money goes."""
        invoice = self.need(params["invoice"], "invoice", param="invoice")
        if invoice["status"] not in ("open", "paid"):
            raise invalid("You can only create a credit note for an open or paid invoice", param="invoice")
        amount = sum(_amount(line) for line in params.get("lines", []))
        given = sum(note["total"] for note in self.all(invoice["id"]))
        if not 0 < amount <= invoice["total"] - given:
            text = f"The credit note amount must be positive and at most {invoice['total'] - given}"
            raise invalid(text, param="lines")
        if invoice["status"] == "paid" and int(params.get("credit_amount", 0)) != amount:
            raise invalid(
                "The sum of credit_amount, refund_amount and out_of_band_amount must equal the total"
            )
        return self._make(invoice, amount, params)

    def _make(self, invoice: dict[str, Any], amount: int, params: dict[str, Any]) -> dict[str, Any]:
        if invoice["status"] == "paid":
            customer = self.need(invoice["customer"], "customer")
            self.state.put({**customer, "balance": customer["balance"] - amount})
        body = {
            "invoice": invoice["id"],
            "customer": invoice["customer"],
            "currency": invoice["currency"],
            "status": "issued",
            "number": f"{invoice['number']}-CN-{len(self.all(invoice['id'])) + 1:02d}",
            "subtotal": amount,
            "total": amount,
            "metadata": params.get("metadata", {}),
            "created": self.now,
            "livemode": False,
        }
        made = self.state.create("credit_note", "cn", body, parent=invoice["id"])
        self.tell("credit_note.created", made)
        return made

    def all(self, invoice: str) -> list[dict[str, Any]]:
        """GET /v1/credit_notes."""
        return self.state.all("credit_note", invoice)


def _amount(line: dict[str, Any]) -> int:
    return int(line.get("unit_amount", 0)) * int(line.get("quantity", 1))
