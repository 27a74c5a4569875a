"""Explain, audit and what-if on the books of a running pipeline, and rating from a file."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from metering.cli import app
from metering.settings import Settings
from metering.sinks.client import connect
from metering.state.calendar import HOUR_MS
from tests.demo.world import running, send, wait_for

START = 1_698_796_800_000  # 2023-11-01T00:00:00Z
PERIOD = "2023-11"
CATALOG = """
meters:
  - {id: calls, event_type: call, aggregation: count, dimensions: [region]}
  - {id: bytes, event_type: call, aggregation: sum, value: size, scale: 3, dimensions: [region]}
  - {id: seats, event_type: seats, aggregation: latest, value: n}
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2023-01-01T00:00:00Z
        prices:
          - {id: base, model: flat, amount: "9.99"}
          - id: calls
            meter: calls
            model: unit
            matrix:
              dimensions: [region]
              cells: [{when: {region: eu}, unit_price: "0.30"}, {when: {}, unit_price: "0.20"}]
            discounts: [{id: friends, percent: "12.5"}]
          - id: bytes
            meter: bytes
            model: graduated
            tiers: [{up_to: 10, unit_price: "0.001"}, {unit_price: "0.0005", flat_fee: "1"}]
          - {id: seats, meter: seats, model: unit, unit_price: "5"}
