"""Webhooks: nothing forged gets in, nothing is processed twice, states only move forward."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from aiohttp.test_utils import TestClient, TestServer

from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.stripe_fake.webhooks import Deliveries, Delivery
from billing_sync.webhooks.inbox import MOST_TRIES, Inbox, inbox_url
from billing_sync.webhooks.server import PATH, endpoint
from billing_sync.webhooks.verify import Forged, verify
from billing_sync.webhooks.worker import Worker
from tests.billing_sync.office import HOUR, METERED, Office
from tests.billing_sync.world import closed

NEW, OLD = "whsec_new", "whsec_old"


class Post(Office):
    """An office with an inbox and deliveries of the fake."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.inbox = Inbox(f"sqlite:///{folder / 'inbox.sqlite3'}")
        self.deliveries = Deliveries(self.fake, NEW, seed=2)

    def receive(self, deliveries: list[Delivery], **changes: Any) -> list[int]:
        async def post() -> list[int]:
            app = endpoint(self.inbox, [OLD, NEW], lambda: self.now)
            async with TestClient(TestServer(app)) as client:
                found = []
                for body, signature in deliveries:
                    headers = {"Stripe-Signature": signature, **changes}
                    found.append((await client.post(PATH, data=body.encode(), headers=headers)).status)
                return found

        return asyncio.run(post())

    def process(self) -> int:
        provider = StripeProvider(FAKE_KEY, fake=self.fake)
        return Worker(self.inbox, self.ledger, provider, self.work().exchange, lambda: self.now).run()

    def event(self, kind: str, body: dict[str, Any], name: str = "evt_x") -> None:
        text = json.dumps({"id": name, "type": kind, "data": body})
        self.inbox.keep(name, kind, text, self.now)

    def statuses(self) -> list[str]:
        return [entry.status for entry in self.ledger.entries()]


@pytest.fixture
def p(tmp_path: Path) -> Iterator[Post]:
    post = Post(tmp_path)
    post.books = [closed()]
    yield post
    post.inbox.close()
    post.ledger.close()


def sign(body: str, secret: str, at: int) -> str:
    return str(stripe.WebhookSignature.generate_signature_header(body, secret, at))  # type: ignore[no-untyped-call]  # the SDK's


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_either_secret_is_taken_while_one_replaces_the_other(secret: str) -> None:
    verify(b"{}", sign("{}", secret, 1_000), [OLD, NEW], 1_000)


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        ("{ }", sign("{}", NEW, 1_000)),
        ("{}", sign("{}", "whsec_other", 1_000)),
        ("{}", sign("{}", NEW, 1_000 - 301)),
        ("{}", sign("{}", NEW, 1_000 + 301)),
        ("{}", "v1=abc"),
        ("{}", "t=soon,v1=abc"),
        ("{}", ""),
    ],
    ids=["other bytes", "other secret", "too old", "future", "no time", "no number", "nothing"],
)
def test_what_is_forged_old_or_ahead_is_refused(body: str, signature: str) -> None:
    with pytest.raises(Forged):
        verify(body.encode(), signature, [OLD, NEW], 1_000)


def test_a_forged_delivery_is_answered_400_and_not_stored(p: Post) -> None:
    p.work().run()
    deliveries = [Delivery(body, "t=1,v1=0") for body, _ in p.deliveries.take()]
    assert set(p.receive(deliveries)) == {400}
    assert p.inbox.due(p.now) == []


def test_events_that_come_twice_late_and_in_any_order_end_in_the_right_state(p: Post) -> None:
    p.work().run()
    p.fake.invoices.pay(p.objects("invoice")[0]["id"])
    first = p.deliveries.take(twice=0.6, late=0.5)
    for deliveries in (first, p.deliveries.take(), first):
        assert set(p.receive(deliveries)) <= {200}
        p.process()
    assert p.statuses() == ["paid"]
    assert p.inbox.due(p.now) == []


def test_an_event_is_processed_once(p: Post) -> None:
    p.work().run()
    deliveries = p.deliveries.take()
    p.receive(deliveries)
    assert p.process() == len(deliveries)
    p.receive(deliveries)
    assert p.process() == 0


