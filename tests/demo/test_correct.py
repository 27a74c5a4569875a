"""Voiding and amending through the real pipeline: preview, books, audit, every aggregation."""

import json
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from metering.audit import run_audit
from metering.cli import app
from metering.settings import Settings
from metering.sinks.client import connect
from tests.demo.world import running, send, wait_for
from tests.state.folding import START

PERIOD = "2023-11"
CATALOG = """
meters:
  - {id: bytes, event_type: use, aggregation: sum, value: n}
  - {id: peak, event_type: use, aggregation: max, value: n}
  - {id: seats, event_type: use, aggregation: latest, value: n}
  - {id: users, event_type: use, aggregation: unique, value: user}
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2023-01-01T00:00:00Z
        prices:
          - {id: bytes, meter: bytes, model: unit, unit_price: "0.5"}
          - {id: peak, meter: peak, model: unit, unit_price: "2"}
          - {id: seats, meter: seats, model: unit, unit_price: "10"}
          - {id: users, meter: users, model: unit, unit_price: "3"}
plans: [{id: plan, name: Plan, rate_card: card}]
customers: [{id: a, name: A, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}]
"""


def event(number: int, n: int, user: str) -> bytes:
    body = {"id": f"e{number}", "customer": "a", "type": "use", "time": START + number * 1_000}
    return json.dumps({**body, "data": {"n": n, "user": user}}).encode()


def charges(settings: Settings) -> dict[str, Decimal]:
    with connect(settings.clickhouse(), settings.database) as client:
        rows = client.query("SELECT price, sum(amount) FROM charges_current GROUP BY price").result_rows
    return dict(rows)


def amounts(**numbers: str) -> dict[str, Decimal]:
    return {price: Decimal(number) for price, number in numbers.items()}


@pytest.fixture
def metering(deployment: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CLICKHOUSE_URL", deployment.clickhouse())
    monkeypatch.setenv("KAFKA_BROKERS", deployment.brokers())
    monkeypatch.setenv("METERING_DATABASE", deployment.database)
    monkeypatch.setenv("METERING_TOPIC_PREFIX", deployment.topic_prefix)
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *words: CliRunner().invoke(app, ["correct", *words])


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_corrections_reach_the_books_and_the_audit(deployment: Settings, metering: Any) -> None:
    with running(deployment, CATALOG):
        send(deployment, event(1, 4, "u1"), event(2, 9, "u2"), event(3, 6, "u2"))
        before = amounts(bytes="9.5", peak="18", seats="60", users="6")
        wait_for(lambda _: charges(deployment) == before, deployment)
        stored = amounts(bytes="19", peak="9", seats="6", users="2")
        wait_for(lambda books: books.metered(PERIOD) == stored, deployment)
        shown = metering("void", "e2", "--reason", "a load test")
        assert "nothing was sent" in shown.output
        assert "charge of a peak" in shown.output
        assert metering("void", "e2", "--reason", "a load test", "--yes").exit_code == 0
        wait_for(
            lambda _: charges(deployment) == amounts(bytes="5", peak="12", seats="60", users="6"), deployment
        )
        stored = amounts(bytes="10", peak="6", seats="6", users="2")
        wait_for(lambda books: books.metered(PERIOD) == stored, deployment)
        words = ["--data", '{"n": 1, "user": "u1"}', "--reason", "wrong size", "--yes"]
        assert metering("amend", "e3", *words).exit_code == 0
        after = amounts(bytes="2.5", peak="8", seats="10", users="3")
        wait_for(lambda _: charges(deployment) == after, deployment)
        stored = amounts(bytes="5", peak="4", seats="1", users="1")
        wait_for(lambda books: books.metered(PERIOD) == stored, deployment)
        gone = metering("void", "e2", "--reason", "again", "--yes")
        assert gone.exit_code != 0
    with connect(deployment.clickhouse(), deployment.database) as client:
        assert run_audit(client).differences == []
