"""Reconcile finds what somebody changed at the provider, and its repair goes through the ledger."""

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from billing_sync.reconcile import Finding, Scope
from tests.billing_sync.office import HOUR, METERED, Office
from tests.billing_sync.world import closed


@pytest.fixture
def d() -> Iterator[Office]:
    desk = Office()
    desk.books = [closed()]
    yield desk
    desk.ledger.close()


def delete_line(d: Office) -> None:
    (invoice,), lines = d.objects("invoice"), d.objects("line_item")
    d.fake.state.delete(lines[0]["id"])
    d.fake.state.put({**invoice, "total": invoice["total"] - lines[0]["amount"]})


def change_line(d: Office) -> None:
    (invoice,), lines = d.objects("invoice"), d.objects("line_item")
    d.fake.state.put({**lines[0], "amount": lines[0]["amount"] + 77})
    d.fake.state.put({**invoice, "total": invoice["total"] + 77})


def add_line(d: Office) -> None:
    (invoice,) = d.objects("invoice")
    body = {"amount": 500, "currency": "usd", "metadata": {}, "invoice": invoice["id"]}
    d.fake.state.create("line_item", "il", body, parent=invoice["id"])
    d.fake.state.put({**invoice, "total": invoice["total"] + 500})


BY_HAND = [(delete_line, "missing"), (change_line, "over"), (add_line, "foreign")]


def test_nothing_drifts_by_itself(d: Office) -> None:
    d.work().run()
    found = d.reconciler().check()
    assert {f.verdict for f in found} == {"ok"}
    assert [f.kind for f in found] == ["plan", "invoice", "line", "line"]


@pytest.mark.parametrize(("by_hand", "verdict"), BY_HAND)
def test_a_line_that_was_changed_by_hand_is_found(
    d: Office, by_hand: Callable[[Office], None], verdict: str
) -> None:
    d.work().run()
    by_hand(d)
    assert ("line", verdict) in d.drift()


@pytest.mark.parametrize(("by_hand", "_verdict"), BY_HAND)
def test_a_final_invoice_is_mended_on_the_next_one(
    d: Office, by_hand: Callable[[Office], None], _verdict: str
) -> None:
    d.work().run()
    by_hand(d)
    assert d.repair() == 1
    assert d.repair() == 0
    assert d.drift() == []
    d.books.append(closed("acme", "2023-12", 20_000_000))
    d.work().run()
    rated = sum(b.micro for b in d.books)
    assert d.billed_micro() + d.ledger.carry("acme", "USD") == rated


@pytest.mark.parametrize(("by_hand", "verdict"), BY_HAND)
def test_a_draft_is_built_again(d: Office, by_hand: Callable[[Office], None], verdict: str) -> None:
    d.fake.faults.add({"kind": "status", "status": 500, "skip": 3})  # customer, draft and lines work
    d.work().run()
    by_hand(d)
    d.now += HOUR
    d.work().run()
    (entry,) = d.ledger.entries()
    assert (entry.state, d.objects("invoice")[0]["status"]) == ("blocked", "draft")
    assert d.repair() == 1
    d.work().run()
    (invoice,) = d.objects("invoice")
    assert (invoice["status"], invoice["total"]) == ("open", 323)
    assert d.drift() == []


def test_a_draft_that_was_deleted_is_built_again(d: Office) -> None:
    d.fake.faults.add({"kind": "status", "status": 500, "skip": 3})
    d.work().run()
    d.fake.invoices.delete_draft(d.objects("invoice")[0]["id"])
    d.now += HOUR
    d.work().run()
    assert d.repair() == 1
    d.work().run()
    assert [i["total"] for i in d.objects("invoice")] == [323]


def test_a_voided_invoice_is_told_and_left_to_people(d: Office) -> None:
    d.work().run()
    d.fake.invoices.void(d.objects("invoice")[0]["id"])
    (finding,) = [f for f in d.reconciler().check() if f.is_drift]
    assert (finding.verdict, "periods reopen" in finding.note) == ("missing", True)
    assert d.repair() == 0


def test_books_that_say_something_else_than_the_plan_are_found(d: Office) -> None:
    d.work().run()
    d.books = [d.books[0]._replace(micro=d.books[0].micro + 1)]
    assert d.drift() == [("plan", "under")]


def test_the_scope_leaves_others_out(d: Office) -> None:
    d.books.append(closed("other"))
    d.work().run()
    found = d.reconciler().check(Scope("other", "2023-11", "2023-11"))
    assert {f.customer for f in found} == {"other"}
    assert d.reconciler().check(Scope(first="2023-12")) == []


def test_small_steps_come_round_to_everybody_also_after_a_restart(d: Office) -> None:
    d.books = [closed(f"c{n}") for n in range(5)]
    d.work().run()
    seen = []
    for _ in range(3):
        seen += [f.customer for f in d.reconciler().step(4) if f.kind == "invoice"]  # two requests each
    assert seen == ["c0", "c1", "c2", "c3", "c4", "c0"]


def test_a_step_keeps_within_its_requests(d: Office) -> None:
    d.books = [closed(f"c{n}") for n in range(9)]
    d.work().run()
    before = d.fake.requests
    d.reconciler().step(6)
    assert d.fake.requests - before == 6
    assert d.reconciler().step(0) == []


@pytest.fixture
def m() -> Iterator[Office]:
    desk = Office(METERED)
    desk.make_meter()
    desk.hours = {desk.now - 3 * HOUR: Decimal("123456789.123456"), desk.now - 2 * HOUR: Decimal(5)}
    desk.work().run()
    desk.now += 2 * HOUR
    yield desk
    desk.ledger.close()


def report(m: Office, value: str, at: int) -> None:
    (customer,) = m.objects("customer")
    payload = {"stripe_customer_id": customer["id"], "value": value}
    event = {"event_name": "metered", "payload": payload, "identifier": f"hand{at}", "timestamp": at}
    m.fake.meters.report(event)


def test_hours_are_read_back_exactly_and_become_verified(m: Office) -> None:
    assert m.drift() == []
    assert {(h.state, h.quantity) for h in m.ledger.hours()} == {
        ("verified", "123456789.123456"),
        ("verified", "5"),
    }


@pytest.mark.parametrize(("value", "verdict"), [("4", "under"), ("6", "over")])
def test_an_hour_that_differs_is_set_again(m: Office, value: str, verdict: str) -> None:
    report(m, value, m.now - 4 * HOUR)
    assert m.drift() == [("hour", verdict)]
    m.repair()
    m.work().run()
    m.now += 2 * HOUR
    assert m.drift() == []


def test_an_hour_that_is_gone_is_set_again(m: Office) -> None:
    m.fake.state.delete(m.objects("meter_event")[0]["id"])
    assert m.drift() == [("hour", "missing")]
    m.repair()
    m.work().run()
    m.now += 2 * HOUR
    assert m.drift() == []


def test_an_hour_that_we_never_sent_is_set_to_nothing(m: Office) -> None:
    m.hours[m.now - 8 * HOUR] = Decimal(1)
    m.work().run()
    m.now += 2 * HOUR
    report(m, "9", m.now - 9 * HOUR)
    assert m.drift() == [("hour", "foreign")]
    m.repair()
    m.work().run()
    m.now += 2 * HOUR
    assert m.drift() == []


def test_a_fresh_hour_may_lag(m: Office) -> None:
    m.fake.meters.lag = 600
    m.hours[m.now - HOUR] = Decimal(2)
    m.work().run()
    found: list[Finding] = [f for f in m.reconciler().check() if f.verdict == "lagging"]
    assert len(found) == 1
    assert m.drift() == []
