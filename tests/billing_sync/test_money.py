"""Billed + carried = rated, to the micro-unit: with and without decimals, steps, minimum charges."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from billing_sync.config import BillingConfig
from billing_sync.currencies import MINIMUM_CHARGE, exponent_and_step, unit_micro
from tests.billing_sync.office import Office
from tests.billing_sync.world import closed

CURRENCIES = ("USD", "EUR", "JPY", "KWD", "ISK")
AMOUNTS = st.lists(st.integers(-(10**7), 10**9), min_size=1, max_size=6)


class OnlyMinimum(Office):
    """The provider's own minimum charge counts."""

    def billing(self) -> BillingConfig:
        return self.config


@pytest.mark.parametrize("currency", CURRENCIES)
@how(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(months=st.lists(AMOUNTS, min_size=1, max_size=4))
def test_billed_and_carried_is_rated(currency: str, months: list[list[int]]) -> None:
    o = OnlyMinimum()
    for number, amounts in enumerate(months):
        o.books.append(closed("acme", f"2023-{number + 1:02d}", *amounts, currency=currency))
        o.work().run()
    _, step = exponent_and_step(currency)
    invoices = o.objects("invoice")
    billed = sum(i["total"] for i in invoices) // step * unit_micro(currency)
    assert billed + o.ledger.carry("acme", currency) == sum(map(sum, months))
    assert all(i["status"] == "open" and i["total"] >= MINIMUM_CHARGE.get(currency, 1) for i in invoices)
    assert o.drift() == []
    assert o.objects("customer")[0]["balance"] == 0 if invoices else True


@pytest.mark.parametrize(
    ("currency", "micro", "minor", "carried"),
    [
        ("USD", 499_999, 0, 499_999),  # below the minimum charge
        ("USD", 500_001, 50, 1),
        ("EUR", 1_239_999, 123, 9_999),
        ("JPY", 49_900_000, 0, 49_900_000),
        ("JPY", 51_900_000, 51, 900_000),  # no decimals
        ("KWD", 1_239_999, 1_230, 9_999),  # three decimals, of which the last is 0
        ("ISK", 12_990_000, 1_200, 990_000),  # two decimals, both 0
    ],
)
def test_what_is_too_small_is_carried(currency: str, micro: int, minor: int, carried: int) -> None:
    o = OnlyMinimum()
    o.books = [closed("acme", "2023-11", micro, currency=currency)]
    o.work().run()
    assert [i["total"] for i in o.objects("invoice")] == ([minor] if minor else [])
    assert o.ledger.carry("acme", currency) == carried


def test_a_currency_that_nobody_can_invoice_is_parked_and_others_go_on() -> None:
    o = Office()
    o.books = [closed("acme", currency="UGX"), closed("zeta")]
    o.work().run()
    ((customer, _, reason, _),) = o.ledger.parked()
    assert (customer, reason.partition(":")[0]) == ("acme", "currency_refused")
    assert [i["total"] for i in o.objects("invoice")] == [323]
