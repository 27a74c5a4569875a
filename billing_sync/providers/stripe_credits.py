"""Credit notes behind the port: what goes back from a final invoice."""

from typing import Any

from billing_sync.planner import Plan
from billing_sync.port import HeldInvoice, Rejected
from billing_sync.providers.stripe_errors import ask
from billing_sync.providers.stripe_invoices import StripeConnection, metadata_of, options, page


class StripeCredits:
    """Credit notes, found again by our id in their metadata."""

    def __init__(self, connection: StripeConnection) -> None:
        self._connection = connection
        self._notes = connection.v1.credit_notes

    def create_credit(self, invoice: str, plan: Plan, key: str) -> str:
        """A credit note of one line; of a paid invoice it goes to the customer's balance."""
        amount = -plan.minor
        text = next(line.description for line in plan.lines)
        params: Any = {
            "invoice": invoice,
            "lines": [
                {"type": "custom_line_item", "description": text, "quantity": 1, "unit_amount": amount}
            ],
            "metadata": {"um_invoice": plan.id, "um_period": plan.period, "um_plan": plan.digest},
        }
        if ask(lambda: self._connection.v1.invoices.retrieve(invoice)).status == "paid":
            params["credit_amount"] = amount
        return str(ask(lambda: self._notes.create(params, options(key))).id)

    def find_credit(self, invoice: str, plan: Plan) -> str | None:
        """The credit note that carries the plan's id."""
        listed = self._connection.all(lambda after: self._notes.list(page(after, invoice=invoice)))
        found = [str(one.id) for one in listed if metadata_of(one).get("um_invoice") == plan.id]
        if len(found) > 1:
            raise Rejected(f"{len(found)} credit notes carry the id {plan.id}: {found}", "ambiguous")
        return found[0] if found else None

    def get_credit(self, external: str) -> HeldInvoice | None:
        """A credit note by its Stripe id."""
        try:
            note = ask(lambda: self._notes.retrieve(external))
        except Rejected as error:
            if error.code == "resource_missing":
                return None
            raise
        return HeldInvoice(note.id, note.status, note.number, -note.subtotal, 0, note.currency)
