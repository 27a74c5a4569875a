"""What goes wrong around us: a state and a message each, nobody else stops, nothing is lost."""

from contextlib import suppress
from decimal import Decimal

import pytest

from billing_sync.config import BillingConfig, CustomerRule
from billing_sync.desk import Desk, Who
from billing_sync.exchange import QUIET_SECONDS
from metering.errors import UserError
from tests.billing_sync.office import DAY, HOUR, METERED, Office
from tests.billing_sync.world import closed

ANN = Who("ann", "mended")


@pytest.fixture
def o() -> Office:
    office = Office()
    office.books = [closed("acme"), closed("zeta")]
    return office


def totals(o: Office) -> list[int]:
    return sorted(i["total"] for i in o.objects("invoice") if i["status"] == "open")


@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_with_a_clock_an_hour_off_each_cent_is_billed_once(o: Office, off: int) -> None:
    o.fake.clock = lambda: float(o.now + off)
    for status in (500, 503):
        o.fake.faults.add({"kind": "status", "status": status, "when": "after"})
        o.work().run()
        o.now += QUIET_SECONDS
    o.work().run()
    assert totals(o) == [323, 323]
    assert o.drift() == []


@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_with_a_clock_an_hour_off_hours_are_set_or_wait_with_their_reason(off: int) -> None:
    m = Office(METERED)
    m.make_meter()
    m.fake.clock = lambda: float(m.now + off)
    m.hours = {m.now - HOUR - 15 * 60: Decimal(5), m.now - 34 * DAY + 2 * HOUR: Decimal(7)}
    m.hours = {at // HOUR * HOUR: quantity for at, quantity in m.hours.items()}
    m.work().run()
    for hour in m.ledger.hours():
        assert hour.state == "delivered" or hour.reason.startswith("timestamp_"), hour
    m.fake.clock = lambda: float(m.now)
    for item in Desk(m.ledger, ANN, m.now).dead():
        Desk(m.ledger, ANN, m.now).retry(item.id)
    m.work().run()
    assert {hour.state for hour in m.ledger.hours()} == {"delivered"}


def test_an_invoice_that_somebody_finalized_by_hand_is_blocked_and_others_go_on(o: Office) -> None:
    original = o.fake.invoices.add_lines

    def finalize_first(identity: str, params: dict[str, object]) -> dict[str, object]:
        o.fake.invoices.add_lines = original  # type: ignore[method-assign] # the first draft only
        o.fake.invoices.finalize(identity)
        return original(identity, params)

    o.fake.invoices.add_lines = finalize_first  # type: ignore[method-assign] # a hand in between
    work = o.work()
    work.run()
    (blocked,) = o.ledger.entries_in("blocked")
    assert "no longer editable" in blocked.reason
    assert totals(o) == [323]
    assert [customer for customer, _, _ in work.waits] == [blocked.plan.customer]
    o.fake.state.put({**o.objects("invoice")[-1], "status": "void"})
    for _ in range(2):  # the second one finds that it is under way
        with suppress(UserError):
            Desk(o.ledger, ANN, o.now).reopen(blocked.plan.customer, "2023-11", o.reconciler()._provider)
    o.work().run()
    assert totals(o) == [323, 323]


def test_a_line_added_by_hand_to_a_draft_is_never_finalized(o: Office) -> None:
    original = o.fake.invoices.add_lines

    def and_one_more(identity: str, params: dict[str, object]) -> dict[str, object]:
        o.fake.invoices.add_lines = original  # type: ignore[method-assign] # the first draft only
        done = original(identity, params)
        original(identity, {"lines": [{"amount": "5"}]})
        return done

    o.fake.invoices.add_lines = and_one_more  # type: ignore[method-assign] # a hand in between
    o.work().run()
    (blocked,) = o.ledger.entries_in("blocked")
    assert "not ours" in blocked.reason
    assert totals(o) == [323]
    assert o.repair() >= 1
    o.work().run()
    assert totals(o) == [323, 323]


def test_a_subscription_in_another_currency_takes_no_lines(o: Office) -> None:
    account = o.fake.customers.create({"name": "Acme"})["id"]
    subscription = o.fake.customers.subscribe({"customer": account, "currency": "eur"})["id"]
    o.config = BillingConfig(customers={"acme": CustomerRule(account=account, subscription=subscription)})
    draft = o.fake.customers.cycle(subscription, o.now - 30 * DAY, o.now)
    o.work().run()
    (blocked,) = o.ledger.entries_in("blocked")
    assert "is in EUR, the plan in USD" in blocked.reason
    assert o.fake.state.all("line_item", draft["id"]) == []
    assert totals(o) == [323]


def test_an_archived_meter_stops_its_hours_and_no_invoice() -> None:
    m = Office(METERED)
    meter = m.make_meter()
    m.fake.meters.set_status(meter, "inactive")
    m.hours = {m.now - 2 * HOUR: Decimal(5)}
    m.books = [closed("acme")]
    m.work().run()
    (hour,) = m.ledger.hours()
    assert (hour.state, hour.reason.partition(":")[0]) == ("rejected", "meter_missing")
    assert totals(m) == [323]
