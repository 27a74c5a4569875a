"""Worked examples as data: each file in tests/vectors is a list of usage → bill cases."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from metering.rating import HourCharge, Price, Segment, Tier, Unpriced, hourly_charges
from metering.rating.money import MICRO, format_micro, parse_decimal

VECTORS = Path(__file__).parent.parent / "vectors"
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['title']}")
    for file in sorted(VECTORS.glob("*.yaml"))
    for case in yaml.safe_load(file.read_text())
]


def price_of(card: dict[str, Any]) -> Price:
    tiers = tuple(
        Tier(
            parse_decimal(t["up_to"], MICRO) if "up_to" in t else None,
            parse_decimal(t["unit_price"], 12),
            parse_decimal(t.get("flat_fee", "0"), MICRO),
        )
        for t in card["tiers"]
    )
    return Price(card["model"], tiers)


@pytest.mark.parametrize("case", CASES)
def test_the_bill_is_what_the_example_says(case: dict[str, Any]) -> None:
    cards = case["cards"] if "cards" in case else [{**case["card"], "from": 0}]
    ends = [c["from"] * 3600 for c in cards[1:]] + [None]
    segments = [
        Segment(c["from"] * 3600, end, price_of(c), "p", "card", str(n), "USD")
        for n, (c, end) in enumerate(zip(cards, ends, strict=True))
    ]
    usage = [(h * 3600, parse_decimal(q, MICRO)) for h, q in enumerate(case["usage"])]
    rated = hourly_charges(segments, usage, MICRO)
    bill = ["no price" if isinstance(r, Unpriced) else format_micro(r.amount) for r in rated]
    assert bill == [b if b == "no price" else format_micro(parse_decimal(b, MICRO)) for b in case["bill"]]
    total = sum(r.amount for r in rated if isinstance(r, HourCharge))
    if "total" in case:
        assert format_micro(total) == format_micro(parse_decimal(case["total"], MICRO))
