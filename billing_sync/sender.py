"""Sending one planned invoice, so that a crash or a lost answer anywhere is harmless.

An invoice of ours: draft, lines, read back, finalize. A subscription's invoice: our lines are bound
to its draft, which the provider finalizes. A difference blocks it; nothing wrong is finalized.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

from billing_sync.exchange import Exchange
from billing_sync.ledger import Entry, Ledger
from billing_sync.pace import Waiting
from billing_sync.planner import Plan, PlannedLine
from billing_sync.port import CreditProvider, HeldInvoice, HeldLine, Provider, Rejected

DRAFT_MARGIN_SECONDS = 15 * 60  # before a draft finalizes itself no more lines are started
TAX_CODES = ("customer_tax_location_invalid",)
DRAFT_OF = "draft of"
NOT_EDITABLE = "invoice_not_editable"


class InvoiceSender:
    """Brings planned invoices to one provider."""

    def __init__(
        self, ledger: Ledger, provider: Provider, exchange: Exchange, clock: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._exchange = exchange
        self._clock = clock

    def send(self, entry: Entry, account: str, subscription: str = "") -> None:
        """Bring one invoice as far as it can go; its state in the ledger says how far."""
        plan = entry.plan
        try:
            if len(plan.lines) > self._provider.caps.lines_per_invoice:
                raise Rejected(f"{len(plan.lines)} lines are more than one invoice holds")
            if plan.credits:
                self._send_credit(plan)
            elif subscription:
                self._send_onto_subscription(plan, account, subscription)
            else:
                self._send_own(plan, account)
        except Rejected as error:
            is_tax = error.code in TAX_CODES
            self._move(plan, "blocked_tax" if is_tax else "blocked", reason=f"refused: {error}")
            raise
        except Waiting as error:
            self._move(plan, "unknown", reason=str(error))
            raise

    def _move(
        self, plan: Plan, state: str, *, reason: str = "", external: str = "", number: str = ""
    ) -> None:
        self._ledger.set_state(
            plan.id, state, reason=reason, external=external, number=number, now=self._clock()
        )

    def _send_own(self, plan: Plan, account: str) -> None:
        self._move(plan, "inflight")
        draft = self._once(
            plan,
            "draft",
            lambda key: self._provider.create_draft(account, plan, key),
            lambda: _external(self._provider.find_invoice(account, plan)),
        )
        self._move(plan, "inflight", external=draft)
        if self._held(draft).status == "draft":
            self._add_lines(plan, draft)
        self._move(plan, "delivered", external=draft)
        self._verify(plan, draft, is_ours=True)
        self._move(plan, "verified", external=draft)
        self._finalize(plan, draft)

    def _send_credit(self, plan: Plan) -> None:
        """A credit note to the invoice that the plan names."""
        provider = cast("CreditProvider", self._provider)
        credited = self._ledger.entry(plan.credits)
        assert credited is not None, "the planner found it"
        invoice = credited.external
        self._move(plan, "inflight")
        note = self._once(
            plan,
            "credit",
            lambda key: provider.create_credit(invoice, plan, key),
            lambda: provider.find_credit(invoice, plan),
        )
        held = self._exchange.read(lambda: provider.get_credit(note))
        if held is None or held.total != plan.minor:
            raise Rejected(f"the credit note {note} came to {held and held.total}, not {plan.minor}")
        self._move(plan, "finalized", external=note, number=held.number)

    def _send_onto_subscription(self, plan: Plan, account: str, subscription: str) -> None:
        """Lines on the subscription's draft; one that closed without them gives way to the next."""
        self._move(plan, "inflight")
        draft = self._once(
            plan, "draft", lambda _: self._open_draft(account, subscription, plan), lambda: None
        )
        try:
            if self._held(draft).status == "draft":
                self._add_lines(plan, draft)
            self._verify(plan, draft, is_ours=False)
        except Rejected as error:
            ours = {line.id for line in plan.lines} & {line.id for line in self._lines(draft)}
            is_closed = error.code == NOT_EDITABLE or self._held(draft).status != "draft"
            if ours or not is_closed:
                raise
            self._ledger.send_again(f"{plan.id}:")
            raise Waiting("the subscription's draft was finalized before; the next one is awaited") from error
        state = "delivered" if self._held(draft).status == "draft" else "finalized"
        self._move(plan, state, external=draft, number=self._held(draft).number)

    def _open_draft(self, account: str, subscription: str, plan: Plan) -> str:
        known = self._ledger.mark(f"{DRAFT_OF} {subscription}")  # a webhook told of it
        found = self._provider.get_invoice(known) if known else None
        if found is None or found.status != "draft":
            found = self._provider.subscription_draft(account, subscription)
        if found is None or 0 < found.finalizes_at < self._clock() + DRAFT_MARGIN_SECONDS:
            raise Waiting(f"the subscription {subscription} has no draft that takes lines")
        if found.currency.upper() != plan.currency:
            text = (
                f"the subscription {subscription} is in {found.currency.upper()}, the plan in {plan.currency}"
            )
            raise Rejected(f"{text}: give the customer a card in its currency", "currency")
        return found.external

    def _add_lines(self, plan: Plan, draft: str) -> None:
        size = self._provider.caps.lines_per_call
        for start in range(0, len(plan.lines), size):
            self._add_some(plan, draft, start, plan.lines[start : start + size])

    def _add_some(self, plan: Plan, draft: str, start: int, lines: Sequence[PlannedLine]) -> None:
        def add(key: str) -> str:
            self._provider.add_lines(draft, plan, lines, key)
            return draft

        def find() -> str | None:
            held = {line.id for line in self._provider.lines(draft)}
            return draft if {line.id for line in lines} <= held else None

        self._once(plan, f"lines:{start}", add, find)

    def _verify(self, plan: Plan, draft: str, *, is_ours: bool) -> None:
        """Every line once, with its amount; and nothing else on an invoice of ours."""
        held, mine = self._lines(draft), {line.id for line in plan.lines}
        wanted = Counter((line.id, line.minor) for line in plan.lines)
        foreign = [line.id for line in held if line.id not in mine]
        found = Counter((line.id, line.minor) for line in held if line.id in mine)
        if found != wanted or (foreign and is_ours):
            raise Rejected(
                f"the draft {draft} holds {len(held)} lines, {len(plan.lines)} were planned;"
                f" not ours: {foreign}; `billing-sync reconcile --repair` builds it again",
                NOT_EDITABLE if not found else "verify",
            )

    def _finalize(self, plan: Plan, draft: str) -> None:
        def look() -> str | None:
            return draft if self._held_now(draft).status != "draft" else None

        self._once(plan, "finalize", lambda key: self._provider.finalize(draft, key).external, look)
        invoice = self._held(draft)
        if invoice.total != plan.minor:
            raise Rejected(f"invoice {draft} came to {invoice.total}, {plan.minor} was planned")
        self._move(plan, "finalized", external=draft, number=invoice.number)
        self._ledger.set_status(plan.id, invoice.status, self._clock())

    def _once(self, plan: Plan, step: str, call: Callable[[str], str], find: Callable[[], str | None]) -> str:
        return self._exchange.once(plan.customer, f"{plan.id}:{step}", plan.digest, call, find)

    def _lines(self, draft: str) -> list[HeldLine]:
        return self._exchange.read(lambda: self._provider.lines(draft))

    def _held(self, draft: str) -> HeldInvoice:
        return self._exchange.read(lambda: self._held_now(draft))

    def _held_now(self, draft: str) -> HeldInvoice:
        found = self._provider.get_invoice(draft)
        if found is None:
            raise Rejected(
                f"the draft {draft} is gone; `billing-sync reconcile --repair` builds it again", "gone"
            )
        return found


def _external(held: HeldInvoice | None) -> str | None:
    return held.external if held else None
