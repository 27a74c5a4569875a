"""What a rest of money can pay, against trying every quantity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.quota.history import HourUsed
from metering.quota.limits import ONE
from metering.quota.quotas import Quotas
from metering.quota.spend import affordable, cost, highest_cost
from metering.rating import load_card
from metering.rating.cards import Price
from tests.quota.world import HOUR, START, catalog, quotas, states

TIERS = [
    {"up_to": 3, "unit_price": "2"},
    {"up_to": 7, "unit_price": "1", "flat_fee": "1"},
    {"unit_price": "0.5"},
]
STEPS = [{"up_to": 3, "flat_fee": "5"}, {"up_to": 7, "flat_fee": "4"}, {"flat_fee": "9"}]
PRICES = [
    load_card(text).price
    for text in (
        {"model": "unit", "unit_price": "1.5"},
        {"model": "unit", "unit_price": "2", "included": 4},
        {"model": "graduated", "tiers": TIERS},
        {"model": "volume", "tiers": TIERS},
        {"model": "volume", "tiers": TIERS, "included": 2},
        {"model": "package", "package_size": 3, "unit_price": "4"},
        {"model": "graduated_package", "package_size": 2, "tiers": TIERS},
        {"model": "stairstep", "tiers": STEPS},
        {"model": "stairstep", "tiers": STEPS, "accumulate": True},
        {"model": "unit", "unit_price": "2", "discounts": [{"id": "d", "percent": "50"}], "maximum": "12"},
    )
]


@given(st.sampled_from(PRICES), st.integers(0, 12), st.integers(0, 30))
def test_what_is_affordable_is_the_most_that_never_costs_more(price: Price, used: int, rest: int) -> None:
    found = affordable(price, used * ONE, rest * ONE)
    if found is None:
        assert highest_cost(price, used * ONE, 10**6 * ONE) <= rest * ONE
        return
    assert highest_cost(price, used * ONE, found) <= rest * ONE
    assert highest_cost(price, used * ONE, found + 1) > rest * ONE


@given(st.sampled_from(PRICES), st.integers(0, 12), st.integers(0, 12))
def test_the_highest_cost_is_the_highest_on_the_way(price: Price, used: int, quantity: int) -> None:
    fine = [cost(price, used * ONE, q * ONE // 4) for q in range(4 * quantity + 1)]
    edges = [cost(price, used * ONE, q * ONE + 1) for q in range(quantity)]
    assert highest_cost(price, used * ONE, quantity * ONE) == max(0, *fine, *edges, 0)


def test_less_than_nothing_pays_for_nothing() -> None:
    assert affordable(PRICES[0], 0, -1) == 0


# -- usage before the limit -----------------------------------------------------------------------


def late_limit(limit: dict[str, object], used: list[HourUsed]) -> Quotas:
    """A limit that comes when the stream has run for a day."""

    def history(_account: str, _meter: str, first: int, last: int) -> list[HourUsed]:
        return [one for one in used if first <= one.hour < last]

    owner = quotas(catalog({}), START + 30 * HOUR, history=history)
    owner.adopt(catalog({"limits": [limit]}))
    return owner


USED = [HourUsed(START // 1_000 + h * 3_600, "a", 400 * ONE, 2, (("region", "eu"),)) for h in (1, 26, 29)]


@pytest.mark.parametrize(
    ("limit", "posted"),
    [
        ({"units": 10_000, "window": "month"}, 1_200),
        ({"units": 10_000, "window": "day"}, 800),
        ({"requests": 10_000, "window": "month"}, 6),
        ({"money": 10_000, "window": "month"}, 96),
        ({"money": 10_000, "window": "day"}, 56),
        ({"units": 10_000, "window": "rolling 2h"}, 400),
        ({"units": 10_000, "window": "month", "where": {"region": ["us"]}}, 0),
    ],
)
def test_a_new_limit_begins_with_what_was_metered_before(limit: dict[str, object], posted: int) -> None:
    owner = late_limit({"id": "l", "meter": "tokens", **limit}, USED)
    owner.post("a", "tokens", (("region", "eu"),), START + 30 * HOUR, 0, 0)
    found = states(owner.take(0))
    assert [int(s.posted) for s in found] == ([posted * ONE] if found else [])
    assert found or not posted


def test_a_new_limit_that_is_passed_already_blocks_at_once() -> None:
    owner = late_limit({"id": "l", "meter": "tokens", "units": 1_000, "window": "month"}, USED)
    assert [s.state for s in states(owner.take(0))] == ["blocked"]