def test_what_is_told_is_asked_again(p: Post) -> None:
    p.work().run()
    (invoice,) = p.objects("invoice")
    p.event("invoice.paid", {"object": {**invoice, "status": "paid"}})
    p.process()
    assert p.statuses() == ["open"]


def test_what_the_provider_said_at_finalizing_is_known_before_any_webhook(p: Post) -> None:
    p.work().run()
    assert p.statuses() == ["open"]


def test_a_failed_payment_is_known_until_the_invoice_is_paid(p: Post) -> None:
    p.work().run()
    (invoice,) = p.objects("invoice")
    p.event("invoice.payment_failed", {"object": invoice})
    p.receive(p.deliveries.take())  # created, finalized: old words
    p.process()
    assert p.statuses() == ["failed"]
    p.fake.invoices.pay(invoice["id"])
    p.receive(p.deliveries.take())
    p.event("invoice.payment_failed", {"object": invoice}, "evt_late")
    p.process()
    assert p.statuses() == ["paid"]


def test_a_payment_whose_webhook_went_astray_is_found_by_reconciling(p: Post) -> None:
    p.work().run()
    p.fake.invoices.pay(p.objects("invoice")[0]["id"])
    assert p.drift() == []
    assert p.statuses() == ["paid"]


def test_an_event_before_our_own_commit_is_tried_again_and_at_last_listed(p: Post) -> None:
    p.work().run()
    (invoice,) = p.objects("invoice")
    p.event("invoice.created", {"object": {**invoice, "metadata": {"um_invoice": "inv_unknown"}}})
    for _ in range(MOST_TRIES):
        assert p.process() == 0
        p.now += 12 * HOUR
    ((name, _, _, _, _, tries, reason),) = p.inbox.failed()
    assert (name, tries, "not in the ledger" in reason) == ("evt_x", MOST_TRIES, True)
    assert p.inbox.retry("evt_x", p.now)
    assert p.inbox.failed() == []
    assert not p.inbox.retry("evt_x", p.now)


def test_an_invoice_of_another_program_is_left_alone(p: Post) -> None:
    p.event("invoice.created", {"object": {"id": "in_other", "metadata": {}}})
    assert (p.process(), p.statuses()) == (1, [])


def test_an_event_that_is_shaped_differently_is_put_off(p: Post) -> None:
    p.event("invoice.created", {"nothing": 1})
    p.process()
    p.now += HOUR
    (waiting,) = p.inbox.due(p.now)
    assert "not shaped" in waiting.reason


def test_a_deleted_account_stops_its_customer(p: Post) -> None:
    p.work().run()
    p.fake.customers.delete(p.objects("customer")[0]["id"])
    p.receive(p.deliveries.take())
    p.process()
    person = p.ledger.person("acme")
    assert person is not None
    assert person.stopped.startswith("customer_missing")


def test_a_checkout_maps_the_account_that_paid(p: Post) -> None:
    session = {"id": "cs_1", "client_reference_id": "acme", "customer": "cus_7"}
    p.event("checkout.session.completed", {"object": session})
    p.process()
    person = p.ledger.person("acme")
    assert person is not None
    assert (person.external, person.how) == ("cus_7", "checkout")


def test_an_error_report_of_a_meter_finds_the_hour_by_its_key(p: Post) -> None:
    p.config = METERED
    p.make_meter()
    p.hours = {p.now - 2 * HOUR: p.books[0].prices[0].quantity}
    p.books = []
    p.work().run()
    ((key,),) = p.ledger.rows("SELECT id FROM request WHERE id LIKE 'm1_%'")
    sample = {"error_message": "", "request": {"identifier": f"{key}:0"}}
    reason = {"error_types": [{"code": "archived_meter", "sample_errors": [sample]}]}
    p.event("v1.billing.meter.error_report_triggered", {"reason": reason})
    p.process()
    (hour,) = p.ledger.hours()
    assert (hour.state, hour.reason.partition(":")[0]) == ("rejected", "archived_meter")


def test_the_inbox_is_beside_the_ledger() -> None:
    assert inbox_url("sqlite:////a/ledger.sqlite3") == "sqlite:////a/inbox.sqlite3"
    assert inbox_url("postgresql+psycopg://h/db") == "postgresql+psycopg://h/db"
