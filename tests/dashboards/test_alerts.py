"""Alerts on the books: silent on books that are right, firing when the fact that they name is made true."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from dashboards.alerts import DAY, RULES, Rule
from dashboards.macros import Range, expand
from dashboards.run import ask
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from tests.dashboards.world import CHARGE_COLUMNS, tables

NOW = datetime.now(UTC)
WEEKS_AGO = NOW - timedelta(days=9)
BY_UID = {rule.uid: rule for rule in RULES}


@pytest.fixture
def fresh(local_parts: Settings) -> Iterator[Any]:
    """Books with one closed period that is right, a letter of yesterday and an invoice under way."""
    migrate(local_parts.clickhouse(), "boards_alerts")
    with connect(local_parts.clickhouse(), "boards_alerts") as client:
        for table in tables(client, "boards_alerts"):
            client.command(f"TRUNCATE TABLE {table}")
        client.insert("charges", [charge_of("5")], column_names=[*CHARGE_COLUMNS, "slice_amounts"])
        client.insert("period_closes", [close("5")], column_names=CLOSE)
        client.insert("rejected", [letter(NOW - timedelta(days=1), "not_json")], column_names=LETTER)
        client.insert("billing_invoices", [invoice("inflight", NOW)], column_names=INVOICE)
        client.insert("billing_invoices", [paid(NOW)], column_names=[*INVOICE, "payment", "payment_told"])
        client.insert("billing_reconcile", [finding("lagging")], column_names=FINDING)
        yield client


CLOSE = "customer period currency rows errors amount version".split()
LETTER = "k_topic k_partition k_offset k_index appended reason version".split()
INVOICE = "invoice customer period currency state rated changed version".split()
FINDING = "customer kind subject period verdict wanted held version".split()
PRICED = "customer period meter hour quantity reason version".split()


def charge_of(amount: str, slices: str = "5") -> list[Any]:
    hour = NOW.replace(minute=0, second=0, microsecond=0)
    fixed = ["a", "2026-01", "p", hour, "m", "USD", Decimal(amount), "card", "v1", 1, "usage", 1]
    return [*fixed, [Decimal(slices)]]


def close(amount: str) -> list[Any]:
    return ["a", "2026-01", "USD", 1, 0, Decimal(amount), 1]


def letter(appended: datetime, reason: str, offset: int = 1) -> list[Any]:
    return ["usage.events", 0, offset, -1, appended, reason, 1]


def invoice(state: str, changed: datetime) -> list[Any]:
    return ["i1", "a", "2026-01", "USD", state, Decimal(5), changed, 2]


def paid(told: datetime) -> list[Any]:
    return ["i2", "a", "2026-01", "USD", "finalized", Decimal(5), told, 2, "paid", told]


def finding(verdict: str) -> list[Any]:
    return ["a", "hour", "m@1", "2026-01", verdict, Decimal(1), Decimal(0), 2]


def value(client: Any, rule: Rule) -> int:
    """What Grafana's two expressions make of the query: the last row's number."""
    now = int(datetime.now(UTC).timestamp() * 1_000) + 3_600_000
    found = ask(client, expand(rule.sql, Range(now - rule.seconds * 1_000, now), {}))
    assert found.columns == ["time", "value"]
    return int(found.rows[-1][1])


BROKEN: dict[str, tuple[str, list[Any], list[str]]] = {
    "metering-close-differs": ("period_closes", [*close("6")[:-1], 2], CLOSE),
    "metering-charge-unexplained": (
        "charges", [*charge_of("5", "4")[:-2], 2, [Decimal(4)]], [*CHARGE_COLUMNS, "slice_amounts"],
    ),
    "metering-usage-unpriced": (
        "rating_errors", ["a", "2026-01", "m", NOW.replace(minute=0, second=0, microsecond=0), Decimal(1), "x", 1], PRICED,
    ),
    "metering-letters-old": ("rejected", letter(WEEKS_AGO, "not_json", 2), LETTER),
    "metering-billing-drift": ("billing_reconcile", [*finding("missing")[:-1], 3], FINDING),
    "metering-invoices-waiting": ("billing_invoices", [*invoice("inflight", WEEKS_AGO)[:-1], 3], INVOICE),
    "metering-payments-failed": (
        "billing_invoices", ["i2", "a", "2026-01", "USD", "finalized", Decimal(5), NOW, 3, "failed", NOW],
        [*INVOICE, "payment", "payment_told"],
    ),
    "metering-rows-refused": ("rejected", letter(NOW, "sink_refused", 3), LETTER),
}  # fmt: skip


def test_every_alert_is_tried() -> None:
    assert set(BROKEN) == set(BY_UID)
    assert all(rule.seconds >= 7 * DAY for rule in RULES)


@pytest.mark.parts
@pytest.mark.parametrize("uid", BROKEN)
def test_an_alert_is_silent_and_then_fires(fresh: Any, uid: str) -> None:
    rule = BY_UID[uid]
    assert value(fresh, rule) <= rule.limit
    table, row, columns = BROKEN[uid]
    fresh.insert(table, [row], column_names=columns)
    assert value(fresh, rule) > rule.limit


@pytest.mark.parts
@pytest.mark.parametrize("rule", RULES, ids=[rule.uid for rule in RULES])
def test_an_empty_database_alerts_nobody(empty: Any, rule: Rule) -> None:
    assert value(empty, rule) <= rule.limit
