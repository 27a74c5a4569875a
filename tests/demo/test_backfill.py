"""Backfills through the real pipeline: preview, books, audit, the story of an event, the explanation."""

import asyncio
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metering.audit import run_audit
from metering.backfill import sending
from metering.backfill.preparing import Prepared
from metering.cli import app
from metering.producer import UsageProducer
from metering.settings import Settings
from metering.sinks.client import connect
from metering.state.calendar import HOUR_MS, period_end
from metering.topics import Names
from tests.demo.world import running, send, wait_for
from tests.state.folding import START

CATALOG = """
meters:
  - {id: bytes, event_type: use, aggregation: sum, value: n, scale: 2}
  - {id: peak, event_type: use, aggregation: max, value: n, scale: 2}
  - {id: users, event_type: use, aggregation: unique, value: user}
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2023-01-01T00:00:00Z
        prices:
          - id: bytes
            meter: bytes
            model: volume
            tiers: [{up_to: 20, unit_price: "0.5"}, {unit_price: "0.4"}]
          - {id: peak, meter: peak, model: unit, unit_price: "2"}
          - {id: users, meter: users, model: unit, unit_price: "3"}
plans: [{id: plan, name: Plan, rate_card: card}]
customers:
  - {id: a, name: A, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}
  - {id: b, name: B, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}
"""
DECEMBER = START + 30 * 24 * HOUR_MS


def event(number: int, n: object, user: str = "u1", customer: str = "a", at: int = START, **more: Any) -> str:
    body = {"id": f"e{number}", "customer": customer, "type": "use", "time": at + number * 1_000}
    return json.dumps({**body, "data": {"n": n, "user": user}, **more})


