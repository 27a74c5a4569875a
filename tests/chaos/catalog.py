"""The catalog of the chaos run in three revisions: as it begins, with a future price, with a changed one."""

import time
from collections.abc import Mapping

from metering.state.calendar import HOUR_MS, period, period_of

CUSTOMERS = 50
_OVER_HOURS = 27  # a month can be closed when it is over for so long


def _months() -> tuple[str, str]:
    """The last two months that are over. Quotas keep a month 35 days behind its end, so the second one."""
    open_now = period_of(time.time_ns() // 1_000_000_000 - _OVER_HOURS * HOUR_MS // 1_000)
    second = period_of(period(open_now).starts - 1)
    return period_of(period(second).starts - 1), second


FIRST, SECOND = _months()
METERS = {"calls": "count", "bytes": "sum", "peak": "max"}
CURRENCIES = {"starter": "USD", "team": "USD", "europe": "EUR"}
PLANS = tuple(CURRENCIES)

_METERS = """
meters:
  - {id: calls, event_type: use, aggregation: count, dimensions: [region]}
  - {id: bytes, event_type: use, aggregation: sum, value: n, dimensions: [region], scale: 3}
  - {id: peak, event_type: use, aggregation: max, value: n, scale: 3}
"""

_PRICES = """
          - {{id: platform, model: flat, amount: "2.00", billed: arrears, prorate: false}}
          - id: calls
            meter: calls
            model: graduated
            tiers: [{{up_to: 500, unit_price: "{calls}"}}, {{up_to: 20000, unit_price: "0.0071"}},
                    {{unit_price: "0.005", flat_fee: "3"}}]
          - id: bytes
            meter: bytes
            model: volume
            tiers: [{{up_to: "1000.5", unit_price: "{bytes}"}}, {{unit_price: "0.0000123"}}]
          - {{id: peak, meter: peak, model: stairstep,
              tiers: [{{up_to: 50, flat_fee: "1"}}, {{up_to: "98.5", flat_fee: "7"}}, {{flat_fee: "11.11"}}]}}
"""


def customer(number: int) -> str:
    """The id of a customer."""
    return f"customer-{number:02d}"


def plan_of(number: int) -> str:
    """The plan of a customer."""
    return PLANS[number % len(PLANS)]


def weight(number: int) -> float:
    """How much a customer uses, beside the others."""
    return 1 / (number + 3)


def text(revision: int, limits: Mapping[str, str] | None = None) -> str:
    """The catalog of a revision as YAML; `limits` are those of customers.

    1: one version of each card. 2: from the middle of the second month on other prices. 3: a price of the
    first month, open at that time, is another one.
    """
    calls = "0.0113" if revision < 3 else "0.0129"
    cards = "".join(_card(plan, revision, calls) for plan in PLANS)
    people = "".join(
        f"  - {{id: {customer(n)}, name: Customer {n}, plan: {plan_of(n)},"
        f" currency: {CURRENCIES[plan_of(n)]}, start: 2025-01-01T00:00:00Z,"
        f" limits: {(limits or {}).get(customer(n), [])}}}\n"
        for n in range(CUSTOMERS)
    )
    return f"{_METERS}rate_cards:\n{cards}plans:\n{_plans()}customers:\n{people}"


def _card(plan: str, revision: int, calls: str) -> str:
    prices = _PRICES.format(calls=calls, bytes="0.0000371")
    found = f"  - id: {plan}\n    currency: {CURRENCIES[plan]}\n    versions:\n"
    found += f"      - from: 2025-01-01T00:00:00Z\n        prices:{prices}"
    if revision > 1:
        later = _PRICES.format(calls="0.0147", bytes="0.0000299")
        found += f"      - from: {SECOND}-13T05:00:00Z\n        prices:{later}"
    return found


def _plans() -> str:
    minimum = {"starter": "", "team": ', minimum: {amount: "150"}', "europe": ""}
    return "".join(f"  - {{id: {p}, name: {p}, rate_card: {p}{minimum[p]}}}\n" for p in PLANS)
