"""The traps of Stripe that the fake models, met through the real SDK."""

from pathlib import Path
from typing import Any

import pytest
import stripe

from billing_sync.stripe_fake.client import FakeClient
from billing_sync.stripe_fake.core import Fake
from billing_sync.stripe_fake.errors import Crash
from billing_sync.stripe_fake.faults import Fault
from billing_sync.stripe_fake.server import running
from billing_sync.stripe_fake.webhooks import Deliveries

HOUR, DAY = 3_600, 86_400
NOON = 1_700_000_000 // DAY * DAY + 12 * HOUR


class Account:
    """A fake in this process, the SDK in front of it, a clock that is set."""

    def __init__(self) -> None:
        self.now = NOON
        self.fake = Fake(None, lambda: float(self.now))
        self.sdk = stripe.StripeClient("sk_test_x", http_client=FakeClient(self.fake), max_network_retries=0)
        self.v1: Any = self.sdk.v1

    def customer(self, name: str = "A", key: str = "", **more: Any) -> str:
        options = {"idempotency_key": key} if key else {}
        return str(self.v1.customers.create({"name": name, **more}, options).id)

    def draft(self, currency: str = "usd", customer: str = "", **more: Any) -> str:
        params = {"customer": customer or self.customer(), "currency": currency, **more}
        return str(self.v1.invoices.create(params).id)

    def lines(self, invoice: str, *amounts: int) -> Any:
        return self.v1.invoices.add_lines(invoice, {"lines": [{"amount": a} for a in amounts]})

    def count(self, kind: str) -> int:
        return len(self.fake.state.all(kind))

    def meter(self, window: str | None = "hour") -> str:
        params = {
            "display_name": "Tokens",
            "event_name": "tokens",
            "default_aggregation": {"formula": "sum"},
            **({"event_time_window": window} if window else {}),
        }
        return str(self.v1.billing.meters.create(params).id)

    def report(self, customer: str, value: str, identifier: str, at: int = NOON, key: str = "") -> Any:
        return self.v1.billing.meter_events.create(
            {
                "event_name": "tokens",
                "payload": {"stripe_customer_id": customer, "value": value},
                "identifier": identifier,
                "timestamp": at,
            },
            {"idempotency_key": key} if key else {},
        )

    def summary(self, meter: str, customer: str, **query: Any) -> list[float]:
        window = {"start_time": NOON - DAY, "end_time": NOON + DAY, "customer": customer, **query}
        found = self.v1.billing.meters.event_summaries.list(meter, window)
        return [float(one.aggregated_value) for one in found.data]


@pytest.fixture
def a() -> Account:
    return Account()


def test_the_same_key_gives_the_same_answer(a: Account) -> None:
    assert a.customer(key="k") == a.customer(key="k")
    assert a.count("customer") == 1


def test_a_key_with_other_parameters_is_an_error(a: Account) -> None:
    a.customer("A", "k")
    with pytest.raises(stripe.IdempotencyError):
        a.customer("B", "k")


def test_a_key_is_new_after_a_day(a: Account) -> None:
    a.customer(key="k")
    a.now += DAY + 1
    a.customer(key="k")
    assert a.count("customer") == 2


def test_a_stored_failure_is_replayed_although_the_work_was_done(a: Account) -> None:
    a.fake.faults.add({"kind": "status", "when": "after"})
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            a.customer(key="k")
    assert a.count("customer") == 1


def test_a_refused_parameter_is_not_remembered(a: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter: nmae"):
        a.v1.customers.create({"nmae": "A"}, {"idempotency_key": "k"})
    assert a.customer("A", "k")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ({"amont": 1}, r"unknown parameter: lines\[amont\]|lines"),
        ({"amount": 1.5}, "Invalid value"),
        ({"amount": 1, "price": "price_1"}, "unknown parameter"),
        ({"amount": 1, "period": {"start": 1}}, r"Missing required param: .*\[end\]"),
    ],
)
def test_requests_are_checked_against_the_types_of_the_sdk(
    a: Account, line: dict[str, Any], text: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=text):
        a.v1.invoices.add_lines(a.draft(), {"lines": [line]})


def test_a_key_that_is_being_worked_on_is_in_use(a: Account) -> None:
    a.fake.faults.add({"kind": "slow", "seconds": 60})
    with pytest.raises(stripe.APIConnectionError):
        a.customer(key="k")
    with pytest.raises(stripe.StripeError, match="in-progress") as found:
        a.customer(key="k")
    assert found.value.http_status == 409
    a.now += 60
    assert a.customer(key="k")
    assert a.count("customer") == 1


