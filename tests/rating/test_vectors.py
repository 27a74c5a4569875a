"""Worked examples as data: each file in tests/vectors is a list of usage → bill cases."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from metering.rating import load_card
from metering.rating.cards import ONE, Segment
from metering.rating.hourly import by_hour, hourly_rows
from metering.rating.money import MICRO, format_micro, parse_decimal
from metering.rating.rows import PART_IN_EXACT
from metering.rating.terms import Period
from metering.rating.usage import HourUse, Usage
from tests.rating.prices import ORIGIN

VECTORS = Path(__file__).parent.parent / "vectors" / "prices"
FILES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(VECTORS.glob("*.yaml"))}
CASES = [pytest.param(c, id=f"{name}: {c['title']}") for name, cases in FILES.items() for c in cases]
HOUR = 3600
PERIOD = Period("vector", 0, 720 * HOUR)


def micro(text: Any) -> int:
    return parse_decimal(str(text), MICRO)


def segments(case: dict[str, Any]) -> list[Segment]:
    cards = [dict(card) for card in case.get("cards", [case.get("card")])]
    starts = [card.pop("from", 0) * HOUR for card in cards]
    changes = [card.pop("change", "continue") for card in cards]
    return [
        Segment(start, end, load_card(card).price, "p", ORIGIN, change)
        for card, start, end, change in zip(cards, starts, [*starts[1:], None], changes, strict=True)
    ]


def uses(case: dict[str, Any]) -> list[HourUse]:
    kind = case.get("aggregation", "sum")
    found = []
    for hour, used in enumerate(case["usage"]):
        if isinstance(used, dict):
            found += _named(case, kind, hour * HOUR, used)
        elif used is not None:
            found.append(HourUse(hour * HOUR, "a", "meter", (), _usage(kind, used, hour)))
    return by_hour(found)


def _named(case: dict[str, Any], kind: Any, hour: int, used: dict[str, Any]) -> list[HourUse]:
    card = case.get("card") or case["cards"][0]
    if card["model"] == "capacity":
        return [HourUse(hour, "a", meter, (), Usage("max", micro(q), 1)) for meter, q in used.items()]
    if "matrix" in card:
        names = card["matrix"]["dimensions"]
        places = [(tuple(zip(names, str(v).split(","), strict=True)), q) for v, q in used.items()]
        return [HourUse(hour, "a", "meter", place, _usage(kind, q, 0)) for place, q in places]
    return [HourUse(hour, "a", meter, (), Usage(kind, micro(q), 1)) for meter, q in used.items()]


def _usage(kind: Any, used: Any, hour: int) -> Usage:
    if kind == "average":
        return Usage(kind, sum(map(micro, used)), len(used))
    if kind == "unique":
        return Usage(kind, len(set(used)) * ONE, len(used), dict.fromkeys(map(str, used), 1))
    if kind == "priced" or (isinstance(used, list) and used and isinstance(used[0], list)):
        values: dict[str, int] = {}
        for units, price in used:
            place = str(parse_decimal(str(price), 12))
            values[place] = values.get(place, 0) + micro(units)
        return Usage("priced", sum(values.values()), len(used), values)
    if isinstance(used, list):
        sizes = [str(micro(size)) for size in used]
        return Usage("each", sum(map(int, sizes)), len(sizes), {s: sizes.count(s) for s in sizes})
    return Usage(kind, micro(used), 1, last=(hour, ""))


@pytest.mark.parametrize("case", CASES)
def test_the_bill_is_what_the_example_says(case: dict[str, Any]) -> None:
    found = hourly_rows(segments(case), uses(case), PERIOD)
    by_place = {row.hour: format_micro(row.amount) for row in found.rows}
    by_place |= {missing.hour: "no price" for missing in found.unpriced}
    bill = [by_place[hour] for hour in sorted(by_place)]
    assert bill == [b if b == "no price" else format_micro(micro(b)) for b in map(str, case["bill"])]
    total = format_micro(sum(row.amount for row in found.rows))
    assert total == format_micro(micro(case.get("total", total)))


@pytest.mark.parametrize("case", CASES)
def test_the_example_is_explained(case: dict[str, Any]) -> None:
    for row in hourly_rows(segments(case), uses(case), PERIOD).rows:
        parts = sum(p.amount for p in row.slices) * PART_IN_EXACT + sum(e for _, e in row.effects)
        assert parts + row.rounding == row.amount * 10**30


def test_there_are_examples_of_every_model() -> None:
    models = {
        card["model"] for cases in FILES.values() for c in cases for card in c.get("cards", [c.get("card")])
    }
    wanted = "unit graduated volume package graduated_package stairstep capacity percentage increment dynamic"
    assert models == set(wanted.split())
