"""The commands that people use on a ledger: tables, JSON, and what is recorded."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from billing_sync.cli import app
from billing_sync.ledger import Action, Ledger
from billing_sync.planner import plan_invoice
from billing_sync.webhooks.inbox import MOST_TRIES, Inbox, inbox_url
from tests.billing_sync.world import closed

WHY = ["--reason", "contract in dispute", "--actor", "ann"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METERING_HOME", str(tmp_path))
    for name in ("STRIPE_API_KEY", "STRIPE_API_KEY_FILE", "STRIPE_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "billing" / "ledger.sqlite3"


@pytest.fixture
def filled(path: Path) -> Path:
    ledger = Ledger(path)
    plan = plan_invoice(closed(), 0)
    ledger.add_plan(plan, 1_700_000_000)
    ledger.set_state(plan.id, "blocked", reason="refused: a foreign line", now=1_700_000_000)
    ledger.park("zeta", "2023-11", "customer_unmapped: nobody knows", 1_700_000_000)
    ledger.close()
    return path


def command(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def rows(*words: str) -> list[dict[str, Any]]:
    return list(json.loads(command(*words, "--json").output))


def actions(path: Path) -> list[Action]:
    ledger = Ledger(path)
    found = ledger.actions()
    ledger.close()
    return found


def test_what_is_dead_is_listed_with_its_age_and_alarms(filled: Path) -> None:
    assert [(r["customer"], r["alarm"]) for r in rows("dead", "list")] == [
        ("acme", "ALARM"),
        ("zeta", "ALARM"),
    ]
    assert command("dead", "list").exit_code == 1


def test_a_blocked_invoice_is_retried_with_actor_and_reason(filled: Path) -> None:
    identity = rows("dead", "list")[0]["id"]
    assert command("dead", "retry", identity, *WHY).exit_code == 0
    assert rows("status")[0]["state"] == "planned"
    ledger = Ledger(filled)
    (action,) = ledger.actions()
    ledger.close()
    assert (action.actor, action.command, action.reason) == ("ann", "dead retry", "contract in dispute")


def test_what_is_dropped_stays_dropped(filled: Path) -> None:
    assert command("dead", "drop", rows("dead", "list")[0]["id"], *WHY).exit_code == 0
    (first, _) = rows("periods", "list")
    assert (first["state"], first["reason"]) == ("dropped", "dropped: contract in dispute")


def test_a_period_is_frozen_and_reopened(path: Path) -> None:
    assert command("periods", "freeze", "acme", "2023-12", *WHY).exit_code == 0
    assert rows("periods", "list")[0]["state"] == "held back"
    assert command("periods", "reopen", "acme", "2023-12", *WHY).exit_code == 0
    assert rows("periods", "list") == []


def test_the_carry_is_shown_and_written_off(filled: Path) -> None:
    assert [r["carried"] for r in rows("carry", "show")] == ["0.004568"]
    assert "written off" in command("carry", "settle", "acme", "--write-off", *WHY).output
    assert rows("carry", "show") == []


def test_customers_are_mapped(filled: Path) -> None:
    assert [r["found by"] for r in rows("customers", "list")] == ["unmapped"]
    assert command("customers", "map", "zeta", "cus_9", *WHY).exit_code == 0
    assert [(r["account"], r["found by"]) for r in rows("customers", "list")] == [("cus_9", "mapped")]


def test_the_doctor_names_what_it_looked_at(path: Path) -> None:
    found = {r["check"]: r["state"] for r in rows("doctor")}
    names = ["provider", "API version", "read customers", "read invoices", "read meters", "clock"]
    names += ["write customers", "write invoices", "write invoice lines"]
    assert found == dict.fromkeys(names, "ok")


def test_the_doctor_finds_a_meter_that_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = path.parent.parent / "billing.yaml"
    file.write_text("meter_events: [{price: input, event_name: input_tokens}]")
    monkeypatch.setenv("METERING_BILLING_FILE", str(file))
    result = command("doctor")
    assert result.exit_code == 1
    assert "no active meter" in " ".join(result.output.split())


def test_tables_are_for_people(filled: Path) -> None:
    assert "a foreign line" in " ".join(command("status").output.split())


def test_a_failed_event_goes_again_with_actor_and_reason(path: Path) -> None:
    inbox = Inbox(inbox_url(f"sqlite:///{path}"))
    inbox.keep("evt_1", "invoice.paid", "{}", 1)
    for _ in range(MOST_TRIES):
        (delivery,) = inbox.due(10**10) or inbox.failed()
        inbox.put_off(delivery, "not known yet", 1)
    assert [r["id"] for r in rows("webhooks", "failed")] == ["evt_1"]
    assert command("webhooks", "retry", "evt_1", *WHY).exit_code == 0
    assert inbox.failed() == []
    inbox.close()
    assert [(a.actor, a.command, a.subject) for a in actions(path)] == [("ann", "webhooks retry", "evt_1")]


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (("periods", "freeze", "acme", "2023-12"), {"customer": "acme", "period": "2023-12"}),
        (("carry", "settle", "acme", "--write-off"), {"customer": "acme", "currency": "USD"}),
        (("customers", "map", "acme", "cus_1"), {"customer": "acme", "account": "cus_1"}),
    ],
)
def test_what_was_done_is_an_object_for_programs(
    filled: Path, words: tuple[str, ...], about: dict[str, str]
) -> None:
    said = json.loads(command(*words, *WHY, "--json").output)
    assert said.pop("done")
    assert said == about
