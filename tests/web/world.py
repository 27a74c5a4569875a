"""Books for the page: two currencies, hostile names, dead letters, closed and open periods."""

import asyncio
import json

from metering.records import DeadLetter, PeriodClose, Progress, RatingError, Record
from metering.settings import Settings
from metering.topics import apply
from tests.bills.books import STAMP, catalog_of, put, rows_of, saas, store

NAMES = {
    "quoted": 'O\'Neil "&" Sons; DROP TABLE charges; --',
    "script": "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>",
    "template": "{{ 7 * 7 }} ${7*7} %7B%7D \\u0000",
    "emoji": "🦦 Otter & 👨‍👩‍👧 e\u0301 مرحبا 株式会社",
    "turned": "gpj.\u202eexe \u2066hidden\u2069",
    "long": "Verylongnamewithoutanyspace" * 8,
    "a/b?c=d&e#f": "a slash, a question",
}
_CATALOG = """
meters: [{id: calls, event_type: call, aggregation: sum, value: n, scale: 2}]
rate_cards:
  - id: euro
    currency: EUR
    versions:
      - from: 2026-01-01T00:00:00Z
        prices: [{id: calls, meter: calls, model: unit, unit_price: "0.0000007"}]
plans: [{id: euro, name: Euro, rate_card: euro}]
customers:
"""
_AT = 1_791_000_000  # 2026-10-03


def fill(settings: Settings) -> None:
    """Everything that the pages can show."""
    customers = [
        f"  - {{id: {json.dumps(i)}, name: {json.dumps(n, ensure_ascii=False)}, plan: euro, currency: EUR,"
        " start: 2026-01-01T00:00:00Z, zone: Asia/Tokyo}\n"
        for i, n in NAMES.items()
    ]
    events = "\n".join(_event(i, day) for i in NAMES for day in (3, 9)).encode()
    asyncio.run(apply(settings))
    saas(settings)
    put(settings, catalog_of(_CATALOG + "".join(customers)), "usage.jsonl", events)
    store(settings, rows_of(_records()))


def _event(customer: str, day: int) -> str:
    at = f"2026-10-{day:02}T03:00:00Z"
    return json.dumps(
        {"id": f"{customer}{day}", "customer": customer, "type": "call", "time": at, "data": {"n": "99.5"}}
    )


def _records() -> list[Record]:
    figures = (1_234_567, 1_200_000, 30_000, 4_567, 89, 1)
    said = ("unknown_type", "no meter reads it", "quoted", "e", "x")
    hour = _AT // 3_600 * 3_600
    return [
        DeadLetter("t", 0, 1, -1, *said, _AT * 1_000, b"{}", STAMP),
        RatingError("quoted", "2026-10", "gb", hour, "2.5", "no_price", "<b>card</b> has no `gb`", STAMP),
        PeriodClose("emoji", "2026-10", "EUR", 2, 0, "0.000140", "d" * 16, 1_793_600_000_000, STAMP),
        PeriodClose("emoji", "2026-12", "EUR", 0, 0, "0", "d" * 16, 1_796_300_000_000, STAMP),  # nothing used
        Progress("meter", 0, 1, 9, _AT * 1_000, *figures, "w", _AT * 1_000),
    ]
