"""Limits of plans, contracts and customers, laid over each other."""

from typing import Any

from metering.catalog.load import load_texts
from metering.catalog.resolved import excerpt
from metering.catalog.wire import from_record, to_record
from metering.quota.limits import ONE
from metering.quota.windows import Window
from tests.quota.world import METERS, START, catalog

PLAN = {"id": "l", "meter": "tokens", "units": 100, "window": "period", "kind": "soft", "thresholds": [90]}


def one(limit: dict[str, Any], **customer: Any) -> Any:
    found = catalog({"limits": [PLAN], "customers": [{"id": "a", "limits": [limit], **customer}]})
    return found.limits_of("a", START)[0]


def test_a_customer_changes_the_fields_it_names() -> None:
    limit = one({"id": "l", "units": 250})
    assert (limit.amount, limit.kind, limit.thresholds) == (250 * ONE, "soft", (90,))


def test_another_measure_replaces_the_amount() -> None:
    limit = one({"id": "l", "requests": 5})
    assert (limit.counts, limit.amount) == ("requests", 5 * ONE)


def test_minus_one_lifts_a_limit() -> None:
    assert one({"id": "l", "units": -1}).amount is None


def test_another_kind_drops_the_grace() -> None:
    found = catalog(
        {
            "limits": [{**PLAN, "kind": "grace", "grace": "10%"}],
            "customers": [{"id": "a", "limits": [{"id": "l", "kind": "hard"}]}],
        }
    )
    assert found.limits_of("a", START)[0].kind == "hard"


def test_a_contract_stands_between_plan_and_customer() -> None:
    found = catalog(
        {
            "limits": [PLAN],
            "contracts": [{"id": "k", "limits": [{"id": "l", "units": 200, "kind": "hard"}]}],
            "customers": [{"id": "a", "contract": "k", "limits": [{"id": "l", "units": 300}]}],
        }
    )
    limit = found.limits_of("a", START)[0]
    assert (limit.amount, limit.kind) == (300 * ONE, "hard")


def test_windows_turn_in_the_customers_zone_and_on_its_day() -> None:
    limit = one({"id": "l"}, zone="Asia/Tokyo", billing_day=15)
    assert limit.window == Window("period", "Asia/Tokyo", 15)


def test_a_hard_limit_denies_when_the_view_is_stale_and_a_soft_one_allows() -> None:
    assert one({"id": "l"}).when_stale == "allow"
    assert one({"id": "l", "kind": "hard"}).when_stale == "deny"


def test_a_pools_limits_follow_those_of_its_member() -> None:
    found = catalog(
        {
            "limits": [PLAN],
            "pools": [{"id": "p", "limits": [{**PLAN, "id": "all"}]}],
            "customers": [
                {"id": "a", "pool": "p"},
                {"id": "b", "pool": "p", "limits": [{"id": "l", "units": 1}]},
            ],
        }
    )
    assert [(m.id, m.shared) for m in found.limits_of("b", START)] == [("l", False), ("all", True)]
    assert found.limited() == {"p"}


def test_another_phase_has_the_limits_of_its_plan() -> None:
    plans = """
plans:
  - {id: small, name: S, rate_card: card, limits: [{id: l, meter: tokens, units: 1, window: day}]}
  - {id: large, name: L, rate_card: card, limits: [{id: l, meter: tokens, units: 9, window: day}]}
customers:
  - id: a
    name: A
    currency: USD
    start: 2023-01-01T00:00:00Z
    plans: [{plan: small, from: 2023-01-01T00:00:00Z}, {plan: large, from: 2023-11-01T00:00:00Z}]
"""
    found = load_texts({"m.yaml": METERS, "p.yaml": plans})
    amounts = [found.limits_of("a", at)[0].amount for at in (0, START - 1, START)]
    assert amounts == [ONE, ONE, 9 * ONE]
    assert found.timeline("a").next_change(START - 1) == START


def test_limits_are_no_part_of_what_prices_are_agreed() -> None:
    with_limits, without = catalog({"limits": [PLAN]}), catalog({})
    assert excerpt(with_limits, "a") == excerpt(without, "a")
    assert with_limits.terms("a") == without.terms("a")


def test_limits_and_grants_survive_the_wire() -> None:
    grant = {"id": "g", "customer": "a", "limit": "l", "amount": 5, "from": "2023-11-01T00:00:00Z"}
    found = catalog({"limits": [PLAN], "grants": [grant]})
    again = from_record(to_record(found), offset=0)
    assert again.limits_of("a", START) == found.limits_of("a", START)
    assert again.grants_of("a") == found.grants_of("a") != ()
