"""Bad input and bad days: a clear state and message each, and nobody else's billing stops."""

from decimal import Decimal

import pytest

from billing_sync.config import BillingConfig, CustomerRule
from billing_sync.desk import Desk, Who
from billing_sync.planner import period_seconds
from billing_sync.stripe_fake.errors import ApiError
from metering.errors import UserError
from tests.billing_sync.office import DAY, HOUR, METERED, Office
from tests.billing_sync.world import closed

ANN = Who("ann", "as agreed")


@pytest.fixture
def o() -> Office:
    office = Office()
    office.books = [closed("acme"), closed("zeta")]
    return office


def totals(o: Office) -> list[int]:
    return sorted(i["total"] for i in o.objects("invoice") if i["status"] == "open")


def test_an_unmapped_customer_is_parked_and_never_billed_to_somebody_else(o: Office) -> None:
    o.may_create = False
    o.fake.customers.create({"name": "Zeta", "metadata": {"um_customer": "zeta"}})
    o.work().run()
    assert totals(o) == [323]
    ((customer, _, reason, _),) = o.ledger.parked()
    assert (customer, reason.partition(":")[0]) == ("acme", "customer_unmapped")


def test_a_mapping_lets_a_parked_customer_go_on(o: Office) -> None:
    o.may_create = False
    o.work().run()
    for customer in ("acme", "zeta"):
        account = o.fake.customers.create({"name": customer})
        Desk(o.ledger, ANN, o.now).map(customer, account["id"])
    o.work().run()
    assert (totals(o), o.ledger.parked()) == ([323, 323], [])
    assert [a.command for a in o.ledger.actions()] == ["customers map"] * 2


def test_the_catalog_names_the_account(o: Office) -> None:
    account = o.fake.customers.create({"name": "Somebody"})["id"]
    o.books = [closed("acme", external_customer=account)]
    o.work().run()
    assert o.objects("invoice")[0]["customer"] == account
    assert len(o.objects("customer")) == 1


def test_two_accounts_with_our_id_are_refused(o: Office) -> None:
    for _ in range(2):
        o.fake.customers.create({"name": "Acme", "metadata": {"um_customer": "acme"}})
    work = o.work()
    work.run()
    assert totals(o) == [323]
    assert any("carry the id acme" in reason for _, _, reason in work.waits)


def test_a_deleted_customer_stops_alone_and_goes_on_after_a_mapping(o: Office) -> None:
    o.work().run()
    account = o.ledger.person("acme")
    assert account is not None
    o.fake.customers.delete(account.external)
    o.books += [closed("acme", "2023-12"), closed("zeta", "2023-12")]
    o.work().run()
    stopped = o.ledger.person("acme")
    assert stopped is not None
    assert "customer_missing" in stopped.stopped
    assert len(totals(o)) == 3
    Desk(o.ledger, ANN, o.now).map("acme", o.fake.customers.create({"name": "Acme"})["id"])
    o.work().run()
    assert len(totals(o)) == 4


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_halts_everything_and_loses_nothing(o: Office, status: int) -> None:
    o.fake.revoked["sk_test_local_fake"] = status
    with pytest.raises(UserError, match="refuses our key"):
        o.work().run()
    assert o.fake.requests == 1
    o.fake.revoked.clear()
    o.work().run()
    assert totals(o) == [323, 323]


def test_a_tax_location_that_is_missing_is_a_state_of_its_own(o: Office) -> None:
    o.config = BillingConfig(automatic_tax=True)
    o.work().run()
    assert o.states() == ["blocked_tax", "blocked_tax"]
    for customer in o.objects("customer"):
        o.fake.customers.update(customer["id"], {"address": {"country": "DE"}})
    desk = Desk(o.ledger, ANN, o.now)
    for item in desk.dead():
        desk.retry(item.id)
    o.work().run()
    assert totals(o) == [323, 323]


