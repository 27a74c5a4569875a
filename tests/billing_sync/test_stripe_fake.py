"""The traps of Stripe that the fake models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from billing_sync.stripe_fake.server import Fake, running


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[tuple[Any, Fake]]:
    with running(tmp_path / "fake.sqlite3") as (base, made):
        client = stripe.StripeClient("sk_test_x", base_addresses={"api": base}, max_network_retries=0)
        yield client.v1, made


def draft(client: Any, currency: str = "usd") -> str:
    customer = client.customers.create({"name": "A"})
    return str(client.invoices.create({"customer": customer.id, "currency": currency}).id)


def test_the_same_key_gives_the_same_answer(fake: tuple[Any, Fake]) -> None:
    client, made = fake
    options = {"idempotency_key": "k"}
    assert (
        client.customers.create({"name": "A"}, options).id
        == client.customers.create({"name": "A"}, options).id
    )
    assert len(made.state.all("customer")) == 1


def test_a_key_with_other_parameters_is_an_error(fake: tuple[Any, Fake]) -> None:
    client, _ = fake
    client.customers.create({"name": "A"}, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError):
        client.customers.create({"name": "B"}, {"idempotency_key": "k"})


def test_a_key_is_new_after_a_day(fake: tuple[Any, Fake]) -> None:
    client, made = fake
    client.customers.create({"name": "A"}, {"idempotency_key": "k"})
    now = made.clock()
    made.clock = lambda: now + 25 * 3_600
    client.customers.create({"name": "A"}, {"idempotency_key": "k"})
    assert len(made.state.all("customer")) == 2


def test_a_final_invoice_takes_no_lines(fake: tuple[Any, Fake]) -> None:
    client, _ = fake
    invoice = draft(client)
    client.invoices.finalize_invoice(invoice)
    with pytest.raises(stripe.InvalidRequestError, match="no longer editable"):
        client.invoices.add_lines(invoice, {"lines": [{"amount": 1}]})


def test_an_invoice_holds_at_most_250_lines(fake: tuple[Any, Fake]) -> None:
    client, _ = fake
    invoice = draft(client)
    with pytest.raises(stripe.InvalidRequestError, match="250"):
        client.invoices.add_lines(invoice, {"lines": [{"amount": 1}] * 251})


def test_amounts_must_respect_the_step(fake: tuple[Any, Fake]) -> None:
    client, _ = fake
    with pytest.raises(stripe.InvalidRequestError, match="multiple of 100"):
        client.invoices.add_lines(draft(client, "isk"), {"lines": [{"amount": 150}]})


def test_listings_have_pages_of_ten(fake: tuple[Any, Fake]) -> None:
    client, _ = fake
    invoice = draft(client)
    client.invoices.add_lines(invoice, {"lines": [{"amount": n} for n in range(12)]})
    page = client.invoices.line_items.list(invoice)
    assert (len(page.data), page.has_more) == (10, True)


def test_what_it_holds_survives_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path / "fake.sqlite3") as (base, made):
            client = stripe.StripeClient("sk_test_x", base_addresses={"api": base})
            client.v1.customers.create({"name": "A"})
    assert made.posts == 1
    with running(tmp_path / "fake.sqlite3") as (_, again):
        assert len(again.state.all("customer")) == 2


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "fake.sqlite3") as (base, _):
        client = stripe.StripeClient("nonsense", base_addresses={"api": base})
        with pytest.raises(stripe.AuthenticationError):
            client.v1.customers.list()