def test_a_delayed_request_takes_effect_later(a: Account) -> None:
    a.fake.faults.add({"kind": "delay", "seconds": 60})
    with pytest.raises(stripe.APIConnectionError):
        a.customer()
    assert a.count("customer") == 0
    a.now += 60
    a.fake.settle()
    assert a.count("customer") == 1


def test_a_cut_answer_is_no_connection_error(a: Account) -> None:
    a.fake.faults.add({"kind": "cut"})
    with pytest.raises(stripe.APIError) as found:
        a.customer()
    assert (found.value.http_status, a.count("customer")) == (200, 1)


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
def test_the_sender_can_die_at_any_request(a: Account, when: str, made: int) -> None:
    a.fake.faults.decide = lambda method, _: Fault("crash", when) if method == "POST" else None
    with pytest.raises(Crash):
        a.customer()
    assert a.count("customer") == made


def test_reading_can_fail_too(a: Account) -> None:
    a.fake.faults.add({"kind": "status", "status": 429, "methods": ["GET"]})
    with pytest.raises(stripe.RateLimitError):
        a.v1.customers.list()


def test_a_final_invoice_takes_no_lines(a: Account) -> None:
    invoice = a.draft()
    a.v1.invoices.finalize_invoice(invoice)
    with pytest.raises(stripe.InvalidRequestError, match="no longer editable"):
        a.lines(invoice, 1)


def test_an_invoice_holds_at_most_250_lines(a: Account) -> None:
    invoice = a.draft()
    a.lines(invoice, *[1] * 250)
    with pytest.raises(stripe.InvalidRequestError, match="250"):
        a.lines(invoice, 1)


@pytest.mark.parametrize(("currency", "amount"), [("isk", 150), ("kwd", 5_123)])
def test_amounts_must_respect_the_step(a: Account, currency: str, amount: int) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="multiple of"):
        a.lines(a.draft(currency), amount)


def test_listings_have_pages_of_ten(a: Account) -> None:
    invoice = a.draft()
    a.lines(invoice, *range(12))
    page = a.v1.invoices.line_items.list(invoice)
    assert (len(page.data), page.has_more) == (10, True)


def test_what_is_too_small_goes_to_the_balance_and_onto_the_next_invoice(a: Account) -> None:
    customer = a.customer()
    first, second = a.draft(customer=customer), a.draft(customer=customer)
    a.lines(first, 49)
    assert a.v1.invoices.finalize_invoice(first).status == "paid"
    a.lines(second, 60)
    final = a.v1.invoices.finalize_invoice(second)
    assert (final.status, final.amount_due) == ("open", 109)


def test_tax_needs_to_know_where_the_customer_is(a: Account) -> None:
    invoice = a.draft(automatic_tax={"enabled": True})
    with pytest.raises(stripe.InvalidRequestError) as found:
        a.v1.invoices.finalize_invoice(invoice)
    assert found.value.code == "customer_tax_location_invalid"


def test_a_subscription_draft_finalizes_itself_after_an_hour(a: Account) -> None:
    subscription = a.v1.subscriptions.create({"customer": a.customer()})
    draft = a.fake.customers.cycle(subscription.id, NOON - 30 * DAY, NOON, fee=900)
    a.lines(draft["id"], 100)
    a.now += HOUR
    found = a.v1.invoices.retrieve(draft["id"])
    assert (found.status, found.total) == ("open", 1_000)


def test_an_identifier_is_refused_within_a_day_with_the_exact_words(a: Account) -> None:
    customer, _ = a.customer(), a.meter()
    a.report(customer, "1", "i")
    with pytest.raises(stripe.InvalidRequestError, match="An event already exists with identifier i") as e:
        a.report(customer, "1", "i")
    assert (e.value.http_status, e.value.code) == (400, None)
    a.now += DAY + 1
    a.report(customer, "1", "i")
    assert a.count("meter_event") == 2


def test_an_hour_window_keeps_what_came_last(a: Account) -> None:
    customer, meter = a.customer(), a.meter()
    a.report(customer, "5", "x", NOON)
    a.report(customer, "3", "y", NOON + 60)
    a.report(customer, "1", "z", NOON - HOUR)
    assert a.summary(meter, customer, value_grouping_window="hour") == [3.0, 1.0]


def test_without_a_window_everything_counts(a: Account) -> None:
    customer, meter = a.customer(), a.meter(window=None)
    a.report(customer, "0.1", "x")
    a.report(customer, "0.2", "y")
    assert a.summary(meter, customer) == [0.1 + 0.2]


