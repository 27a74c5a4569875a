"""What billing relies on, asked of the fake; and of a Stripe test account when STRIPE_API_KEY holds its key.

A live key is refused. Everything that is made carries a name of this run; drafts and customers are removed.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
import stripe

from billing_sync.planner import Plan, PlannedLine
from billing_sync.port import CustomerMissing, Rejected
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider, api_key
from billing_sync.providers.stripe_errors import ask
from billing_sync.stripe_fake.core import Fake
from metering.errors import UserError

HOUR = 3_600
SIDES = ["fake", *(["Stripe"] if api_key() and not os.environ.get("STRIPE_API_BASE") else [])]
ADDRESS: Any = {"line1": "1 Main Street", "city": "Berlin", "postal_code": "10115", "country": "DE"}


class Side(NamedTuple):
    """One of the two, with a customer and a name of this run."""

    provider: StripeProvider
    name: str
    customer: str
    now: int

    def key(self) -> str:
        return f"{self.name}:{uuid.uuid4().hex}"

    def plan(self, *minor: int, currency: str = "USD") -> Plan:
        identity = f"inv_{uuid.uuid4().hex}"
        lines = [PlannedLine(f"{identity}:p{n}", f"p{n}", f"line {n}", m, m) for n, m in enumerate(minor)]
        return Plan(identity, self.name, "2023-11", currency, sum(minor), 0, 0, tuple(lines))

    def draft(self, plan: Plan) -> str:
        return self.provider.create_draft(self.customer, plan, self.key())

    def final(self, *minor: int) -> tuple[Plan, str]:
        plan = self.plan(*minor)
        draft = self.draft(plan)
        self.provider.add_lines(draft, plan, plan.lines, self.key())
        self.provider.finalize(draft, self.key())
        return plan, draft


def contract_provider(side: str) -> StripeProvider:
    """The fake, or Stripe's test mode; `StripeProvider` refuses a live key."""
    return StripeProvider(FAKE_KEY, fake=Fake()) if side == "fake" else StripeProvider(api_key())


@pytest.fixture(params=SIDES)
def s(request: pytest.FixtureRequest) -> Iterator[Side]:
    provider = contract_provider(request.param)
    name = f"contract_{uuid.uuid4().hex[:12]}"
    customer = provider.create_customer(name, "Contract", f"{name}:customer")
    params: Any = {"address": ADDRESS}
    provider.connection.v1.customers.update(customer, params)
    yield Side(provider, name, customer, int(time.time()))
    client = provider.connection.v1
    for held in client.invoices.list({"customer": customer, "limit": 100}).data:
        if held.status == "draft":
            client.invoices.delete(held.id)
    client.customers.delete(customer)


def refusal(work: Callable[[], Any]) -> Rejected:
    with pytest.raises(Rejected) as found:
        work()
    return found.value


