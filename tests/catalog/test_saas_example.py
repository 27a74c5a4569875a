"""The example of a software company: the engine makes the bills that were worked out by hand."""

import random
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from metering.catalog.load import load_folder
from metering.catalog.resolved import Catalog
from metering.offline import Offline, rate_file
from metering.rating.money import format_micro

FOLDER = Path(__file__).parent.parent.parent / "examples" / "saas"
EXPECTED = yaml.safe_load((FOLDER / "bills.yaml").read_text())
PERIOD: str = EXPECTED["period"]
BILLS: dict[str, dict[str, Any]] = EXPECTED["bills"]
USAGE = (FOLDER / "usage.jsonl").read_bytes()
LINES = USAGE.splitlines(keepends=True)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_folder(FOLDER / "catalog")


@pytest.fixture(scope="module")
def rated(catalog: Catalog) -> Offline:
    return rate(catalog, LINES)


def rate(catalog: Catalog, lines: list[bytes]) -> Offline:
    return rate_file(catalog, "usage.jsonl", b"".join(lines), PERIOD)


def lines_of(found: Offline) -> dict[str, dict[str, str]]:
    sums: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in found.rows[PERIOD]:
        assert row.origin.currency == EXPECTED["currency"]
        sums[row.customer][row.price] += row.amount
    return {c: {price: format_micro(amount) for price, amount in found.items()} for c, found in sums.items()}


def test_the_catalog_has_four_plans_and_a_bill_for_each_customer(catalog: Catalog) -> None:
    assert [plan.id for plan in catalog.content.plans] == ["free", "starter", "professional", "enterprise"]
    assert {customer.id for customer in catalog.content.customers} == set(BILLS)


def test_no_event_is_refused_and_no_usage_is_without_a_price(rated: Offline) -> None:
    assert (rated.events, rated.rejected, rated.unpriced) == (len(LINES), [], [])


def test_no_other_customer_is_charged(rated: Offline) -> None:
    assert set(lines_of(rated)) == set(BILLS)


@pytest.mark.parametrize("customer", BILLS)
def test_the_bill_worked_out_by_hand_is_the_bill(customer: str, rated: Offline) -> None:
    assert lines_of(rated)[customer] == BILLS[customer]["lines"]


@pytest.mark.parametrize("customer", BILLS)
def test_the_lines_add_up_to_the_total(customer: str) -> None:
    assert sum(map(Decimal, BILLS[customer]["lines"].values())) == Decimal(BILLS[customer]["total"])


def test_a_plan_changed_in_mid_month_gives_two_parts_of_the_fee(rated: Offline) -> None:
    fees = [r for r in rated.rows[PERIOD] if (r.customer, r.price) == ("otter-ferries", "platform")]
    assert [(r.origin.card, format_micro(r.amount)) for r in fees] == [
        ("starter", "44.709678"),
        ("professional", "273.645161"),
    ]


def test_an_event_that_was_sent_twice_counts_once(catalog: Catalog, rated: Offline) -> None:
    once = list(dict.fromkeys(LINES))
    assert rated.duplicates == len(LINES) - len(once) > 0
    assert rate(catalog, once).rows == rated.rows
    assert rate(catalog, LINES + LINES).rows == rated.rows


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_lines_changes_nothing(seed: int, catalog: Catalog, rated: Offline) -> None:
    shuffled = random.Random(seed).sample(LINES, len(LINES))
    assert shuffled != LINES
    again = rate(catalog, shuffled)
    assert (again.rows, again.duplicates) == (rated.rows, rated.duplicates)


def test_the_generator_writes_the_committed_file() -> None:
    made = subprocess.run([sys.executable, FOLDER / "usage.py"], capture_output=True, check=True)
    assert made.stdout == USAGE


@pytest.mark.parametrize("customer", BILLS)
def test_the_readme_has_every_amount(customer: str) -> None:
    name = customer.replace("-", " ").title()
    _, _, rest = (FOLDER / "README.md").read_text().partition(f"\n### {name}")
    shown = [[cell.strip(" *") for cell in row.split("|")] for row in rest.split("\n### ")[0].splitlines()]
    written = {cells[1]: cells[-2] for cells in shown if len(cells) > 3}
    for line, amount in {**BILLS[customer]["lines"], "total": BILLS[customer]["total"]}.items():
        assert written.get(line) == f"{Decimal(amount):,.6f}", line