class World:
    """A deployment, its command line, and a file."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.file = folder / "usage.jsonl"

    def write(self, *lines: str) -> None:
        self.file.write_text("\n".join(lines) + "\n")

    def send(self, *lines: str, key: bytes = b"a") -> None:
        send(self.settings, *(line.encode() for line in lines), key=key)

    def run(self, *words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    def fails(self, *words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        return str(result.exception)

    def asked(self, sql: str) -> list[tuple[Any, ...]]:
        with connect(self.settings.clickhouse(), self.settings.database) as client:
            return list(client.query(sql).result_rows)

    def charges(self) -> dict[tuple[str, str, str], Decimal]:
        rows = self.asked("SELECT customer, period, price, sum(amount) FROM charges_current GROUP BY ALL")
        return {(customer, period, price): amount for customer, period, price, amount in rows if amount}

    def wait(self, charges: dict[tuple[str, str, str], str]) -> None:
        wanted = {place: Decimal(amount) for place, amount in charges.items()}
        try:
            wait_for(lambda _: self.charges() == wanted, self.settings)
        except AssertionError as error:
            raise AssertionError(self.charges()) from error

    def audit(self) -> list[Any]:
        with connect(self.settings.clickhouse(), self.settings.database) as client:
            return run_audit(client).differences

    def pass_november(self) -> None:
        async def work() -> None:
            until = period_end("2023-11") + 25 * HOUR_MS
            async with UsageProducer(self.settings.brokers(), Names(self.settings).events) as producer:
                idle = time.time_ns() // 1_000_000 - until
                await producer.tick(self.settings.partitions, idle_ms=idle)

        asyncio.run(work())


@pytest.fixture
def world(deployment: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    monkeypatch.setenv("CLICKHOUSE_URL", deployment.clickhouse())
    monkeypatch.setenv("KAFKA_BROKERS", deployment.brokers())
    monkeypatch.setenv("METERING_DATABASE", deployment.database)
    monkeypatch.setenv("METERING_TOPIC_PREFIX", deployment.topic_prefix)
    monkeypatch.setenv("COLUMNS", "300")
    with running(deployment, CATALOG):
        yield World(deployment, tmp_path)


NOVEMBER = ["--from", "2023-11-01", "--to", "2023-12-01"]
WHY = ["--reason", "a broken gateway", "--actor", "anna", "--yes"]


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_a_backfill_is_previewed_applied_explained_and_reverted(world: World) -> None:
    world.send(event(1, 4), event(2, 9.5, "u2"), event(3, 6, "u2", source="other"))
    world.send(event(1, 7, customer="b"), key=b"b")
    before = {
        ("a", "2023-11", "bytes"): "9.75",
        ("a", "2023-11", "peak"): "19",
        ("a", "2023-11", "users"): "6",
        ("b", "2023-11", "bytes"): "3.5",
        ("b", "2023-11", "peak"): "14",
        ("b", "2023-11", "users"): "3",
    }
    world.wait(before)
    # e1 is amended, e2 is taken away, e4 and b's e5 are new; e3 has another source and stays.
    world.write(event(1, 5.5), event(4, 30, "u3"), event(5, 1, customer="b"))
    words = ["--mode", "replace", *NOVEMBER, "--source", "-"]
    shown = world.run("backfill", "preview", str(world.file), *words)
    assert "nothing was sent" in shown
    assert "2 voided, 1 amended, 2 added" in shown
    assert world.run("backfill", "list") == "no backfills\n"
    sent = world.run("backfill", "apply", str(world.file), *words, *WHY)
    assert "5 events sent, and all of them are in the books" in sent
    after = {
        ("a", "2023-11", "bytes"): "16.6",  # 41.5 × 0.4
        ("a", "2023-11", "peak"): "60",
        ("a", "2023-11", "users"): "9",
        ("b", "2023-11", "bytes"): "0.5",
        ("b", "2023-11", "peak"): "2",
        ("b", "2023-11", "users"): "3",
    }
    world.wait(after)
    assert world.audit() == []
    for amount in ("9.750000", "16.600000", "+6.850000"):
        assert amount in shown
    name = json.loads(world.run("backfill", "list", "--json"))[0]["backfill"]
    assert "was applied" in world.fails("backfill", "apply", str(world.file), *words, *WHY)
    assert f"metering.void by the apply of backfill {name}" in world.run(
        "events", "show", "e2", "--customer", "a"
    )
    assert f"brought by backfill {name}" in world.run("events", "show", "e4")
    why = world.run("explain", "a", "--period", "2023-11")
    for what in ("1 event added", "1 event amended", "1 event voided"):
        assert f"{what} by backfill {name}, anna: a broken gateway" in why
    reverted = world.run("backfill", "revert", name, "--reason", "the wrong file", "--yes")
    assert "all of them are in the books" in reverted
    world.wait(before)
    assert world.audit() == []
    assert "was reverted" in world.fails("backfill", "revert", name, "--reason", "again", "--yes")
    assert "was reverted" in world.fails("backfill", "apply", str(world.file), *words, *WHY)
    # Anew under another name: what was brought is restored, what was replaced is voided again.
    world.run("backfill", "apply", str(world.file), *words, "--id", "second", *WHY)
    world.wait(after)
    assert world.audit() == []
    shown = world.run("backfill", "show", "second")
    assert "restore" in shown
    world.run("backfill", "revert", "second", "--reason", "enough", "--yes")
    world.wait(before)
    assert world.audit() == []


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_a_backfill_of_a_closed_period_is_adjusted_and_its_revert_cancels_it(world: World) -> None:
    world.send(event(1, 4), event(2, 9, "u2"))
    closed = {
        ("a", "2023-11", "bytes"): "6.5",
        ("a", "2023-11", "peak"): "18",
        ("a", "2023-11", "users"): "6",
    }
    world.wait(closed)
    world.pass_november()
    wait_for(lambda books: any(c.agrees for c in books.closes("2023-11")), world.settings)
    words = ["--mode", "replace", *NOVEMBER]
    september = event(7, 1, at=START - 40 * 24 * HOUR_MS)
    world.write(event(3, 30, "u3"), september, event(8, 1, customer="nobody"), event(9, -1))
    refused = world.run("backfill", "apply", str(world.file), *words, *WHY, code=1)
    for line, reason in ((2, "out_of_range"),):
        assert f"{world.file}:{line} {reason}: " in refused
    refused = world.run("backfill", "apply", str(world.file), "--mode", "add", *WHY, code=1)
    for line, reason in ((2, "period_closed"), (3, "unknown_customer"), (4, "negative_value")):
        assert f"{world.file}:{line} {reason}: " in refused
    assert "3 events cannot count: nothing was sent" in refused
    world.write(event(3, 30, "u3"))
    shown = world.run("backfill", "preview", str(world.file), *words)
    assert shown.count("closed: adjusted in 2023-12") == 3
    world.run("backfill", "apply", str(world.file), *words, *WHY)
    world.wait(
        closed
        | {
            ("a", "2023-12", "bytes@2023-11"): "5.5",  # 30 × 0.4 less 13 × 0.5
            ("a", "2023-12", "peak@2023-11"): "42",
            ("a", "2023-12", "users@2023-11"): "-3",
        }
    )
    assert world.audit() == []
    name = json.loads(world.run("backfill", "list", "--json"))[0]["backfill"]
    world.run("backfill", "revert", name, "--reason", "the wrong file", "--yes")
    world.wait(closed)
    assert world.audit() == []


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_a_backfill_that_was_cut_off_is_seen_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.send(event(1, 4), event(2, 9, "u2"))
    world.wait(
        {("a", "2023-11", "bytes"): "6.5", ("a", "2023-11", "peak"): "18", ("a", "2023-11", "users"): "6"}
    )
    world.write(event(3, 1), event(4, 2), event(5, 1, customer="b"))
    words = ["backfill", "apply", str(world.file), "--mode", "replace", *NOVEMBER, *WHY]

    def cut_off(settings: Settings, prepared: list[Prepared], announced: list[str]) -> int:
        for one in prepared:
            del one.records[1:]
        return sending.send(settings, prepared, announced)

    with monkeypatch.context() as patch:
        patch.setattr("metering.backfill.running.send", cut_off)
        assert "3 events did not count: run it again" in world.run(*words, code=1)
    assert "incomplete: 3 missing" in world.run("backfill", "list")
    assert "all of them are in the books" in world.run(*words)
    assert "complete" in world.run("backfill", "list")
    world.wait(
        {
            ("a", "2023-11", "bytes"): "1.5",
            ("a", "2023-11", "peak"): "4",
            ("a", "2023-11", "users"): "3",
            ("b", "2023-11", "bytes"): "0.5",
            ("b", "2023-11", "peak"): "2",
            ("b", "2023-11", "users"): "3",
        }
    )
    assert world.audit() == []
    assert world.asked("SELECT count() FROM rejected_current") == [(0,)]