@pytest.mark.parametrize("key", ["sk_live_1", "rk_live_1"])
def test_a_live_key_never_runs_this_suite(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", key)
    with pytest.raises(UserError, match="live Stripe key"):
        contract_provider("Stripe")


def test_a_customer_is_found_by_our_id(s: Side) -> None:
    assert s.provider.find_customer(s.name, is_fresh=True) == s.customer


def test_an_invoice_goes_from_draft_to_final_with_our_lines(s: Side) -> None:
    plan = s.plan(1_234, 200, -34)
    draft = s.draft(plan)
    s.provider.add_lines(draft, plan, plan.lines[:2], s.key())
    s.provider.add_lines(draft, plan, plan.lines[2:], s.key())
    assert {(line.id, line.minor) for line in s.provider.lines(draft)} == {
        (line.id, line.minor) for line in plan.lines
    }
    held = s.provider.finalize(draft, s.key())
    assert (held.status, held.total) == ("open", 1_400)
    assert held.number
    assert s.provider.find_invoice(s.customer, plan) == held


def test_the_same_key_is_the_same_request(s: Side) -> None:
    plan, key = s.plan(100), s.key()
    assert s.provider.create_draft(s.customer, plan, key) == s.provider.create_draft(s.customer, plan, key)


def test_a_key_is_not_taken_for_another_request(s: Side) -> None:
    key = s.key()
    s.provider.create_draft(s.customer, s.plan(100), key)
    with pytest.raises(stripe.IdempotencyError):
        s.provider.connection.v1.invoices.create(
            {"customer": s.customer, "description": "another"}, {"idempotency_key": key}
        )


def test_a_final_invoice_takes_no_lines(s: Side) -> None:
    plan, invoice = s.final(1_000)
    more = s.plan(5)
    error = refusal(lambda: s.provider.add_lines(invoice, more, more.lines, s.key()))
    assert "editable" in str(error) or "draft" in str(error)
    assert len(s.provider.lines(invoice)) == len(plan.lines)


def test_more_than_250_lines_are_refused(s: Side) -> None:
    plan = s.plan(*[1] * 251)
    draft = s.draft(plan)
    for start in (0, 100):
        s.provider.add_lines(draft, plan, plan.lines[start : start + 100], s.key())
    refusal(lambda: s.provider.add_lines(draft, plan, plan.lines[200:], s.key()))
    assert len(s.provider.lines(draft)) == 200


def test_a_deleted_draft_is_not_there(s: Side) -> None:
    draft = s.draft(s.plan(100))
    s.provider.delete_draft(draft)
    s.provider.delete_draft(draft)
    assert s.provider.get_invoice(draft) is None


def test_an_unknown_customer_is_missing(s: Side) -> None:
    with pytest.raises(CustomerMissing):
        s.provider.create_draft("cus_not_there", s.plan(100), s.key())


def test_a_wrong_step_is_refused(s: Side) -> None:
    plan = s.plan(1_250, currency="ISK")
    draft = s.draft(plan)
    refusal(lambda: s.provider.add_lines(draft, plan, plan.lines, s.key()))


def test_what_is_below_the_minimum_is_paid_and_goes_to_the_balance(s: Side) -> None:
    _, invoice = s.final(20)
    held = s.provider.get_invoice(invoice)
    assert held is not None
    assert held.status == "paid"
    assert s.provider.connection.v1.customers.retrieve(s.customer).balance == 20


def test_a_credit_note_gives_back_from_a_final_invoice(s: Side) -> None:
    _, invoice = s.final(1_000)
    plan = s.plan(-300)
    note = s.provider.create_credit(invoice, plan, s.key())
    held = s.provider.get_credit(note)
    assert held is not None
    assert held.total == -300
    assert s.provider.find_credit(invoice, plan) == note
    refusal(lambda: s.provider.create_credit(invoice, s.plan(-900), s.key()))


def make_meter(s: Side) -> str:
    event_name = f"{s.name}_{uuid.uuid4().hex[:8]}"
    params: Any = {
        "display_name": event_name,
        "event_name": event_name,
        "default_aggregation": {"formula": "sum"},
        "event_time_window": "hour",
    }
    s.provider.connection.v1.billing.meters.create(params)
    return event_name


def set_hour(s: Side, name: str, hour: int, value: str, identifier: str) -> None:
    s.provider.set_hour(s.customer, name, hour, value, identifier, s.key())


def test_an_identifier_counts_once_and_the_last_total_of_an_hour_stands(s: Side) -> None:
    """Stripe shows hours with a lag, so only acceptance is asked here; reconcile reads them back later."""
    name, hour = make_meter(s), s.now // HOUR * HOUR - HOUR
    set_hour(s, name, hour, "1.5", f"{s.name}_a")
    set_hour(s, name, hour, "1.5", f"{s.name}_a")  # already exists: done
    set_hour(s, name, hour, "2", f"{s.name}_b")
    held = {h.hour: h.quantity for h in s.provider.held_hours(s.customer, name, hour, hour + HOUR)}
    assert held.get(hour, 2) in (Decimal("1.5"), 2)


@pytest.mark.parametrize("days", [-36, 1])
def test_hours_too_old_or_ahead_are_refused(s: Side, days: int) -> None:
    name, hour = make_meter(s), s.now // HOUR * HOUR
    refusal(lambda: set_hour(s, name, hour + days * 86_400, "1", f"{s.name}_old"))


def test_more_than_fifteen_digits_are_refused(s: Side) -> None:
    name, hour = make_meter(s), s.now // HOUR * HOUR - HOUR
    refusal(lambda: set_hour(s, name, hour, "1234567890.123456", f"{s.name}_digits"))


def test_a_meter_that_is_not_there_is_named(s: Side) -> None:
    assert refusal(lambda: set_hour(s, "nobody_has_this", s.now, "1", "x")).code == "meter_missing"


def test_the_clock_can_be_compared(s: Side) -> None:
    headers = s.provider.connection.sdk.raw_request("get", "/v1/customers", limit=1).headers
    assert any(name.lower() == "date" for name in headers)


def test_the_tax_settings_say_whether_tax_is_on(s: Side) -> None:
    settings = ask(s.provider.connection.v1.tax.settings.retrieve)
    assert settings.status in ("active", "pending")