@pytest.mark.parametrize(
    ("account", "file", "customer", "is_on"),
    [
        ("active", None, None, True),
        ("pending", None, None, False),
        ("active", False, None, False),
        ("pending", True, None, True),
        ("active", True, False, False),
        ("pending", False, True, True),
    ],
)
def test_tax_is_on_as_the_account_the_file_or_the_customer_says(
    account: str, file: bool | None, customer: bool | None, is_on: bool
) -> None:
    rule = {"acme": CustomerRule(automatic_tax=customer)}
    o = Office(BillingConfig(automatic_tax=file, customers=rule))
    o.fake.invoices.tax_status = account
    o.books = [closed("acme")]
    o.work().run()
    assert [i["automatic_tax"]["enabled"] for i in o.objects("invoice")] == [is_on]
    assert o.states() == ["blocked_tax" if is_on else "finalized"]


def test_tax_settings_that_cannot_be_read_say_what_to_do(o: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ApiError(403, "invalid_request_error", "no permission", stored=False)

    monkeypatch.setattr(o.fake.invoices, "tax_settings", refuse)
    with pytest.raises(UserError, match="say automatic_tax: true or false"):
        o.work().run()
    o.config = BillingConfig(automatic_tax=False)
    o.work().run()
    assert totals(o) == [323, 323]


def test_an_invoice_with_tax_comes_to_more_than_its_lines_and_nothing_drifts(o: Office) -> None:
    o.config = BillingConfig(automatic_tax=True)
    o.fake.invoices.tax_percent = 19
    for name in ("acme", "zeta"):
        metadata = {"um_customer": name}
        o.fake.customers.create({"name": name, "metadata": metadata, "address": {"country": "DE"}})
    o.work().run()
    assert totals(o) == [384, 384]
    assert o.states() == ["finalized", "finalized"]
    assert o.drift() == []


def test_a_held_period_waits_until_it_is_reopened(o: Office) -> None:
    Desk(o.ledger, ANN, o.now).freeze("acme", "2023-11")
    work = o.work()
    work.run()
    assert totals(o) == [323]
    assert ("acme", "2023-11", "held back by `periods freeze`") in work.waits
    Desk(o.ledger, ANN, o.now).reopen("acme", "2023-11", o.reconciler()._provider)
    o.work().run()
    assert totals(o) == [323, 323]


def test_only_a_voided_invoice_is_billed_again(o: Office) -> None:
    o.books = [closed()]
    o.work().run()
    provider = o.reconciler()._provider
    with pytest.raises(UserError, match="not void"):
        Desk(o.ledger, ANN, o.now).reopen("acme", "2023-11", provider)
    o.fake.invoices.void(o.objects("invoice")[0]["id"])
    Desk(o.ledger, ANN, o.now).reopen("acme", "2023-11", provider)
    o.work().run()
    assert totals(o) == [323]


def test_a_carry_is_settled_as_an_invoice_or_written_off(o: Office) -> None:
    o.books = [closed("acme", "2023-11", 900_000)]
    o.config = BillingConfig(minimum={"USD": 100})
    o.work().run()
    assert (o.states(), o.ledger.carry("acme", "USD")) == (["carried"], 900_000)
    Desk(o.ledger, ANN, o.now).settle("acme", "USD", write_off=False)
    o.work().run()
    assert [(i["status"], i["total"]) for i in o.objects("invoice")] == [("open", 90)]
    assert o.ledger.carry("acme", "USD") == 0


def test_a_rest_below_a_cent_can_only_be_written_off(o: Office) -> None:
    o.work().run()
    desk = Desk(o.ledger, ANN, o.now)
    with pytest.raises(UserError, match="less than one unit"):
        desk.settle("acme", "USD", write_off=False)
    assert "4568 micro-units written off" in desk.settle("acme", "USD", write_off=True)
    assert o.ledger.carry("acme", "USD") == 0


def test_lines_go_onto_the_subscriptions_draft(o: Office) -> None:
    account = o.fake.customers.create({"name": "Acme"})["id"]
    subscription = o.fake.customers.subscribe({"customer": account})["id"]
    o.books = [closed()]
    rule = CustomerRule(account=account, subscription=subscription)
    o.config = BillingConfig(customers={"acme": rule})
    work = o.work()
    work.run()
    assert any("no draft" in reason for _, _, reason in work.waits)
    o.fake.customers.cycle(subscription, o.now - 30 * DAY, o.now, fee=900)
    o.work().run()
    assert o.states() == ["delivered"]
    o.now += HOUR
    o.work().run()
    (invoice,) = o.objects("invoice")
    assert (o.states(), invoice["status"], invoice["total"]) == (["finalized"], "open", 1_223)
    assert o.drift() == []


def test_a_draft_that_closed_without_our_lines_gives_way_to_the_next(o: Office) -> None:
    account = o.fake.customers.create({"name": "Acme"})["id"]
    subscription = o.fake.customers.subscribe({"customer": account})["id"]
    o.config = BillingConfig(customers={"acme": CustomerRule(account=account, subscription=subscription)})
    o.books = [closed()]
    o.fake.customers.cycle(subscription, o.now - 30 * DAY, o.now, fee=900)
    o.fake.faults.add({"kind": "status", "status": 500})
    o.work().run()
    o.now += 2 * HOUR
    o.work().run()
    o.fake.customers.cycle(subscription, o.now, o.now + 30 * DAY, fee=900)
    o.work().run()
    o.now += HOUR
    o.work().run()
    assert sorted(i["total"] for i in o.objects("invoice")) == [900, 1_223]
    assert o.states() == ["finalized"]


@pytest.fixture
def m() -> Office:
    office = Office(METERED)
    office.hours = {office.now - 2 * HOUR: Decimal("1.5")}
    return office


def hour(m: Office) -> tuple[str, str]:
    (found,) = m.ledger.hours()
    return found.state, found.reason


def test_an_hour_is_set_and_a_late_event_sets_it_again(m: Office) -> None:
    m.make_meter()
    m.work().run()
    m.hours[m.now - 2 * HOUR] = Decimal(2)
    m.work().run()
    assert hour(m)[0] == "delivered"
    assert m.drift() == []


@pytest.mark.parametrize("window", ["day", None])
def test_a_meter_that_would_count_twice_is_refused(m: Office, window: str | None) -> None:
    m.make_meter(window)
    m.work().run()
    assert hour(m)[1].startswith("meter_window")
    assert m.objects("meter_event") == []


def test_an_archived_meter_is_named_and_a_retry_goes_on(m: Office) -> None:
    meter = m.make_meter()
    m.fake.meters.set_status(meter, "inactive")
    m.work().run()
    assert hour(m)[1].startswith("meter_missing")
    m.fake.meters.set_status(meter, "active")
    desk = Desk(m.ledger, ANN, m.now)
    (item,) = desk.dead()
    desk.retry(item.id)
    m.work().run()
    assert hour(m)[0] == "delivered"


def test_a_total_with_too_many_digits_is_refused_before_it_is_sent(m: Office) -> None:
    m.make_meter()
    m.hours = {m.now - 2 * HOUR: Decimal("1234567890.123456")}
    m.work().run()
    assert hour(m)[1].startswith("value_invalid")


@pytest.mark.parametrize(("days", "state", "reported"), [(2, "delivered", 1), (40, "expired", 0)])
def test_an_outage_ends_in_correct_books(m: Office, days: int, state: str, reported: int) -> None:
    m.make_meter()
    at = next(iter(m.hours))
    start, _ = period_seconds("2023-11")
    assert start <= at
    m.fake.faults.decide = lambda *_: None
    m.ledger.want_hour("acme", "metered", at, Decimal("1.5"))
    m.now += days * DAY
    m.work().run()
    assert (hour(m)[0], len(m.objects("meter_event"))) == (state, reported)
