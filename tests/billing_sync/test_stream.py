"""Hours over the stream: many in a request, each set once; what a report names goes again one by one."""

import json
from decimal import Decimal
from typing import Any

import pytest

from billing_sync.book_hours import HourTotal
from billing_sync.config import MeterRule
from billing_sync.exchange import QUIET_SECONDS
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.webhooks.inbox import Inbox
from billing_sync.webhooks.worker import Worker
from tests.billing_sync.office import DAY, HOUR, METERED, Office

CUSTOMERS = 130
STREAMED = METERED.model_copy(update={"meter_stream": True})
STREAM = "/v2/billing/meter_event_stream"


class Many(Office):
    """An office whose customers each used one hour, and that counts what goes over the wire."""

    def __init__(self, customers: int = CUSTOMERS) -> None:
        super().__init__(STREAMED)
        self.meter = self.make_meter()
        self.used = {f"c{n:03d}": Decimal(n + 1) for n in range(customers)}
        self.at = self.now - 2 * HOUR

    def all_hours(self) -> list[HourTotal]:
        return [HourTotal(c, c, "", "metered", self.at, q) for c, q in sorted(self.used.items())]

    def held(self) -> dict[str, Decimal]:
        accounts = {c["metadata"]["um_customer"]: c["id"] for c in self.objects("customer")}
        query = {"start_time": str(self.at), "end_time": str(self.at + HOUR), "value_grouping_window": "hour"}
        found = {}
        for customer, account in accounts.items():
            for one in self.fake.meters.summaries(self.meter, {**query, "customer": account}):
                found[customer] = Decimal(str(one["aggregated_value"]))
        return found

    def sent(self) -> int:
        return len(self.objects("meter_event"))


@pytest.fixture
def m() -> Many:
    return Many()


def test_many_hours_go_in_few_requests(m: Many) -> None:
    m.work().run()
    before = m.fake.posts
    m.used = {customer: quantity + 1 for customer, quantity in m.used.items()}
    m.work().run()
    assert m.fake.posts - before == 3  # a session, a request of 100 hours and one of 30
    assert m.held() == m.used
    assert {hour.state for hour in m.ledger.hours()} == {"delivered"}


def test_a_second_round_sends_nothing_and_reconcile_verifies(m: Many) -> None:
    m.work().run()
    posts = m.fake.posts
    m.work().run()
    assert m.fake.posts == posts
    m.now += 2 * HOUR
    assert m.drift() == []
    assert {hour.state for hour in m.ledger.hours()} == {"verified"}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", [{"kind": "drop"}, {"kind": "status", "status": 500}])
def test_a_lost_answer_sets_every_hour_once(m: Many, fault: dict[str, Any], when: str) -> None:
    m.work().run()
    m.used = {customer: quantity + 1 for customer, quantity in m.used.items()}
    m.fake.faults.add({**fault, "when": when, "skip": 1})
    for _ in range(3):
        m.work().run()
        m.now += QUIET_SECONDS
    assert m.held() == m.used
    assert m.sent() == 2 * CUSTOMERS
    assert {hour.state for hour in m.ledger.hours()} == {"delivered"}


def test_a_session_that_is_over_is_renewed() -> None:
    m = Many(3)
    provider = StripeProvider(FAKE_KEY, fake=m.fake)
    work = m.work()
    work._stream_sender._provider = provider  # type: ignore[union-attr] # one connection over the whole time
    work.run()
    m.now += 20 * 60
    m.used = {customer: quantity + 1 for customer, quantity in m.used.items()}
    work.run()
    assert m.held() == m.used


def test_a_report_sends_the_requests_hours_again_one_by_one(m: Many, tmp_path: Any) -> None:
    m.work().run()
    m.fake.customers.delete(next(c["id"] for c in m.objects("customer") if c["name"] == "c007"))
    m.used = {customer: quantity + 1 for customer, quantity in m.used.items()}
    m.work().run()
    (report,) = m.objects("v2.core.event")
    inbox = Inbox(f"sqlite:///{tmp_path / 'inbox.sqlite3'}")
    inbox.keep(report["id"], report["type"], json.dumps(report), m.now)
    provider = StripeProvider(FAKE_KEY, fake=m.fake)
    assert Worker(inbox, m.ledger, provider, m.work().exchange, lambda: m.now).run() == 1
    inbox.close()
    assert len(m.ledger.open_hours()) == 100
    m.work().run()
    stopped = m.ledger.person("c007")
    assert stopped is not None
    assert "customer_missing" in stopped.stopped
    assert {h.customer for h in m.ledger.open_hours()} == {"c007"}
    held = m.held()
    assert held.pop("c007") == m.used.pop("c007") - 1  # what it had before it was deleted
    assert held == m.used


def test_hours_that_are_too_old_do_not_go_by_stream() -> None:
    m = Many(2)
    m.at = m.now // HOUR * HOUR - 35 * DAY
    m.work().run()
    assert {hour.state for hour in m.ledger.hours()} == {"expired"}
    assert m.sent() == 0


def test_without_the_setting_nothing_is_streamed() -> None:
    m = Many(2)
    m.config = METERED
    m.work().run()
    assert m.objects("v2.billing.meter_event_session") == []
    assert m.held() == m.used


def test_a_meter_that_is_missing_is_said_hour_by_hour() -> None:
    m = Many(2)
    m.config = STREAMED.model_copy(update={"meter_events": (MeterRule(price="metered", event_name="no"),)})
    m.work().run()
    assert {hour.reason.partition(":")[0] for hour in m.ledger.hours()} == {"meter_missing"}
