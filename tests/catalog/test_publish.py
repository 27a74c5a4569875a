"""What a new revision may not change under what was counted already."""

import pytest

from metering.catalog.load import load_texts
from metering.catalog.publish import refuse_left_out, refuse_new_meaning
from metering.catalog.resolved import Catalog
from metering.errors import UserError

TEXT = """
meters: [{id: m, event_type: t, aggregation: sum, value: n}]
rate_cards:
  - id: c
    currency: USD
    versions: [{from: 2026-01-01T00:00:00Z, prices: [{id: p, meter: m, model: unit, unit_price: "1"}]}]
plans: [{id: plan, name: P, rate_card: c}]
customers: [{id: a, name: A, plan: plan, currency: USD, start: 2026-01-01T00:00:00Z}]
"""


def catalog(old: str = "", new: str = "") -> Catalog:
    return load_texts({"c.yaml": TEXT.replace(old, new)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("aggregation: sum", "aggregation: max"),
        ("value: n", "value: k"),
        ("event_type: t", "event_type: u"),
        ("value: n}", "value: n, filters: {region: [eu]}}"),
    ],
)
def test_a_meter_that_would_count_something_else_is_refused(old: str, new: str) -> None:
    with pytest.raises(UserError, match="meter `m` counted by"):
        refuse_new_meaning(catalog(), catalog(old, new))


def test_a_customer_cannot_join_a_pool_later() -> None:
    with pytest.raises(UserError, match="customer `a` was rated with `a`"):
        refuse_new_meaning(catalog(), catalog("currency: USD, start", "currency: USD, pool: both, start"))


def test_a_new_price_is_no_new_meaning() -> None:
    refuse_new_meaning(catalog(), catalog('unit_price: "1"', 'unit_price: "2"'))


def test_a_customer_that_is_left_out_is_named() -> None:
    with pytest.raises(UserError, match="customer `a` would be left out"):
        refuse_left_out(catalog(), catalog("{id: a,", "{id: b,"))


def test_a_customer_that_ends_is_not_left_out() -> None:
    ends = catalog(
        "start: 2026-01-01T00:00:00Z}]", "start: 2026-01-01T00:00:00Z, end: 2026-02-01T00:00:00Z}]"
    )
    refuse_left_out(catalog(), ends)
