"""The views by month beside a naive model, while charges are rewritten, withdrawn, replayed and added late."""

import random
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from metering.records import version
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from tests.dashboards.world import CHARGE_COLUMNS, charge

PERIODS = [f"2025-{month:02}" for month in range(1, 7)]
Row = list[Any]
Key = tuple[str, str, str]
CARD, AMOUNT, VERSION = (CHARGE_COLUMNS.index(name) for name in ("card", "amount", "version"))


@pytest.fixture
def client(local_parts: Settings) -> Iterator[Any]:
    migrate(local_parts.clickhouse(), "boards_months")
    with connect(local_parts.clickhouse(), "boards_months") as client:
        client.command("TRUNCATE TABLE charges")
        client.command("TRUNCATE TABLE period_closes")
        yield client


def versions(seed: int, count: int) -> list[Row]:
    """Charges of a few customers, in versions: some take a row back, some make it zero."""
    chance, made = random.Random(seed), []
    for number in range(count):
        customer = f"c{chance.randrange(9)}"
        line = chance.choice(["flat", "usage"])
        currency = "EUR" if customer in ("c1", "c2") else "USD"
        row = charge(customer, chance.choice(PERIODS), f"{chance.randrange(4)}.000001", line, currency)
        row[VERSION] = version(1, seed * 1_000 + number)
        row[CARD] = chance.choice(["card", "card", "card", ""])
        made.append(row)
    return made


def current(rows: list[Row]) -> dict[Key, Row]:
    """The newest version of each row, without what was withdrawn."""
    newest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[:4])
        if key not in newest or newest[key][VERSION] < row[VERSION]:
            newest[key] = row
    return {key: row for key, row in newest.items() if row[CARD]}  # type: ignore[misc]


def totals(rows: list[Row]) -> dict[tuple[str, str], Decimal]:
    found: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in current(rows).values():
        found[row[0], row[1]] += row[AMOUNT]
    return dict(found)


def changes(rows: list[Row]) -> set[tuple[str, str, Decimal, Decimal, str]]:
    """Customer, month, total, the month before, and what that makes of it."""
    paid, found = {key: total for key, total in totals(rows).items() if total > 0}, set()
    for customer in {name for name, _ in paid}:
        first = min(period for name, period in paid if name == customer)
        for number, period in enumerate(PERIODS):
            now = paid.get((customer, period), Decimal(0))
            before = paid.get((customer, PERIODS[number - 1]), Decimal(0)) if number else Decimal(0)
            if now or before:
                found.add((customer, period, now, before, change(now, before, is_first=period == first)))
    return found


def change(now: Decimal, before: Decimal, *, is_first: bool) -> str:
    if not before:
        return "new" if is_first else "back"
    if not now:
        return "lost"
    return "grew" if now > before else "shrank" if now < before else "same"


def put(client: Any, rows: list[Row], seed: int) -> None:
    """In blocks and in any order, the older half once more: a replay."""
    mixed = rows + rows[: len(rows) // 2]
    random.Random(seed).shuffle(mixed)
    for first in range(0, len(mixed), 20):
        client.insert("charges", mixed[first : first + 20], column_names=CHARGE_COLUMNS)


def ask(client: Any, sql: str) -> set[tuple[Any, ...]]:
    return set(client.query(sql).result_rows)


@pytest.mark.parts
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_months_and_changes_are_those_of_the_newest_rows(client: Any, seed: int) -> None:
    rows: list[Row] = [charge("last", PERIODS[-1], "0.000001")]
    for step in range(2):  # the second goes over the first: rewritten, late, taken back
        rows += versions(seed + 10 * step, 120)
        put(client, rows, seed)
        months = ask(client, "SELECT customer, period, total FROM customer_months")
        assert months == {(*key, total) for key, total in totals(rows).items()}
        asked = "SELECT customer, formatDateTime(month, '%Y-%m'), total, before, change FROM customer_changes"
        assert ask(client, asked) == changes(rows)


@pytest.mark.parts
def test_the_checklist_follows_a_rewritten_charge(client: Any) -> None:
    client.insert("charges", [charge("anna", "2025-03", "5")], column_names=CHARGE_COLUMNS)
    client.command(
        "INSERT INTO period_closes (customer, period, currency, rows, amount, version)"
        " VALUES ('anna', '2025-03', 'USD', 1, 5, 1)"
    )
    steps = "SELECT step, missing, who FROM close_checklist WHERE period = '2025-03' AND step IN (2, 3)"
    assert ask(client, steps) == {(2, 0, ""), (3, 0, "")}
    rewritten = charge("anna", "2025-03", "6")
    rewritten[VERSION] = version(1, 2)
    client.insert("charges", [rewritten, charge("bert", "2025-03", "1")], column_names=CHARGE_COLUMNS)
    assert ask(client, steps) == {(2, 1, "bert"), (3, 1, "anna")}


@pytest.mark.parts
def test_each_step_of_each_period_of_the_books_is_there_and_of_no_other(client: Any) -> None:
    put(client, [charge("anna", period, "1") for period in PERIODS[:2]], 1)
    found = ask(client, "SELECT period, step FROM close_checklist")
    assert found == {(period, step) for period in PERIODS[:2] for step in range(1, 9)}
