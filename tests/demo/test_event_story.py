"""The story of one event, from its copies in Kafka to the invoice line, on the real parts."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from billing_sync.run import run_once
from metering.cli import app
from metering.errors import UserError
from metering.settings import Settings
from metering.settings import settings as settings_of_process
from metering.sinks.client import connect
from tests.demo.world import running, send, wait_for

NOW = datetime.now(UTC)
THIS_MONTH = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
LAST = THIS_MONTH - timedelta(hours=2)  # the last but one hour of a month that is closed by now
OPEN = max(THIS_MONTH, NOW - timedelta(minutes=5))
CATALOG = """
meters:
  - {id: tokens, event_type: use, aggregation: sum, value: n, dimensions: [kind], unit: token, scale: 2}
  - {id: calls, event_type: use, aggregation: count, filters: {kind: [x, y]}}
  - {id: ignored, event_type: filtered, aggregation: count, filters: {kind: [nobody]}}
  - {id: lost, event_type: lost, aggregation: count, dimensions: [kind]}
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2023-01-01T00:00:00Z
        not_charged: [calls, ignored]
        prices:
          - id: tokens
            meter: tokens
            model: volume
            tiers: [{up_to: 1000, unit_price: "0.10"}, {unit_price: "0.08"}]
          - id: lost
            meter: lost
            model: unit
            matrix: {dimensions: [kind], unrated: error, cells: [{when: {kind: z}, unit_price: "1"}]}
plans: [{id: plan, name: Plan, rate_card: card}]
customers:
  - {id: a, name: A, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}
  - {id: b, name: B, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}
