"""What an event does: the object is fetched again, and states only move forward."""

import json
from collections.abc import Callable
from typing import Any, cast

from billing_sync.exchange import Exchange
from billing_sync.ledger import NOT_PAID, Entry, Ledger, Subscribed
from billing_sync.meters import identifier
from billing_sync.pace import Paused, Waiting
from billing_sync.port import Provider, Rejected, SubscriptionProvider
from billing_sync.providers.stripe_subscriptions import price_of
from billing_sync.sender import DRAFT_OF
from billing_sync.webhooks.inbox import Delivery, Inbox

_PAYMENT_FAILED = "invoice.payment_failed"
_METER_FAULTS = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")


class NotYet(Exception):
    """What the event is about is not known here yet: it may have come before our own commit."""


class Worker:
    """Processes an inbox into a ledger."""

    def __init__(
        self, inbox: Inbox, ledger: Ledger, provider: Provider, exchange: Exchange, clock: Callable[[], int]
    ) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._provider = provider
        self._exchange = exchange
        self._clock = clock

    def run(self) -> int:
        """Process what is due; how many events had their effect."""
        done = 0
        for delivery in self._inbox.due(self._clock()):
            try:
                self._process(delivery)
            except Paused:
                return done
            except (NotYet, Waiting, Rejected) as error:
                self._inbox.put_off(delivery, str(error), self._clock())
            except (KeyError, TypeError, ValueError) as error:
                self._inbox.put_off(delivery, f"it is not shaped as expected: {error!r}", self._clock())
            else:
                self._inbox.done(delivery.id)
                done += 1
        return done

    def _process(self, delivery: Delivery) -> None:
        event = json.loads(delivery.body)
        if delivery.kind.startswith("invoice."):
            self._invoice(event["data"]["object"], delivery.kind)
        elif delivery.kind.startswith("customer.subscription."):
            self._subscription(event["data"]["object"], int(event["created"]))
        elif delivery.kind == "customer.deleted":
            self._customer_deleted(event["data"]["object"]["id"])
        elif delivery.kind == "checkout.session.completed":
            self._checkout(event["data"]["object"])
        elif delivery.kind in _METER_FAULTS:
            self._meter_faults(event["data"]["reason"])

    def _invoice(self, told: dict[str, Any], kind: str) -> None:
        """The snapshot says which invoice; what it has become is asked."""
        ours = (told.get("metadata") or {}).get("um_invoice", "")
        subscription = (told.get("parent") or {}).get("subscription_details", {}).get("subscription", "")
        if subscription and told.get("status") == "draft":
            self._ledger.set_mark(f"{DRAFT_OF} {subscription}", told["id"])  # its window is open now
        entry = self._ledger.entry(ours) if ours else self._of_external(told["id"])
        if entry is None:
            if ours:
                raise NotYet(f"the invoice {ours} is not in the ledger")
            return  # another program's
        held = self._exchange.read(lambda: self._provider.get_invoice(told["id"]))
        status = held.status if held else ""
        if kind == _PAYMENT_FAILED and status == "open":  # it stays open while the provider tries again
            status = NOT_PAID
        self._ledger.set_status(entry.plan.id, status, self._clock())

    def _of_external(self, external: str) -> Entry | None:
        found = (e for e in self._ledger.entries() if e.external == external)
        return next(found, None)

    def _subscription(self, told: dict[str, Any], at: int) -> None:
        """What it says now is asked; the price that the event shows began with the event."""
        if not self._provider.caps.subscriptions:
            return
        provider = cast("SubscriptionProvider", self._provider)
        held = self._exchange.read(lambda: provider.get_subscription(told["id"]))
        if held is None:
            raise NotYet(f"the subscription {told['id']} is not there")
        customer = held.customer or self._customer_of(held.account)
        if not customer:
            raise NotYet(f"nobody of ours is {held.account}: `billing-sync customers map`")
        prices = ((max(at, held.started), price_of(told)),)
        place = (held.external, customer, held.account, held.currency)
        self._ledger.keep_subscription(Subscribed(*place, *held[4:], prices))

    def _customer_of(self, account: str) -> str:
        return next((p.customer for p in self._ledger.people() if p.external == account), "")

    def _customer_deleted(self, account: str) -> None:
        for person in self._ledger.people():
            if person.external == account:
                text = "customer_missing: the account was deleted at the provider"
                self._ledger.stop_person(person.customer, text, self._clock())

    def _checkout(self, session: dict[str, Any]) -> None:
        """A checkout that names our customer maps the account that paid."""
        customer, account = session.get("client_reference_id"), session.get("customer")
        known = self._ledger.person(customer) if customer else None
        if customer and account and known is None:
            self._ledger.map_person(customer, account, "checkout", self._clock())

    def _meter_faults(self, reason: dict[str, Any]) -> None:
        """A report gives samples of idempotency keys; ours name the hour and its revision."""
        codes = {
            sample["request"]["identifier"].partition(":")[0]: kind["code"]
            for kind in reason["error_types"]
            for sample in kind["sample_errors"]
        }
        for name, code in codes.items():
            self._ledger.report_hours(name, code)  # none, unless it is a streamed request
        for hour in self._ledger.hours():
            code = codes.get(identifier(hour))
            if code:
                self._ledger.set_hour(hour, "rejected", reason=f"{code}: the provider's error report")
