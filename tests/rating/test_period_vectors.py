"""Worked examples of whole billing periods: each file in tests/vectors/periods is catalog + usage → bill."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from metering.catalog.load import load_texts
from metering.rating.cards import ONE
from metering.rating.hourly import Carry
from metering.rating.money import MICRO, format_micro, parse_decimal
from metering.rating.period import Rated, rate_period
from metering.rating.rows import PART_IN_EXACT, ChargeRow
from metering.rating.usage import HourUse, Usage
from metering.state.calendar import period, period_of

VECTORS = Path(__file__).parent.parent / "vectors" / "periods"
FILES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(VECTORS.glob("*.yaml"))}
NAMED = {f"{name}: {case['title']}": case for name, cases in FILES.items() for case in cases}
CASES = [pytest.param(case, id=name) for name, case in NAMED.items()]
WITH_ROWS = [param for param in CASES if "rows" in param.values[0]]

Case = dict[str, Any]


def micro(text: Any) -> int:
    return parse_decimal(str(text), MICRO)


def hour_of(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp())


def periods(case: Case) -> list[str]:
    return case.get("periods") or [case["period"]]


def uses(case: Case, kinds: dict[str, Any]) -> list[HourUse]:
    return [
        HourUse(
            hour_of(used["hour"]),
            used["customer"],
            used["meter"],
            tuple(sorted(used.get("dims", {}).items())),
            usage(kinds[used["meter"]], used),
        )
        for used in case.get("usage", ())
    ]


def usage(kind: Any, used: dict[str, Any]) -> Usage:
    values = used.get("values", ())
    if kind == "average":
        return Usage(kind, sum(map(micro, values)), len(values))
    if kind == "unique":
        return Usage(kind, len(set(values)) * ONE, len(values), dict.fromkeys(values, 1))
    if kind == "each":
        sizes = Counter(str(micro(size)) for size in values)
        return Usage(kind, sum(map(micro, values)), len(values), dict(sizes))
    if kind == "priced":
        at: Counter[str] = Counter()
        for units, price in values:
            at[str(parse_decimal(price, 12))] += micro(units)
        return Usage(kind, at.total(), len(values), dict(at))
    return Usage(kind, micro(used["quantity"]), 1, last=(hour_of(used["hour"]) * 1_000, ""))


def rated(case: Case) -> Iterator[tuple[str, Rated]]:
    """Each period of each account; windows that go on are carried from one to the next."""
    given = case["catalog"]
    text = given if isinstance(given, str) else json.dumps(given, default=str)
    catalog = load_texts({"catalog.yaml": text})
    used = uses(case, {meter.id: meter.aggregation for meter in catalog.content.meters})
    assert all(catalog.customer(u.customer) and period_of(u.hour) in periods(case) for u in used)
    for members in catalog.accounts().values():
        carried: dict[str, Carry] = {}
        for name in periods(case):
            span = period(name)
            own = [u for u in used if u.customer in members and span.starts <= u.hour < span.ends]
            found = rate_period(members, own, span, carried=carried, closing=True)
            carried = found.carries
            yield name, found


def rows(case: Case) -> list[tuple[str, ChargeRow]]:
    return [(name, row) for name, found in rated(case) for row in found.rows]


@pytest.mark.parametrize("case", CASES)
def test_the_bill_is_what_the_example_says(case: Case) -> None:
    bill: Counter[tuple[str, ...]] = Counter()
    for name, row in rows(case):
        bill[name, row.customer, row.price, row.kind] += row.amount
    wanted = {
        (b.get("period", periods(case)[0]), b["customer"], b["price"], b["line"]): micro(b["amount"])
        for b in case["bill"]
    }
    assert len(wanted) == len(case["bill"]), "a line stands twice in the bill"
    assert readable(bill) == readable(wanted)


def readable(bill: dict[tuple[str, ...], int]) -> dict[str, str]:
    return {" ".join(line): format_micro(amount) for line, amount in bill.items()}


@pytest.mark.parametrize("case", WITH_ROWS)
def test_the_rows_are_those_of_the_example(case: Case) -> None:
    wanted = sorted(
        (r["customer"], r["price"], r["line"], hour_of(r["hour"]), micro(r["amount"])) for r in case["rows"]
    )
    lines = {row[:3] for row in wanted}
    found = [(r.customer, r.price, r.kind, r.hour, r.amount) for _, r in rows(case)]
    assert sorted(row for row in found if row[:3] in lines) == wanted


@pytest.mark.parametrize("case", CASES)
def test_usage_without_a_price_is_the_errors_of_the_example(case: Case) -> None:
    found = [(u.customer, u.meter, u.reason) for _, made in rated(case) for u in made.unpriced]
    wanted = [(e["customer"], e["meter"], e["reason"]) for e in case.get("errors", ())]
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("case", CASES)
def test_every_row_is_explained(case: Case) -> None:
    for _, row in rows(case):
        parts = sum(p.amount for p in row.slices) * PART_IN_EXACT + sum(e for _, e in row.effects)
        assert parts + row.rounding == row.amount * 10**30


def test_there_are_examples_of_every_line() -> None:
    lines = {line["line"] for cases in FILES.values() for case in cases for line in case["bill"]}
    assert lines == {"usage", "flat", "share", "discount", "cap", "true_up"}