"""


def event(name: str, at: datetime, customer: str = "a", **changes: Any) -> bytes:
    body = {"id": name, "customer": customer, "type": "use", "time": int(at.timestamp() * 1_000)}
    return json.dumps({**body, "data": {"n": "100.5", "kind": "x"}, **changes}).encode()


@pytest.fixture(scope="module")
def books(local_parts: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    own = local_parts.model_copy(
        update={
            "home": tmp_path_factory.mktemp("story"),
            "kafka_brokers": local_parts.brokers(),
            "clickhouse_url": local_parts.clickhouse(),
            "database": "event_story",
            "topic_prefix": "event-story.",
            "checkpoint_seconds": 0.2,
            "sink_batch_seconds": 0.2,
            "tick_idle_seconds": 1.0,
            "close_grace_hours": 0,
        }
    )
    with connect(own.clickhouse(), "default") as client:
        client.command("DROP DATABASE IF EXISTS event_story")
    with running(own, CATALOG):
        _happen(own)
        yield own


def _happen(own: Settings) -> None:
    """A month that is closed and invoiced, late usage of it, and what an open month holds."""
    send(own, event("e1", LAST), event("e1", LAST), event("e2", LAST))
    wait_for(lambda found: any(c.agrees for c in found.closes(f"{LAST:%Y-%m}")), own)
    assert run_once(own).is_settled
    send(own, event("late", LAST), event("now", OPEN), event("out", OPEN, type="filtered"))
    send(own, event("lost", OPEN, "b", type="lost"), event("bad", OPEN, data={"n": -1, "kind": "x"}))
    send(own, event("same", OPEN), event("same", OPEN, source="gateway"), event("same", OPEN, "b"))
    send(own, event("odd", OPEN, data=[]))
    _correct(own)
    wait_for(lambda found: found.counters().read == 16, own)
    wait_for(lambda found: sum(found.rejected_by_reason().values()) == 2, own)
    wait_for(lambda found: found.archived()[0] == 15, own)
    wait_for(lambda found: found.rating_errors(f"{OPEN:%Y-%m}") == 1, own)
    wait_for(lambda found: found.charge_rows(f"{OPEN:%Y-%m}") >= 3, own)


def _correct(own: Settings) -> None:
    originals = [json.loads(event(name, OPEN)) for name in ("gone", "less")]
    send(own, *(json.dumps(original).encode() for original in originals))
    for number, original in enumerate(originals):
        data = {"event": original, "actor": "anna", "reason": "a load test"}
        instead = {"instead": {"n": "50.25", "kind": "x"}} if number else {}
        kind = "metering.amend" if number else "metering.void"
        send(own, event(f"fix-{number}", OPEN, type=kind, data={**data, **instead}))


@pytest.fixture
def story(books: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    for name, value in {
        "KAFKA_BROKERS": books.brokers(),
        "CLICKHOUSE_URL": books.clickhouse(),
        "METERING_DATABASE": books.database,
        "METERING_TOPIC_PREFIX": books.topic_prefix,
        "METERING_HOME": str(books.home),
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    settings_of_process.cache_clear()

    def call(*words: str) -> Any:
        result = CliRunner().invoke(app, ["events", "show", *words])
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exception is None, result.output
        return json.loads(result.output) if "--json" in words else result.output

    yield call
    settings_of_process.cache_clear()


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_an_event_of_a_closed_month_is_told_to_its_invoice_line(story: Callable[..., Any]) -> None:
    told = story("e1", "--json")
    assert [c["outcome"] for c in told["copies"]] == ["accepted", "duplicate"]
    assert [c["offset"] for c in told["copies"]] == [0, 1]
    calls, tokens = told["counts"]
    assert (tokens["quantity"], tokens["total"], tokens["events"]) == ("100.500000", "301.500000", 3)
    assert (tokens["dimensions"], tokens["price"]) == ({"kind": "x"}, "tokens")
    assert calls["unpriced"] == "free by the rate card"
    usage, adjustment = told["charges"]
    assert (usage["before"], usage["after"], usage["amount"]) == ("0.000000", "201.000000", "20.100000")
    assert (adjustment["corrects"], adjustment["amount"]) == (f"{LAST:%Y-%m}", "10.050000")
    line, later = told["invoice_lines"]
    assert (line["amount"], line["currency"], line["state"]) == ("20.10", "USD", "finalized")
    assert line["line"] == f"{line['invoice']}:tokens"
    assert (later["state"], later["reason"]) == ("none", "the period is open")
    assert list(told["closed"]) == [f"{LAST:%Y-%m}"]


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_the_story_can_be_read(story: Callable[..., Any]) -> None:
    said = story("e1")
    for words in (
        "event e1, customer a, source -",
        f"billing period {LAST:%Y-%m}, closed by the watermark",
        "0 → 201",
        f"(corrects {LAST:%Y-%m})",
        f"tokens {LAST:%Y-%m}: 201 tokens: 20.10 USD",
    ):
        assert words in said


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_late_usage_is_in_the_adjustment(story: Callable[..., Any]) -> None:
    told = story("late", "--json")
    assert told["outcome"] == "accepted"
    assert told["charges"][-1]["corrects"] == told["period"] == f"{LAST:%Y-%m}"


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_an_open_month_has_no_invoice_yet(story: Callable[..., Any]) -> None:
    told = story("now", "--json")
    assert [line["reason"] for line in told["invoice_lines"]] == ["the period is open"]
    assert told["closed"] == {}


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_a_refused_event_says_why_and_what_next(story: Callable[..., Any]) -> None:
    said = story("bad")
    assert "refused: negative_value: `data.n` is negative; usage cannot be. (open)" in said
    assert "metering rejected retry 0:" in said
    told = story("odd", "--json")  # it could not even be read
    assert (told["outcome"], told["time"], told["copies"][0]["reason"]) == ("refused", None, "wrong_type")
    assert "it counts nowhere" in story("odd")


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_what_counts_nowhere_or_has_no_price_is_said(story: Callable[..., Any]) -> None:
    assert "no meter counts it: their filters leave it out" in story("out")
    (count,) = story("lost", "--json")["counts"]
    assert "has no cell for kind x" in count["unpriced"]
    assert "no charge of this hour reads it" in story("lost")


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_a_corrected_event_is_told_as_it_counts_now(story: Callable[..., Any]) -> None:
    assert "it counts nowhere any more: it was voided" in story("gone")
    told = story("less", "--json")
    assert [c["reason"] for c in told["corrections"]] == ["a load test"]
    assert (told["data"]["n"], told["data_that_counts"]["n"]) == ("100.5", "50.25")
    assert told["counts"][-1]["quantity"] == "50.250000"
    assert "accepted: metering.amend" in story("less")
    assert "it is a correction" in story("fix-0")


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_an_id_of_several_events_is_asked_back(story: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="is the id of 3 events") as caught:
        story("same")
    assert "--customer a --source gateway" in caught.value.hint
    assert story("same", "--customer", "b", "--json")["customer"] == "b"
    assert story("same", "--customer", "a", "--source", "gateway", "--json")["source"] == "gateway"
    assert story("same", "--customer", "a", "--source", "-", "--json")["source"] == ""


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_an_unknown_event_is_an_error_with_a_hint(story: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="no event `nothing` is in the books") as caught:
        story("nothing")
    assert "metering status" in caught.value.hint
    with pytest.raises(UserError, match="of this customer and source"):
        story("e1", "--source", "gateway")
