"""What is on an invoice: a pure function of the books, the carry and open corrections."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_sync.books import ClosedPeriod, HourCharge, PriceTotal
from billing_sync.currencies import exponent_and_step, unit_micro
from billing_sync.planner import (
    Correction,
    Plan,
    Rules,
    period_seconds,
    plan_from_json,
    plan_invoice,
    plan_to_json,
)

amounts = st.lists(st.integers(-(10**8), 10**9), min_size=1, max_size=30)
currencies = st.sampled_from(["USD", "EUR", "JPY", "KWD", "ISK"])


def period(*prices: PriceTotal, currency: str = "USD") -> ClosedPeriod:
    return ClosedPeriod("acme", "Acme", "", "2023-11", currency, prices, sum(p.micro for p in prices), "")


def price(name: str, micro: int, **more: object) -> PriceTotal:
    return PriceTotal(name, "tokens", Decimal(1), micro)._replace(**more)


def prices(found: list[int]) -> list[PriceTotal]:
    return [price(f"p{n}", micro) for n, micro in enumerate(found)]


@given(amounts, currencies, st.integers(3, 40), st.integers(-(10**7), 10**7), st.integers(0, 10**4))
def test_billed_and_carried_is_what_was_rated(
    found: list[int], currency: str, limit: int, carry: int, minimum: int
) -> None:
    plan = plan_invoice(period(*prices(found), currency=currency), carry, rules=Rules(limit, minimum))
    _, step = exponent_and_step(currency)
    billed = plan.minor // step * unit_micro(currency)
    assert billed + plan.carry_out == sum(found) + carry
    assert len(plan.lines) <= limit
    assert not plan.lines or plan.minor >= minimum // step * step


@given(amounts, currencies)
def test_a_plan_survives_the_ledger(found: list[int], currency: str) -> None:
    plan = plan_invoice(period(*prices(found), currency=currency), 0)
    again = plan_from_json(json.loads(plan_to_json(plan)))
    assert (again, again.digest) == (plan, plan.digest)


def test_many_prices_become_one_line_that_adds_up() -> None:
    plan = plan_invoice(period(*prices([10_000 * (n + 1) for n in range(300)])), 0)
    assert len(plan.lines) == 248
    last = plan.lines[-1]
    assert (last.description, last.minor) == ("other usage: 53 prices", sum(range(1, 54)))
    assert dict(last.details)["prices"].startswith("p0, p1, p2")


def test_a_line_says_what_it_is() -> None:
    found = price("input", 40_000, quantity=Decimal("1200.5"), tiers="1,000 × 0.00002 + 200.5 × 0.0001")
    (line,) = plan_invoice(period(found), 0).lines
    assert line.description == "input 2023-11: 1,200.5 tokens"
    assert dict(line.details) == {
        "kind": "usage",
        "meter": "tokens",
        "quantity": "1,200.5",
        "tiers": "1,000 × 0.00002 + 200.5 × 0.0001",
        "explain": "metering explain acme --period 2023-11",
    }


def test_fees_discounts_and_true_ups_are_lines_of_their_own() -> None:
    plan = plan_invoice(
        period(
            price("seats", 5_000_000, meter="", kind="flat"),
            price("tokens", 1_000_000),
            price("discount", -600_000, meter="", kind="discount"),
            price("minimum", 4_600_000, meter="", kind="true_up"),
        ),
        0,
    )
    assert [(line.description, line.minor) for line in plan.lines] == [
        ("seats 2023-11", 500),
        ("tokens 2023-11: 1 tokens", 100),
        ("discount 2023-11", -60),
        ("minimum 2023-11", 460),
    ]


def test_late_usage_of_an_invoiced_period_is_named() -> None:
    late = price("input@2023-10", 20_000, kind="adjustment", corrects="2023-10")
    (line,) = plan_invoice(period(late), 0).lines
    assert (line.description, line.period) == ("input: late usage of 2023-10", "2023-10")


def test_a_correction_is_a_line_and_is_taken() -> None:
    fix = Correction("fix:l:0", "acme", -770_000, "correction of invoice FAKE-0001, 2023-10")
    plan = plan_invoice(period(price("p", 10_000_000)), 0, [fix])
    assert plan.corrections == ("fix:l:0",)
    assert [line.minor for line in plan.lines] == [1_000, -77]


def test_what_the_provider_rates_is_not_on_our_invoice() -> None:
    hours = (HourCharge(0, Decimal(2), 20_000), HourCharge(3_600, Decimal(3), 30_000))
    metered = price("metered", 50_000, hours=hours)
    assert plan_invoice(period(metered), 0, rules=Rules(metered=frozenset(["metered"]))).lines == ()
    rules = Rules(metered=frozenset(["metered"]), expired={("metered", 3_600): Decimal(0)})
    (line,) = plan_invoice(period(metered), 0, rules=rules).lines
    assert (line.minor, dict(line.details)["tiers"]) == (3, "1 hours too old for the meter")


def test_only_what_the_meter_does_not_hold_of_an_hour_is_billed() -> None:
    metered = price("metered", 100_000, hours=(HourCharge(0, Decimal(10), 100_000),))
    rules = Rules(metered=frozenset(["metered"]), expired={("metered", 0): Decimal(7)})
    (line,) = plan_invoice(period(metered), 0, rules=rules).lines
    assert line.minor == 3


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("2024-02", (1_706_745_600, 1_709_251_199)), ("2024-01", (1_704_067_200, 1_706_745_599))],
)
def test_a_period_ends_with_its_last_second(name: str, wanted: tuple[int, int]) -> None:
    assert period_seconds(name) == wanted


def test_a_plan_of_the_first_version_keeps_its_digest() -> None:
    old = ["inv_1", "acme", "2023-11", "USD", 10_000, 0, 0, [["inv_1:p", "p", "p 2023-11", 10_000, 1]]]
    plan: Plan = plan_from_json(old)
    assert plan_to_json(plan) == json.dumps(old)
