"""What people are told comes from the books: each source on the real engine, and the commands."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from billing_sync.export import export_findings
from billing_sync.ledger.store import ledger_url
from billing_sync.reconcile import Finding
from billing_sync.webhooks.inbox import Inbox, inbox_url
from metering.cli import app
from metering.notify.happening import Happening
from metering.notify.sources import happenings
from metering.records import PeriodClose
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from tests.bills.books import STAMP, rows_of, store
from tests.notify.conftest import Hook, Mails

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
SINCE = int(AT.timestamp())


@pytest.fixture
def client(deployment: Settings) -> Iterator[Any]:
    migrate(deployment.clickhouse(), deployment.database)
    with connect(deployment.clickhouse(), deployment.database) as opened:
        yield opened


def quota_event(client: Any, name: str, event: str, at: datetime = AT) -> None:
    row = (
        name,
        event,
        "acme",
        "acme",
        "calls",
        "l",
        "v",
        AT,
        at,
        80,
        Decimal("8.5"),
        Decimal(10),
        "",
        0,
        "",
        "",
        "",
        1,
    )
    client.insert("quota_events", [row])


def kinds(found: list[Happening]) -> list[str]:
    return [one.kind for one in found]


@pytest.mark.parts
def test_quota_events_that_people_care_for_are_told(client: Any, deployment: Settings) -> None:
    for name in ("threshold", "blocked", "unblocked", "overrun", "grant_added"):
        quota_event(client, name, name)
    quota_event(client, "old", "blocked", datetime(2026, 11, 19, tzinfo=UTC))
    found = happenings(client, deployment, SINCE)
    assert sorted(kinds(found)) == ["quota.blocked", "quota.overrun", "quota.threshold", "quota.unblocked"]
    assert found[0].facts["used"] == "8.5"


@pytest.mark.parts
def test_a_replayed_quota_event_has_the_same_id(client: Any, deployment: Settings) -> None:
    quota_event(client, "one", "blocked")
    before = happenings(client, deployment, 0)
    quota_event(client, "one", "blocked")
    assert [one.id for one in happenings(client, deployment, 0)] == [one.id for one in before]


@pytest.mark.parts
def test_drift_is_told_once_until_it_changes(client: Any, deployment: Settings) -> None:
    def found(held: str, verdict: str = "under") -> list[str]:
        finding = Finding("acme", "2026-10", "line", "um_1:a", verdict, Decimal(500), Decimal(held), "why")
        export_findings(client, [finding])
        return [one.id for one in happenings(client, deployment, 0)]

    first = found("400")
    assert len(first) == 1
    assert found("400") == first
    assert found("300") != first
    assert found("500", "ok") == []


@pytest.mark.parts
def test_an_invoice_that_is_stuck_is_told(client: Any, deployment: Settings) -> None:
    for name, state in (
        ("um_1", "blocked"),
        ("um_2", "finalized"),
        ("um_3", "blocked_tax"),
        ("um_4", "planned"),
    ):
        row = (name, "acme", "2026-10", "USD", state, "no address", "", "", 1, 1, 0, 0, AT, 1, "", AT)
        client.insert("billing_invoices", [row])
    found = happenings(client, deployment, 0)
    assert [(one.kind, one.facts["invoice"]) for one in found] == [
        ("billing.sync_failed", "um_1"),
        ("billing.sync_failed", "um_3"),
    ]


def close(customer: str, revision: int = 0) -> PeriodClose:
    figures = (1, 0, "1.000000", "d", 1_793_600_000_000, STAMP, revision)
    return PeriodClose(customer, "2026-10", "USD", *figures)


@pytest.mark.parts
def test_a_month_is_closed_when_the_last_customer_is(client: Any, deployment: Settings) -> None:
    client.command(
        "INSERT INTO charges (customer, period, price, hour, currency, amount, card)"
        " SELECT arrayJoin(['a', 'b']), '2026-10', 'p', toDateTime('2026-10-02 00:00:00'), 'USD', 1, 'c'"
    )
    store(deployment, rows_of([close("a")]))
    assert kinds(happenings(client, deployment, 0)) == []
    store(deployment, rows_of([close("b")]))
    (month,) = happenings(client, deployment, 0)
    assert (month.kind, month.facts) == ("period.month_closed", {"period": "2026-10", "customers": "2"})
    store(deployment, rows_of([close("b", 1)]))
    assert kinds(happenings(client, deployment, 0)) == ["period.month_closed", "period.restated"]
    assert happenings(client, deployment, 0)[0].id == month.id


@pytest.mark.parts
def test_a_failed_payment_is_told_by_the_providers_event(client: Any, deployment: Settings) -> None:
    row = ("um_1", "acme", "2026-10", "USD", "finalized", "", "in_1", "N-7", 1, 1, 0, 0, AT, 1, "open", AT)
    client.insert("billing_invoices", [row])
    inbox = Inbox(inbox_url(ledger_url(deployment)))
    invoice = {"id": "in_1", "number": "N-7", "attempt_count": 2, "metadata": {"um_invoice": "um_1"}}
    inbox.keep("evt_1", "invoice.payment_failed", json.dumps({"data": {"object": invoice}}), SINCE)
    inbox.keep("evt_2", "invoice.paid", "{}", SINCE)
    inbox.close()
    (one,) = happenings(client, deployment, 0)
    assert one.kind == "billing.payment_failed"
    assert one.facts == {"invoice": "N-7", "customer": "acme", "attempt": "2"}


@pytest.mark.parts
def test_a_failed_payment_of_another_program_names_nobody(client: Any, deployment: Settings) -> None:
    inbox = Inbox(inbox_url(ledger_url(deployment)))
    inbox.keep("evt_1", "invoice.payment_failed", json.dumps({"data": {"object": {"id": "in_2"}}}), SINCE)
    inbox.close()
    (one,) = happenings(client, deployment, 0)
    assert one.facts == {"invoice": "in_2", "customer": "", "attempt": ""}


@pytest.fixture
def metering(client: Any, deployment: Settings, config_file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "CLICKHOUSE_URL": deployment.clickhouse(),
        "METERING_DATABASE": deployment.database,
        "METERING_HOME": str(deployment.home),
        "METERING_NOTIFY_FILE": str(config_file),
    }.items():
        monkeypatch.setenv(name, value)
    return lambda *words: CliRunner().invoke(app, ["notify", *words])


@pytest.mark.parts
def test_a_test_reaches_every_target(metering: Any, hook: Hook, mails: Mails) -> None:
    assert metering("test").exit_code == 0
    assert (len(hook.got), len(mails.got)) == (1, 1)
    hook.answers = [500]
    assert metering("test").exit_code == 1


@pytest.mark.parts
def test_a_round_tells_what_is_new_and_a_dead_one_can_be_retried(
    metering: Any, client: Any, hook: Hook
) -> None:
    metering("run", "--once")
    quota_event(client, "one", "blocked", datetime.now(UTC))
    hook.answers = [410]
    assert metering("run", "--once").exit_code == 0
    (dead,) = json.loads(metering("dead", "--json").output)
    assert (dead["target"], dead["reason"]) == ("ops", "it answered 410")
    assert metering("retry", dead["event"]).exit_code == 0
    metering("run", "--once")
    assert json.loads(metering("dead", "--json").output) == []
    assert [json.loads(body)["type"] for _, body in hook.got] == ["quota.blocked"] * 2


@pytest.mark.parts
def test_an_event_that_is_not_dead_is_not_retried(metering: Any) -> None:
    assert "no dead delivery" in str(metering("retry", "evt_0").exception)
