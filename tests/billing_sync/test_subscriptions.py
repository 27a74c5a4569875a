"""Subscriptions made, changed and cancelled: plan, trial, billing day and end flow into the catalog."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing_sync.catalog_stream import tell_catalog
from billing_sync.config import BillingConfig, CustomerRule
from billing_sync.ledger import Subscribed
from billing_sync.subscriptions import with_subscriptions
from metering.catalog.load import load_texts
from metering.catalog.models import CatalogFile, CustomerFile
from metering.catalog.publish import publish
from metering.catalog.reader import read_latest
from metering.settings import Settings
from metering.topics import Names, apply
from tests.billing_sync.office import DAY, HOUR
from tests.billing_sync.test_webhooks import Post
from tests.billing_sync.world import closed

CARDS = """
meters: [{id: calls, event_type: call, aggregation: count}]
rate_cards:
  - id: usd
    currency: USD
    versions: [{from: 2023-01-01T00:00:00Z, prices: [{id: p, meter: calls, model: unit, unit_price: "1"}]}]
plans:
  - {id: free, name: Free, rate_card: usd}
  - {id: team, name: Team, rate_card: usd}
  - {id: firm, name: Firm, rate_card: usd}
customers:
  - {id: acme, name: Acme, plan: free, currency: USD, start: 2023-01-01T00:00:00Z}