plans: [{id: plan, name: Plan, rate_card: card, minimum: {amount: "50"}}]
customers: [{id: a, name: Anna, plan: plan, currency: USD, start: 2023-11-01T00:00:00Z}]
"""


def event(number: int, kind: str = "call", **data: Any) -> bytes:
    body = {"id": f"e{number}", "customer": "a", "type": kind, "time": START + number * HOUR_MS, "data": data}
    return json.dumps(body).encode()


EVENTS = [event(n, region="eu" if n % 3 else "us", size="3.125") for n in range(7)] + [
    event(8, "seats", n=2),
    event(9, "seats", n=1),
]


@pytest.fixture(scope="module")
def books(local_parts: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("books")
    settings = local_parts.model_copy(
        update={
            "home": folder,
            "kafka_brokers": local_parts.brokers(),
            "clickhouse_url": local_parts.clickhouse(),
            "database": "books_commands",
            "topic_prefix": "books-commands.",
            "checkpoint_seconds": 0.2,
            "sink_batch_seconds": 0.2,
        }
    )
    with connect(settings.clickhouse(), "default") as client:
        client.command("DROP DATABASE IF EXISTS books_commands")
    with running(settings, CATALOG):
        send(settings, *EVENTS)
        wait_for(lambda found: found.charge_rows(PERIOD) == 7 * 2 + 2 + 1, settings)
    return settings


@pytest.fixture
def metering(books: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CLICKHOUSE_URL", books.clickhouse())
    monkeypatch.setenv("METERING_DATABASE", books.database)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*words: str) -> Any:
        return CliRunner().invoke(app, list(words))

    return call


@pytest.mark.parts
def test_a_bill_is_explained_price_by_price(metering: Any) -> None:
    said = metering("explain", "a", "--period", PERIOD).output
    assert "calls: 7 calls come to 1.575000" in said  # (4 × 0.30 + 3 × 0.20) less 12.5 %
    assert "eu: 4 units × 0.3 = 1.2" in said
    assert "discount friends: -0.225" in said
    assert "base: flat come to 9.990000" in said


@pytest.mark.parts
def test_one_hour_is_explained_with_its_events(metering: Any) -> None:
    said = metering("explain", "a", "--period", PERIOD, "--price", "bytes", "--hour", "2023-11-01T03").output
    assert "tier 1: 0.625 units × 0.001 = 0.000625" in said
    assert "tier 2: 2.5 units × 0.0005 + fee 1 = 1.00125" in said
    assert "from 1 events with digest" in said


@pytest.mark.parts
def test_the_explanation_as_json_adds_up_exactly(metering: Any) -> None:
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 60
        for price in json.loads(metering("explain", "a", "--period", PERIOD, "--json").output):
            parts = [Decimal(p["amount"]) for p in price["parts"] + price["effects"]]
            assert sum(parts) + Decimal(price["rounding"]) == Decimal(price["amount"])


@pytest.mark.parts
def test_the_audit_agrees_with_the_books(metering: Any) -> None:
    result = metering("audit", "--period", PERIOD)
    assert result.exit_code == 0, result.output
    assert "14 charges against the hourly totals" in result.output  # seats and the fee are not additive


TAMPERED = [
    ("charges", "amount = amount + 0.000001 WHERE price = 'bytes' AND quantity_after = 12.5", "explanation"),
    ("charges", "amount = amount + 0.000001 WHERE price = 'calls' AND quantity_after = 2", "charge"),
    (
        "hourly",
        "quantity = quantity + 0.001 WHERE meter = 'bytes' AND hour = '2023-11-01 05:00:00'",
        "hourly",
    ),
    ("hourly", "quantity = quantity + 1 WHERE meter = 'seats'", "hourly"),
    ("charges", "meter = 'nothing' WHERE price = 'calls' AND quantity_after = 3", "charge"),
]


@pytest.mark.parts
@pytest.mark.parametrize(("table", "change", "check"), TAMPERED)
def test_the_audit_finds_a_row_changed_by_hand(
    metering: Any, books: Settings, table: str, change: str, check: str
) -> None:
    with connect(books.clickhouse(), books.database) as client:
        kept = f"kept_{table}"
        client.command(
            f"CREATE OR REPLACE TABLE {kept} ENGINE = MergeTree ORDER BY tuple() AS SELECT * FROM {table}"
        )
        client.command(f"ALTER TABLE {table} UPDATE {change} SETTINGS mutations_sync = 2")
        try:
            result = metering("audit", "--period", PERIOD, "--json")
        finally:
            client.command(f"TRUNCATE TABLE {table}")
            client.command(f"INSERT INTO {table} SELECT * FROM {kept}")
            client.command(f"DROP TABLE {kept}")
    assert result.exit_code == 1
    assert check in {d["check"] for d in json.loads(result.output)["differences"]}


@pytest.mark.parts
def test_what_if_shows_the_difference_biggest_first(metering: Any, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(
        CATALOG.replace('"0.30"', '"0.50"').replace('unit_price: "5"', 'unit_price: "4"')
    )
    csv, parquet = tmp_path / "out.csv", tmp_path / "out.parquet"
    words = ["--catalog", str(tmp_path), "--period", PERIOD, "--csv", str(csv), "--parquet", str(parquet)]
    result = metering("whatif", *words)
    assert result.exit_code == 0, result.output
    assert pd.read_parquet(parquet)["difference"].abs().is_monotonic_decreasing
    rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert rows[0] == ["a", "seats", "5.000000", "4.000000", "-1.000000"]
    assert ["a", "calls", "1.575000", "2.275000", "0.700000"] in rows
    minimum = next(row for row in rows if row[1] == "minimum")
    assert minimum[4] == "0.300000"  # the commitment of 50 takes up what the others lose


@pytest.mark.parts
def test_what_if_of_the_catalog_in_force_changes_nothing(metering: Any, tmp_path: Path) -> None:
    (tmp_path / "same.yaml").write_text(CATALOG)
    result = metering(
        "whatif", "--catalog", str(tmp_path), "--period", PERIOD, "--csv", str(tmp_path / "o.csv")
    )
    assert {line.split(",")[4] for line in (tmp_path / "o.csv").read_text().splitlines()[1:]} == {"0.000000"}
    assert result.exit_code == 0


def offline(tmp_path: Path, name: str, text: str) -> Any:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "c.yaml").write_text(CATALOG)
    (tmp_path / name).write_text(text)
    words = ["rate", "--catalog", str(tmp_path / "catalog"), "--usage", str(tmp_path / name), "--json"]
    return CliRunner().invoke(app, words)


def totals(result: Any) -> dict[str, str]:
    from decimal import Decimal

    found: dict[str, Decimal] = {}
    for row in json.loads(result.output)["charges"]:
        found[row["price"]] = found.get(row["price"], Decimal(0)) + Decimal(row["amount"])
    return {price: str(amount) for price, amount in found.items()}


EXPECTED = {
    "base": "9.990000",
    "calls": "1.575000",
    "bytes": "1.015938",
    "seats": "5.000000",
    "minimum": "32.419062",
}


def test_a_file_is_rated_without_kafka_or_clickhouse(tmp_path: Path) -> None:
    result = offline(tmp_path, "usage.jsonl", b"\n".join([*EVENTS, EVENTS[0]]).decode())
    assert totals(result) == EXPECTED
    assert json.loads(result.output)["duplicates"] == 1


def test_a_csv_file_is_rated_the_same(tmp_path: Path) -> None:
    bodies = [json.loads(value) for value in EVENTS]
    lines = ["id,customer,type,time,region,size,n"]
    for b in bodies:
        d = b["data"]
        lines.append(
            f"{b['id']},a,{b['type']},{b['time']},{d.get('region', '')},{d.get('size', '')},{d.get('n', '')}"
        )
    assert totals(offline(tmp_path, "usage.csv", "\n".join(lines))) == EXPECTED


def test_a_line_that_cannot_be_rated_is_named(tmp_path: Path) -> None:
    result = offline(tmp_path, "usage.jsonl", event(1, region="eu", size=1.00001).decode())
    assert result.exit_code == 1
    assert json.loads(result.output)["rejected"][0]["line"] == 1
