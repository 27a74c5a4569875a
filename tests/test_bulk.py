"""Many customers at once: what numpy rates is what the reference rates."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering.bulk import plain_meters, rate_plain
from metering.catalog.load import load_texts
from metering.rating.period import rate_period
from metering.rating.usage import HourUse, Usage
from metering.rerate import rerate
from metering.state.calendar import period

PERIOD = period("2026-10")
TEXT = """
meters:
  - {id: calls, event_type: e, aggregation: count}
  - {id: bytes, event_type: e, aggregation: sum, value: n, scale: 6}
  - {id: users, event_type: e, aggregation: unique, value: u}
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2026-01-01T00:00:00Z
        prices:
          - id: calls
            meter: calls
            model: graduated
            tiers: [{up_to: 10, unit_price: "0.1"}, {unit_price: "0.05"}]
          - id: bytes
            meter: bytes
            model: volume
            tiers: [{up_to: 10, unit_price: "0.001"}, {unit_price: "0.0007"}]
          - {id: users, meter: users, model: unit, unit_price: "1"}
      - from: 2026-10-11T00:00:00Z
        prices:
          - {id: calls, meter: calls, model: package, package_size: 7, unit_price: "0.3"}
          - id: bytes
            meter: bytes
            model: volume
            tiers: [{up_to: 20, unit_price: "0.002"}, {unit_price: "0.0001"}]
          - {id: users, meter: users, model: unit, unit_price: "1"}
plans: [{id: plan, name: Plan, rate_card: card}]
customers:
  - {id: a, name: A, plan: plan, currency: USD, start: 2026-01-01T00:00:00Z}
  - {id: b, name: B, plan: plan, currency: USD, start: 2026-01-01T00:00:00Z}
"""
CATALOG = load_texts({"c.yaml": TEXT})


def use(customer: str, meter: str, hour: int, quantity: int) -> HourUse:
    return HourUse(PERIOD.starts + hour * 3600, customer, meter, (), Usage("sum", quantity, 1))


uses = st.lists(
    st.builds(
        use,
        st.sampled_from("ab"),
        st.sampled_from(["calls", "bytes"]),
        st.integers(0, 743),
        st.one_of(st.integers(0, 40 * 10**6), st.integers(2**60, 2**63)),
    ),
    max_size=12,
    unique_by=lambda u: (u.customer, u.meter, u.hour),
)


def reference(found: list[HourUse]) -> dict[tuple[str, str], int]:
    amounts: dict[tuple[str, str], int] = {}
    for name in "ab":
        members = CATALOG.members(name)
        for row in rate_period(members, [u for u in found if u.customer == name], PERIOD, closing=True).rows:
            amounts[name, row.price] = amounts.get((name, row.price), 0) + row.amount
    return amounts


@given(uses)
def test_plain_usage_comes_to_what_the_reference_says(found: list[HourUse]) -> None:
    assert rerate(CATALOG, found, PERIOD).amounts == reference(found)


def test_what_is_not_additive_leaves_its_customer_to_the_reference() -> None:
    users = HourUse(PERIOD.starts, "a", "users", (), Usage("unique", 10**6, 1, {"u": 1}))
    split = rate_plain(CATALOG, [use("a", "calls", 0, 1), users, use("b", "calls", 0, 1)], PERIOD)
    assert {u.customer for u in split.left} == {"a"}
    assert list(split.amounts) == [("b", "calls")]


def changed(**replaced: str) -> Any:
    text = TEXT
    for old, new in replaced.values():
        text = text.replace(old, new)
    return load_texts({"c.yaml": text}).terms("a").agreement  # type: ignore[union-attr]


def test_an_agreement_with_fees_is_not_plain() -> None:
    fee = ("        prices:\n", '        prices:\n          - {id: f, model: flat, amount: "1"}\n')
    assert plain_meters(changed(fee=fee), PERIOD) == {}  # type: ignore[arg-type]


def test_a_switch_that_begins_tiers_anew_is_not_plain() -> None:
    reset = ("2026-10-11T00:00:00Z\n", "2026-10-11T00:00:00Z\n        change: reset\n")
    assert plain_meters(changed(reset=reset), PERIOD) == {}  # type: ignore[arg-type]