def test_summaries_lag(a: Account) -> None:
    customer, meter = a.customer(), a.meter()
    a.fake.meters.lag = 120
    a.report(customer, "5", "x")
    assert a.summary(meter, customer) == []
    a.now += 120
    assert a.summary(meter, customer) == [5.0]


@pytest.mark.parametrize(
    ("at", "code"),
    [(NOON - 35 * DAY - 1, "timestamp_too_far_in_past"), (NOON + 301, "timestamp_in_future")],
)
def test_events_must_not_be_too_old_or_ahead(a: Account, at: int, code: str) -> None:
    customer, _ = a.customer(), a.meter()
    with pytest.raises(stripe.InvalidRequestError) as found:
        a.report(customer, "1", "x", at)
    assert found.value.code == code


def test_values_have_at_most_15_digits(a: Account) -> None:
    customer, _ = a.customer(), a.meter()
    a.report(customer, "123456789.123456", "x")
    with pytest.raises(stripe.InvalidRequestError) as found:
        a.report(customer, "1234567890.123456", "y")
    assert found.value.code == "meter_event_value_too_many_digits"


def test_an_archived_meter_takes_nothing(a: Account) -> None:
    customer, meter = a.customer(), a.meter()
    a.v1.billing.meters.deactivate(meter)
    with pytest.raises(stripe.InvalidRequestError) as found:
        a.report(customer, "1", "x")
    assert found.value.code == "archived_meter"


def test_the_stream_answers_nothing_and_reports_faults_later(a: Account) -> None:
    customer, meter = a.customer(), a.meter()
    session: Any = a.sdk.v2.billing.meter_event_session.create()
    event = {
        "event_name": "tokens",
        "payload": {"stripe_customer_id": customer, "value": "7"},
        "timestamp": "2023-11-14T12:00:00Z",
    }
    wrong = {**event, "event_name": "nothing"}
    options: Any = {"api_key": session.authentication_token, "idempotency_key": "stream-1"}
    a.sdk.v2.billing.meter_event_stream.create({"events": [event, wrong]}, options)
    (report,) = a.fake.state.all("v2.core.event")
    assert report["type"] == "v1.billing.meter.no_meter_found"
    samples = report["data"]["reason"]["error_types"][0]["sample_errors"]
    assert samples[0]["request"]["identifier"] == "stream-1"
    assert a.summary(meter, customer) == [7.0]
    a.now += 15 * 60
    with pytest.raises(stripe.StripeError, match="expired"):
        a.sdk.v2.billing.meter_event_stream.create({"events": [event]}, options)


def test_a_deleted_customer_cannot_be_invoiced(a: Account) -> None:
    customer = a.customer()
    a.v1.customers.delete(customer)
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        a.draft(customer=customer)
    assert a.v1.customers.list().data == []


def test_webhooks_are_signed_and_come_twice_late_and_in_any_order(a: Account) -> None:
    for name in "ABCDEFGH":
        a.customer(name)
    inbox = Deliveries(a.fake, "whsec_x", seed=3)
    first = inbox.take(twice=0.5, late=0.4)
    then = inbox.take()
    ids = [stripe.Webhook.construct_event(d.body, d.signature, "whsec_x", 10**9).id for d in first + then]  # type: ignore[no-untyped-call]  # the SDK's
    assert len(set(ids)) == 8
    assert len(ids) > 8
    assert then
    assert ids != sorted(ids)


def test_a_revoked_key_is_refused(a: Account) -> None:
    a.fake.revoked["sk_test_x"] = 403
    with pytest.raises(stripe.PermissionError):
        a.v1.customers.list()


def test_ids_are_never_given_twice(a: Account) -> None:
    customer = a.customer()
    first = a.draft(customer=customer)
    a.v1.invoices.delete(first)
    assert a.draft(customer=customer) != first


def test_what_it_holds_survives_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path / "fake.sqlite3") as (base, made):
            client = stripe.StripeClient("sk_test_x", base_addresses={"api": base})
            client.v1.customers.create({"name": "A"})
    assert made.posts == 1
    with running(tmp_path / "fake.sqlite3") as (_, again):
        assert len(again.state.all("customer")) == 2


def test_an_unknown_key_is_refused_on_the_socket(tmp_path: Path) -> None:
    with running(tmp_path / "fake.sqlite3") as (base, _):
        client = stripe.StripeClient("nonsense", base_addresses={"api": base})
        with pytest.raises(stripe.AuthenticationError):
            client.v1.customers.list()