"""
CONFIG = BillingConfig(plans={"price_team": "team", "price_firm": "firm"}, trial_plan="free")
START = 1_700_000_000 // HOUR * HOUR


@pytest.fixture
def p(tmp_path: Path) -> Iterator[Post]:
    post = Post(tmp_path)
    post.config = CONFIG
    account = post.fake.customers.create({"name": "Acme", "metadata": {"um_customer": "acme"}})["id"]
    post.ledger.map_person("acme", account, "metadata", post.now)
    yield post
    post.inbox.close()
    post.ledger.close()


def subscribe(p: Post, price: str = "price_team", **params: object) -> str:
    account = p.objects("customer")[0]["id"]
    return str(p.fake.customers.subscribe({"customer": account, "items": [{"price": price}], **params})["id"])


def deliver(p: Post, *, twice: float = 0.0) -> None:
    p.receive(p.deliveries.take(twice=twice))
    p.process()


def catalog_of(p: Post) -> tuple[CatalogFile, list[str]]:
    return with_subscriptions(load_texts({"c.yaml": CARDS}).content, p.ledger.subscriptions(), CONFIG)


def acme(p: Post) -> CustomerFile:
    content, unfit = catalog_of(p)
    assert unfit == []
    return next(c for c in content.customers if c.id == "acme")


def phases(customer: CustomerFile) -> list[tuple[str, int]]:
    """Plans, with the hour they begin, counted from the first subscription."""
    return [(phase.plan, (int(phase.starts.timestamp()) - START) // HOUR) for phase in customer.phases]


def test_a_subscription_is_a_plan_from_its_first_hour_on(p: Post) -> None:
    p.now = START + 100
    subscribe(p, billing_cycle_anchor=START + 14 * DAY)
    deliver(p)
    found = acme(p)
    assert phases(found)[1:] == [("team", 0)]
    assert phases(found)[0][0] == "free"
    assert found.billing_day == 28
    assert found.stripe_customer == p.objects("customer")[0]["id"]


def test_a_change_of_plan_is_the_next_phase_however_often_and_in_whatever_order_it_is_told(p: Post) -> None:
    p.now = START
    identity = subscribe(p, "price_firm")
    for minutes, price in ((5, "price_team"), (5 * 60, "price_firm")):
        p.now = START + minutes * 60
        p.fake.customers.change(identity, {"items": [{"price": price}]})
    told = p.deliveries.take()
    for deliveries in (told[::-1], told):
        p.receive(deliveries)
        p.process()
    assert phases(acme(p))[1:] == [("team", 0), ("firm", 5)]


def test_a_trial_has_its_own_plan_until_it_ends(p: Post) -> None:
    p.now = START
    subscribe(p, trial_end=START + 3 * DAY)
    deliver(p)
    assert phases(acme(p))[-2:] == [("free", phases(acme(p))[0][1]), ("team", 72)]


def test_a_cancelled_subscription_ends_its_customer_with_the_hour(p: Post) -> None:
    p.now = START
    identity = subscribe(p)
    p.now += 2 * DAY + 61
    p.fake.customers.cancel(identity)
    deliver(p, twice=0.5)
    end = acme(p).end
    assert end is not None
    assert (int(end.timestamp()) - START) // HOUR == 49


def test_a_customer_that_the_catalog_does_not_know_is_made(p: Post) -> None:
    p.now = START
    account = p.fake.customers.create({"name": "New"})["id"]
    params = {"customer": account, "items": [{"price": "price_team"}], "metadata": {"um_customer": "new"}}
    p.fake.customers.subscribe(params)
    deliver(p)
    content, unfit = catalog_of(p)
    assert unfit == []
    assert [(c.id, phases(c)) for c in content.customers if c.id == "new"] == [("new", [("team", 0)])]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"prices": ((START, "price_x"),)}, "is no plan of ours"),
        ({"currency": "eur"}, "is in USD, the subscription in EUR"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_others_alone(changes: dict[str, object], text: str) -> None:
    good = Subscribed("sub_1", "acme", "cus_1", "usd", START, START, 0, 0, ((START, "price_team"),))
    bad = good._replace(id="sub_2", customer="other", **changes)
    content, (unfit,) = with_subscriptions(load_texts({"c.yaml": CARDS}).content, [bad, good], CONFIG)
    assert text in unfit
    assert [c.id for c in content.customers] == ["acme"]
    assert phases(content.customers[0])[-1] == ("team", 0)


def test_a_subscription_of_nobody_waits_until_it_is_mapped(p: Post) -> None:
    account = p.fake.customers.create({"name": "Who"})["id"]
    p.fake.customers.subscribe({"customer": account, "items": [{"price": "price_team"}]})
    deliver(p)
    assert p.ledger.subscriptions() == []
    p.ledger.map_person("who", account, "mapped", p.now)
    p.now += HOUR
    p.process()
    assert [s.customer for s in p.ledger.subscriptions()] == ["who"]


def test_a_draft_that_a_webhook_told_of_takes_the_lines_without_a_listing(p: Post) -> None:
    account = p.objects("customer")[0]["id"]
    identity = subscribe(p)
    p.config = BillingConfig(customers={"acme": CustomerRule(account=account, subscription=identity)})
    p.books = [closed()]
    p.work().run()
    assert p.states() == ["unknown"]  # no draft takes lines yet
    draft = p.fake.customers.cycle(identity, p.now - 30 * DAY, p.now)
    deliver(p)
    assert p.ledger.mark(f"draft of {identity}") == draft["id"]
    p.work().run()
    assert len(p.fake.state.all("line_item", draft["id"])) == 2


@pytest.mark.parts
@pytest.mark.timeout(120)
def test_the_catalog_stream_gets_it_once_and_again_after_somebody_published_without_it(
    deployment: Settings,
) -> None:
    brokers, topic = deployment.brokers(), Names(deployment).catalog
    one = Subscribed("sub_1", "acme", "cus_1", "usd", START, START, 0, 0, ((START, "price_team"),))

    async def put() -> None:
        await apply(deployment)
        await publish(brokers, topic, load_texts({"c.yaml": CARDS}))

    def told() -> tuple[int, list[str]]:
        tell_catalog(deployment, [one], CONFIG)
        latest = asyncio.run(read_latest(brokers, topic))
        assert latest is not None
        return latest.revision, [phase.plan for phase in latest.content.customers[0].phases]

    asyncio.run(put())
    assert told() == (2, ["free", "team"])
    assert told() == (2, ["free", "team"])
    asyncio.run(put())
    assert told() == (4, ["free", "team"])
