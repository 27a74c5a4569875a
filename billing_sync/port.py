"""The port to payment providers: what the sender asks of one, and what can come back."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from billing_sync.currencies import REFUSED
from billing_sync.planner import Plan, PlannedLine


class Retry(Exception):
    """Nothing happened, or the same key makes a repetition harmless: try again."""


class Limited(Retry):
    """The provider wants fewer requests."""


class Unknown(Exception):
    """The provider failed inside (5xx): it may have done it, and repeats that answer for the key."""


class Rejected(Exception):
    """The provider refuses this request; repeating it is useless. Other customers go on."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class CustomerMissing(Rejected):
    """The customer's account is gone: nothing more is sent for this customer."""


class Halt(Exception):
    """The provider refuses us altogether (key, permissions): nothing else is tried."""


class Caps(NamedTuple):
    """What a provider can do.

    `key_seconds`: how long it remembers idempotency keys. `minimum`: the smallest charge by
    currency, in minor units. `refused`: currencies that cannot be invoiced, with why.
    `past_seconds`: how old a metered hour may be.
    """

    invoice_lines: bool = True
    meter_events: bool = False
    charge_total: bool = False
    credit_notes: bool = False
    meter_stream: bool = False
    stream_events: int = 100
    subscriptions: bool = False
    key_seconds: int = 24 * 3_600
    lines_per_call: int = 100
    lines_per_invoice: int = 250
    minimum: tuple[tuple[str, int], ...] = ()
    past_seconds: int = 35 * 86_400
    requests_per_second: float = 15.0
    refused: tuple[tuple[str, str], ...] = tuple(REFUSED.items())


class HeldLine(NamedTuple):
    """An invoice line as the provider holds it."""

    id: str
    minor: int


class HeldInvoice(NamedTuple):
    """An invoice as the provider holds it; `number` is empty while it is a draft.

    `total` is what its lines come to, before tax. `finalizes_at` (epoch seconds) is when the provider
    finalizes a draft by itself, 0 if it does not.
    """

    external: str
    status: str
    number: str
    total: int
    finalizes_at: int = 0
    currency: str = ""


class StreamedHour(NamedTuple):
    """An hour's total on its way through a stream; `value` is a plain decimal."""

    account: str
    event_name: str
    hour: int
    value: str
    identifier: str


class HeldHour(NamedTuple):
    """What a meter holds of one hour; `hour` in epoch seconds."""

    hour: int
    quantity: Decimal


class Provider(Protocol):
    """A payment provider that takes invoices with lines.

    Every writing call carries an idempotency key. Looking up goes by our own ids in metadata, over
    listings, never over a search index that lags.
    """

    name: str
    caps: Caps

    def find_customer(self, customer: str, *, is_fresh: bool = False) -> str | None:
        """The provider's id of our customer; two of them are refused.

        A listing that was read before may answer, unless a fresh one is asked for.
        """

    def create_customer(self, customer: str, name: str, key: str) -> str:
        """Create our customer; its id."""

    def find_invoice(self, external_customer: str, plan: Plan) -> HeldInvoice | None:
        """The invoice of a plan, whatever its state; two of them are refused."""

    def get_invoice(self, external: str) -> HeldInvoice | None:
        """An invoice by its id."""

    def subscription_draft(self, external_customer: str, subscription: str) -> HeldInvoice | None:
        """The draft of a subscription's page that still takes lines."""

    def create_draft(self, external_customer: str, plan: Plan, key: str) -> str:
        """Create a draft that does nothing by itself; its id."""

    def add_lines(self, external: str, plan: Plan, lines: Sequence[PlannedLine], key: str) -> None:
        """Add lines to a draft."""

    def lines(self, external: str) -> list[HeldLine]:
        """All lines of an invoice."""

    def finalize(self, external: str, key: str) -> HeldInvoice:
        """Turn a draft into an invoice."""

    def delete_draft(self, external: str) -> None:
        """Remove a draft; one that is gone already is fine."""


class HeldSubscription(NamedTuple):
    """A subscription as the provider holds it; times in epoch seconds, 0 for none."""

    external: str
    account: str
    customer: str  # our id from its metadata, or empty
    currency: str
    started: int
    anchor: int
    trial_end: int
    ended: int


class SubscriptionProvider(Provider, Protocol):
    """A provider that has subscriptions."""

    def get_subscription(self, external: str) -> HeldSubscription | None:
        """A subscription by its id."""


class CreditProvider(Provider, Protocol):
    """A provider that takes something back from a final invoice; totals are negative."""

    def adds_tax(self, customer: str) -> bool:
        """Whether a customer's invoices have tax, which a credit note of ours would not give back."""

    def create_credit(self, invoice: str, plan: Plan, key: str) -> str:
        """Create a credit note; its id."""

    def find_credit(self, invoice: str, plan: Plan) -> str | None:
        """The id of a plan's credit note."""

    def get_credit(self, external: str) -> HeldInvoice | None:
        """A credit note by its id."""


class MeterProvider(Provider, Protocol):
    """A provider that rates metered hours itself."""

    def set_hour(
        self, external_customer: str, event_name: str, hour: int, value: str, identifier: str, key: str
    ) -> None:
        """Set an hour's total; the last one counts."""

    def stream_hours(self, events: Sequence[StreamedHour], key: str) -> None:
        """Set many hours; with `caps.meter_stream`. Faults come later, as reports."""

    def held_hours(self, external_customer: str, event_name: str, start: int, end: int) -> Iterable[HeldHour]:
        """What the meter shows between two full hours (epoch seconds); it may lag."""
