"""Late usage that waits, through the whole pipeline: approved, restated, billed once, audited."""

import asyncio
import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from billing_sync.run import run_once
from metering.audit import run_audit
from metering.cli import app
from metering.console import console
from metering.periods import periods, revisions
from metering.producer import UsageProducer
from metering.settings import Settings
from metering.settings import settings as settings_of_process
from metering.sinks.client import connect
from metering.state.calendar import HOUR_MS, period_end
from metering.topics import Names
from tests.demo.world import running, send, wait_for
from tests.state.folding import CATALOG, event

LATE = (
    CATALOG.replace("scale: 2}", "scale: 2, late: restate}")
    .replace(
        "rate_cards:",
        "  - {id: bytes, event_type: store, aggregation: sum, value: n, late: quarantine}\nrate_cards:",
    )
    .replace(
        'model: unit, unit_price: "0.0000014"}',
        'model: unit, unit_price: "0.0000014"}\n'
        '          - {id: bytes, meter: bytes, model: unit, unit_price: "0.01"}',
    )
)


@pytest.fixture
def metering(deployment: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    for name, value in {
        "KAFKA_BROKERS": deployment.brokers(),
        "CLICKHOUSE_URL": deployment.clickhouse(),
        "METERING_DATABASE": deployment.database,
        "METERING_TOPIC_PREFIX": deployment.topic_prefix,
        "METERING_HOME": str(deployment.home),
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    settings_of_process.cache_clear()

    def run(*words: str) -> str:
        console.width = 200
        with console.capture() as said:
            result = CliRunner().invoke(app, list(words))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return said.get()

    return run


def close(settings: Settings) -> None:
    """Let the time of November pass, and a day and an hour more."""

    async def work() -> None:
        until = period_end("2023-11") + 25 * HOUR_MS
        async with UsageProducer(settings.brokers(), Names(settings).events) as producer:
            await producer.tick(settings.partitions, idle_ms=time.time_ns() // 1_000_000 - until)

    asyncio.run(work())


def store(number: int, n: int) -> bytes:
    return event(number, type="store", data={"n": n})


def rows(client: Any, sql: str) -> list[Any]:
    return list(client.query(sql).result_rows)


def letters(reasons: dict[str, int]) -> Callable[[Any], bool]:
    return lambda books: books.rejected_by_reason() == reasons


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_restatement_is_approved_charged_billed_and_audited(
    deployment: Settings, metering: Callable[..., str]
) -> None:
    with running(deployment, LATE):
        send(deployment, event(1, n=600), event(2, hour=1, n=300), store(3, 100))
        wait_for(lambda books: books.charge_rows("2023-11") == 5, deployment)
        close(deployment)
        wait_for(lambda books: any(c.agrees for c in books.closes("2023-11")), deployment)
        first = run_once(deployment)
        send(deployment, event(4, n=200), event(4, n=200), event(5, n=50), store(6, 10))
        wait_for(letters({"late_restatement": 3, "late_quarantined": 1}), deployment)

        with connect(deployment.clickhouse(), deployment.database) as client:
            assert [(c.revision, c.state) for c in periods(client, deployment)] == [(0, "closed")]
            assert run_audit(client).differences == []
        waiting = json.loads(metering("late", "list", "--json"))
        assert [(w["event_id"], w["waits"]) for w in waiting] == [
            ("e4", "pending restatement"),
            ("e4", "pending restatement"),
            ("e5", "pending restatement"),
            ("e6", "quarantined"),
        ]
        assert "metering late approve e4" in metering("events", "show", "e4")

        metering("late", "approve", "--all-of", "a/tokens/2023-11", "--reason", "agreed", "--actor", "anna")
        assert len(json.loads(metering("late", "list", "--json"))) == 4, "without --yes nothing is done"
        said = metering(
            "late",
            "approve",
            "--all-of",
            "a/tokens/2023-11",
            "--reason",
            "agreed",
            "--actor",
            "anna",
            "--yes",
        )
        assert "2 approved by anna" in said
        wait_for(lambda books: [c.agrees for c in books.closes("2023-11")] == [True], deployment)
        with connect(deployment.clickhouse(), deployment.database) as client:
            wait_for(lambda _: len(revisions(client, "a", "2023-11")) == 2, deployment)
        metering("late", "approve", "e6", "--reason", "seen", "--actor", "bert", "--yes")
        wait_for(lambda books: books.charge_rows("2023-12") == 1, deployment)
        wait_for(lambda books: books.counters().accepted == 6, deployment)
        send(deployment, event(4, n=200))  # a copy once more: its id is known now
        wait_for(lambda books: books.counters().duplicates == 1, deployment)
        second, third = run_once(deployment), run_once(deployment)

    with connect(deployment.clickhouse(), deployment.database) as client:
        audit = run_audit(client)
        assert audit.differences == []
        old, new = revisions(client, "a", "2023-11")
        # 900 × 0.10, then 1,150 × 0.08, and 100 × 0.01; 2 and 4 calls of 0.0000014
        assert (old.amount, new.amount) == (Decimal("91.000003"), Decimal("93.000006"))
        assert [(event_id, who, why) for event_id, who, why, _ in new.approvals] == [
            ("e4", "anna", "agreed"),
            ("e5", "anna", "agreed"),
        ]
        (now,) = [p for p in periods(client, deployment) if p.period == "2023-11"]
        assert (now.state, now.revision, now.amount, now.digest) == ("restated", 1, new.amount, new.digest)
        adjusted = rows(client, "SELECT price, amount FROM charges_current WHERE corrects != ''")
        assert adjusted == [("bytes@2023-11", Decimal("0.100000"))]
        assert rows(client, "SELECT state, count() FROM rejected_letters GROUP BY state") == [("approved", 4)]
        client.command(
            "ALTER TABLE charges UPDATE amount = amount + 1 WHERE price = 'tokens'"
            " SETTINGS mutations_sync = 2"
        )
        assert {"charge", "close"} <= {d.check for d in run_audit(client).differences}
    assert [i.invoiced for i in first.invoices] == [Decimal("91.00")]
    assert sorted(i.invoiced for i in second.invoices) == [Decimal("2.00"), Decimal("91.00")]
    assert (second.sent_now, third.sent_now) == (1, 0)
    story = metering("events", "show", "e4")
    assert "metering.approve as restatement; anna: agreed" in story
    assert [c["outcome"] for c in json.loads(metering("events", "show", "e4", "--json"))["copies"]] == [
        "refused",
        "refused",
        "duplicate",
    ]
    assert "2023-11 restated (revision 1): 93.000006 instead of 91.000003: 2.00 USD" in story
    explained = metering("explain", "a", "--period", "2023-11")
    assert "(restated)" in explained
    assert "revision 1: 2 late events (e4, …) approved" in explained
    assert "restated" in metering("periods")
