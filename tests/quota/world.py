"""What the quota tests share: a small catalog, and quotas in front of it."""

from typing import Any

import yaml

from metering.catalog.load import load_texts
from metering.catalog.resolved import Catalog
from metering.quota.quotas import Quotas, Taken
from metering.quota.wire import QuotaEvent, QuotaState, decode_event, decode_state
from metering.rating.money import MICRO, parse_decimal

START = 1_698_796_800_000  # 2023-11-01T00:00:00Z
HOUR = 3_600_000
DAY = 24 * HOUR
METERS = """
meters:
  - {id: tokens, event_type: use, aggregation: sum, value: n, dimensions: [region], scale: 2}
  - {id: calls, event_type: use, aggregation: count}
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2023-01-01T00:00:00Z
        prices:
          - id: tokens
            meter: tokens
            model: volume
            tiers: [{up_to: 1000, unit_price: "0.10"}, {unit_price: "0.08"}]
          - {id: calls, meter: calls, model: unit, unit_price: "0.01"}
"""


def catalog(more: dict[str, Any], *customers: str) -> Catalog:
    """A catalog with `limits` of a plan, or any of its lists; customers `a` and what is named."""
    body = {key: more[key] for key in ("pools", "grants", "contracts") if key in more}
    body["plans"] = [{"id": "plan", "name": "P", "rate_card": "card", "limits": more.get("limits", [])}]
    body["customers"] = more.get("customers") or [{"id": name} for name in (customers or ("a",))]
    base = {"name": "N", "plan": "plan", "currency": "USD", "start": "2023-01-01T00:00:00Z"}
    body["customers"] = [{**base, **customer} for customer in body["customers"]]
    return load_texts({"meters.yaml": METERS, "more.yaml": yaml.safe_dump(body)})


def quotas(found: Catalog, clock: int = START, **options: Any) -> Quotas:
    made = Quotas(0, lambda _: True, **options)
    made.adopt(found)
    made.advance(clock)
    return made


def units(amount: object) -> int:
    """Whole and decimal units as micro-units."""
    return parse_decimal(str(amount), MICRO)


def states(taken: Taken) -> list[QuotaState]:
    found = [decode_state(value) for _, value in taken.states if value is not None]
    return [record for record in found if isinstance(record, QuotaState)]


def events(taken: Taken) -> list[QuotaEvent]:
    return [decode_event(value) for _, value in taken.events]
