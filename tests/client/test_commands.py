"""Grants and limits from the command line: in force within a moment, on record for good."""

import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from metering.cli import app
from metering.demo.pipeline import environment
from metering.errors import UserError
from metering.settings import Settings
from metering.sinks.client import connect
from tests.client.test_client import LIMITED
from tests.demo.world import running, send
from tests.state.folding import event

pytestmark = [pytest.mark.parts, pytest.mark.timeout(240)]
NOW = time.time_ns() // 1_000_000


def run(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def standing(customer: str) -> dict[str, Any]:
    found = json.loads(run("quota", "show", customer, "--json"))
    return {one["limit"]: one for one in found}


def is_now(field: str, value: str) -> bool:
    return bool(standing("a").get("l", {}).get(field) == value)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not what():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.2)


def facts(settings: Settings) -> list[tuple[Any, ...]]:
    with connect(settings.clickhouse(), settings.database) as client:
        sql = "SELECT kind, scope, limit_id, amount, is_withdrawn, actor, reason FROM quota_facts_current"
        return list(client.query(f"{sql} ORDER BY k_offset").result_rows)


def happened(settings: Settings) -> set[str]:
    with connect(settings.clickhouse(), settings.database) as client:
        return {row[0] for row in client.query("SELECT event FROM quota_events_current").result_rows}


def test_what_people_set_is_in_force_and_on_record(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(deployment).items():
        monkeypatch.setenv(name, value)
    with running(deployment, LIMITED):
        send(deployment, event(1, time=NOW, n=900))
        until(lambda: is_now("posted", "900"))
        assert standing("a")["l"]["state"] == "warn"
        run("grant", "add", "a", "l", "50.5", "--reason", "launch", "--actor", "ops", "--id", "g")
        until(lambda: is_now("amount", "1050.5"))
        assert [g["id"] for g in json.loads(run("grant", "list", "--json"))] == ["g"]
        run("limit", "set", "a", "l", "700", "--reason", "fraud", "--actor", "ops")
        until(lambda: is_now("state", "blocked"))
        run("limit", "set", "a", "l", "2000", "--reason", "sorry", "--actor", "ops")
        until(lambda: is_now("state", "ok"))
        run("limit", "set", "a", "l", "-1", "--reason", "trial", "--actor", "ops")
        until(lambda: not standing("a"))
        run("grant", "revoke", "a", "l", "g", "--reason", "mistake", "--actor", "ops")
        run("limit", "set", "a", "l", "catalog", "--reason", "cleared", "--actor", "ops")
        until(lambda: is_now("amount", "1000"))
        assert json.loads(run("quota", "top", "a", "--json"))[0]["limit"] == "l"
        assert "warn" in run("quota", "watch", "a", "--seconds", "0.1")
        until(lambda: len(facts(deployment)) == 6)
        wanted = {"threshold", "grant_added", "grant_revoked", "limit_changed", "blocked", "unblocked"}
        until(lambda: wanted <= happened(deployment))
    assert facts(deployment) == [
        ("grant", "a", "l", Decimal("50.5"), False, "ops", "launch"),
        ("limit", "a", "l", Decimal(700), False, "ops", "fraud"),
        ("limit", "a", "l", Decimal(2000), False, "ops", "sorry"),
        ("limit", "a", "l", None, False, "ops", "trial"),
        ("grant", "a", "l", Decimal(0), True, "ops", "mistake"),
        ("limit", "a", "l", None, True, "ops", "cleared"),
    ]
    refused(deployment)


def refused(_: Settings) -> None:
    for words, said in (
        (("grant", "add", "a", "nope", "5", "--reason", "x"), "has no limit `nope`"),
        (("grant", "add", "a", "l", "-5", "--reason", "x"), "below zero"),
        (("grant", "add", "a", "l", "5", "--reason", " "), "needs a reason"),
        (("limit", "set", "a", "l", "many", "--reason", "x"), "is no amount"),
        (("quota", "show", "nobody"), "no customer `nobody`"),
    ):
        with pytest.raises(UserError, match=said):
            run(*words)
