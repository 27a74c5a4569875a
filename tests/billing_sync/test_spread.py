"""Work is spread over the hour by the continuous run; what has begun, and `run --once`, do not wait."""

from decimal import Decimal

import pytest

from billing_sync.config import BillingConfig, CustomerRule
from billing_sync.desk import Desk, Who
from billing_sync.round import CLOSED_SECONDS
from tests.billing_sync.office import HOUR, METERED, Office
from tests.billing_sync.world import closed

MANY = 40


@pytest.fixture
def o() -> Office:
    office = Office()
    office.spread_seconds = HOUR
    office.books = [closed(f"c{n}") for n in range(MANY)]
    return office


def sent(o: Office) -> int:
    o.work().run()
    return sum(state != "planned" for state in o.states())


def test_invoices_begin_over_the_hour_and_all_are_sent_within_it(o: Office) -> None:
    found = []
    for _ in range(7):
        found.append(sent(o))
        o.now += HOUR // 6
    assert found[0] < MANY // 4
    assert found == sorted(found)
    assert MANY // 4 < found[3] < MANY * 3 // 4
    assert found[-1] == MANY


def test_a_subscription_and_what_a_person_retried_do_not_wait(o: Office) -> None:
    o.books = [closed("c1"), closed("c2")]
    o.config = BillingConfig(customers={"c1": CustomerRule(account="cus_1", subscription="sub_1")})
    work = o.work()
    work.plan()
    for entry in o.ledger.entries():
        if entry.plan.customer == "c2":
            o.ledger.set_state(entry.plan.id, "blocked", now=o.now)
            Desk(o.ledger, Who("ann", "mended"), o.now).retry(entry.plan.id)
    assert all(work._is_due(entry, None) for entry in o.ledger.entries())


def test_hours_wait_for_their_customers_place() -> None:
    o = Office(METERED)
    o.make_meter()
    o.spread_seconds = HOUR
    start = o.now
    o.hours = {start: Decimal(5)}
    place = o.work()._place("acme")
    assert place > 0
    o.now = start + CLOSED_SECONDS + place - 1
    o.work().run()
    assert len(o.ledger.open_hours()) == 1
    o.now += 1
    o.work().run()
    assert o.ledger.open_hours() == []
