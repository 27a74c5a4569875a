"""The port to payment providers: what the sender asks of one, and what can come back."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from billing_sync.planner import Plan, PlannedLine


class Retry(Exception):
    """Nothing happened, or the same key makes a repetition harmless: try again."""


class Unknown(Exception):
    """The provider failed inside (5xx): it may have done it, and repeats that answer for the key."""


class Rejected(Exception):
    """The provider refuses this request; repeating it is useless. Other customers go on."""


class Halt(Exception):
    """The provider refuses us altogether (key, permissions): nothing else is tried."""


class HeldLine(NamedTuple):
    """An invoice line as the provider holds it."""

    id: str
    minor: int


class HeldInvoice(NamedTuple):
    """An invoice as the provider holds it; `number` is empty while it is a draft."""

    external: str
    status: str
    number: str
    total: int


class Provider(Protocol):
    """A payment provider that takes invoices with lines.

    Every writing call carries an idempotency key. Looking up goes by our own ids in metadata, over
    listings, never over a search index that lags.
    """

    name: str
    lines_per_call: int
    lines_per_invoice: int

    def find_customer(self, customer: str) -> str | None:
        """The provider's id of our customer."""

    def create_customer(self, customer: str, name: str, key: str) -> str:
        """Create our customer; its id."""

    def find_invoice(self, external_customer: str, plan: Plan) -> HeldInvoice | None:
        """The invoice of a plan, whatever its state."""

    def get_invoice(self, external: str) -> HeldInvoice:
        """An invoice by its id."""

    def create_draft(self, external_customer: str, plan: Plan, key: str) -> str:
        """Create a draft that does nothing by itself; its id."""

    def add_lines(self, external: str, plan: Plan, lines: Sequence[PlannedLine], key: str) -> None:
        """Add lines to a draft."""

    def lines(self, external: str) -> list[HeldLine]:
        """All lines of an invoice."""

    def finalize(self, external: str, key: str) -> HeldInvoice:
        """Turn a draft into an invoice."""
