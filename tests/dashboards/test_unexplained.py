"""The short way to charges that their parts do not explain finds what the view finds, whatever was rewritten."""

import random
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from dashboards.macros import expand
from dashboards.query import UNEXPLAINED
from metering.records import version
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from tests.dashboards.world import CHARGE_COLUMNS, YEARS, charge

COLUMNS = [*CHARGE_COLUMNS, "slice_amounts"]
CARD, VERSION = CHARGE_COLUMNS.index("card"), CHARGE_COLUMNS.index("version")
KEYS = "SELECT customer, period, price, hour FROM"
Rows = list[list[Any]]


@pytest.fixture
def client(local_parts: Settings) -> Iterator[Any]:
    migrate(local_parts.clickhouse(), "boards_unexplained")
    with connect(local_parts.clickhouse(), "boards_unexplained") as client:
        client.command("TRUNCATE TABLE charges")
        yield client


def row(customer: str, number: int, slices: str, card: str = "card") -> list[Any]:
    """A charge of 5, in a version, with the sum of its slices; without a card it is taken back."""
    made = charge(customer, "2025-01", "5")
    made[VERSION], made[CARD] = version(1, number), card
    return [*made, [Decimal(slices)]]


def put(client: Any, rows: Rows) -> None:
    for one in rows:  # a part each: nothing is merged before the query
        client.insert("charges", [one], column_names=COLUMNS)


def found(client: Any, source: str) -> set[tuple[Any, ...]]:
    return set(client.query(f"{KEYS} {expand(source, YEARS, {})}").result_rows)


@pytest.mark.parts
def test_only_the_newest_version_of_a_charge_is_judged(client: Any) -> None:
    put(client, [row("mended", 1, "4"), row("mended", 2, "5")])
    put(client, [row("broken", 1, "5"), row("broken", 2, "4")])
    put(client, [row("withdrawn", 1, "4"), row("withdrawn", 2, "4", card="")])
    put(client, [row("right", 1, "5")])
    assert {key[0] for key in found(client, UNEXPLAINED)} == {"broken"}


@pytest.mark.parts
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_short_way_finds_what_the_view_finds(client: Any, seed: int) -> None:
    chance = random.Random(seed)
    rows = [
        row(f"c{chance.randrange(6)}", n, chance.choice("45"), chance.choice(["card", "card", ""]))
        for n in range(40)
    ]
    chance.shuffle(rows)
    put(client, rows)
    assert found(client, UNEXPLAINED) == found(client, "audit_unexplained") != set()


@pytest.mark.parts
def test_a_month_that_rests_becomes_one_part(client: Any) -> None:
    parts = (
        "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'charges' AND active"
    )
    held = "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'charges'"
    for day in ("min_age_to_force_merge_seconds = 86400", "min_age_to_force_merge_on_partition_only = "):
        assert day in client.command(held)
    client.command("ALTER TABLE charges MODIFY SETTING min_age_to_force_merge_seconds = 1")
    try:
        put(client, [row("a", 1, "5"), row("a", 2, "5"), row("b", 1, "5")])
        deadline = time.monotonic() + 90
        while client.command(parts) != 1 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert client.command(parts) == 1
    finally:
        client.command("ALTER TABLE charges MODIFY SETTING min_age_to_force_merge_seconds = 86400")
