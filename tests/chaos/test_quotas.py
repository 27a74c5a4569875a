"""What chaos expects of thresholds: it is what quotas come to, and it sees one that lacks or is too much."""

import time
from functools import lru_cache

from metering.catalog.load import load_texts
from metering.catalog.resolved import Catalog
from metering.quota.quotas import Quotas
from metering.quota.wire import QuotaEvent, decode_event
from tests.chaos import quotas
from tests.chaos.catalog import text
from tests.chaos.load import Load
from tests.chaos.model import MICRO, Fact, Model

EVENTS = 6_000
NOW = time.time_ns() // 1_000_000


def post(owner: Quotas, fact: Fact) -> None:
    region = (("region", fact.region),)
    owner.post(fact.customer, "calls", region, fact.at, MICRO)
    owner.post(fact.customer, "bytes", region, fact.at, fact.thousandths * 1_000)


@lru_cache
def run() -> tuple[set[str], list[QuotaEvent]]:
    """The load through one partition's quotas: what must fire, and what fires."""
    catalog: Catalog = load_texts({"catalog.yaml": text(3, quotas.texts(EVENTS))})
    owner, model = Quotas(0, lambda _: True), Model()
    owner.adopt(catalog)
    owner.advance(NOW)
    told: list[QuotaEvent] = []
    is_raised = False
    for sent in Load(EVENTS, 1).records():
        for fact in sent.facts:
            before = model.accepted
            model.take(fact)
            if model.accepted > before:
                post(owner, fact)
        told += [decode_event(value) for _, value in owner.take(0).events]
        if not is_raised and quotas.is_used_up(told):
            is_raised = owner.learn(quotas.raising(EVENTS))
    told = [event for event in told if event.event == "threshold"]
    return quotas.wanted(EVENTS, catalog, model, NOW), told


def differ(told: list[str], stored: list[str]) -> tuple[int, ...]:
    return tuple(line.differ for line in quotas.compared(run()[0], told, stored))


def test_what_must_fire_is_what_quotas_come_to() -> None:
    must, told = run()
    assert {event.id for event in told} == must
    assert len(told) == len(must)


def test_some_limits_fire_all_some_two_some_one_and_some_none() -> None:
    fired = dict.fromkeys(((one.customer, one.id) for one in quotas.limits(EVENTS)), 0)
    for event in run()[1]:
        fired[event.scope, event.limit] += 1
    assert set(fired.values()) >= {0, 1, 2, 3}
    assert fired[quotas.RAISED, quotas.RISES] > 3  # it has two versions


def test_nothing_differs_when_each_fired_once_and_was_told_again() -> None:
    ids = sorted(run()[0])
    assert differ([*ids, ids[0]], ids) == (0, 0)


def test_a_threshold_that_lacks_is_seen() -> None:
    ids = sorted(run()[0])
    assert differ(ids[1:], ids) == (1, 0)
    assert differ(ids, ids[1:]) == (0, 1)


def test_a_threshold_that_is_too_much_is_seen() -> None:
    ids = sorted(run()[0])
    more = [*ids, quotas.threshold_id("customer-00", "calls", "other", 0, 50)]
    assert differ(more, more) == (1, 1)


def test_a_threshold_that_stands_twice_in_clickhouse_is_seen() -> None:
    ids = sorted(run()[0])
    assert differ(ids, [*ids, ids[0]]) == (0, 1)
