"""Dead letters that come back, through the whole pipeline: seen, mended, sent again, counted once."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from metering.cli import app
from metering.console import console, literal
from metering.errors import UserError
from metering.rejected import parse_place
from metering.settings import Settings
from metering.settings import settings as settings_of_process
from metering.sinks.client import connect
from metering.sinks.queries import Books
from tests.demo.world import put_in_force, running, send, wait_for
from tests.state.folding import HOUR, START, event

PERIOD = "2023-11"
CATALOG = """
meters:
  - {id: calls, event_type: use, aggregation: count}
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2023-01-01T00:00:00Z
        prices:
          - {id: calls, meter: calls, model: unit, unit_price: "0.5"}
plans: [{id: plan, name: Plan, rate_card: card}]
customers:
  - {id: a, name: A, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}
  - {id: p1, name: P1, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z, pool: "both"}
"""
METER = "  - {{id: {0}, event_type: {0}, aggregation: count}}\n"
PRICE = '          - {{id: {0}, meter: {0}, model: unit, unit_price: "0.25"}}\n'


def with_meters(*names: str) -> str:
    """The catalog with a meter and a price for each of these event types."""
    meters = "".join(METER.format(name) for name in names)
    prices = "".join(PRICE.format(name) for name in names)
    return CATALOG.replace("rate_cards:", meters + "rate_cards:").replace("plans:", prices + "plans:")


@pytest.fixture(scope="module")
def pipeline(local_parts: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    own = local_parts.model_copy(
        update={
            "home": tmp_path_factory.mktemp("rejected"),
            "kafka_brokers": local_parts.brokers(),
            "clickhouse_url": local_parts.clickhouse(),
            "database": "rejected_letters",
            "topic_prefix": "rejected-letters.",
            "checkpoint_seconds": 0.2,
            "sink_batch_seconds": 0.2,
            "tick_idle_seconds": 86_400.0,
        }
    )
    with connect(own.clickhouse(), "default") as client:
        client.command("DROP DATABASE IF EXISTS rejected_letters")
    with running(own, CATALOG):
        yield own


@pytest.fixture
def metering(pipeline: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    for name, value in {
        "KAFKA_BROKERS": pipeline.brokers(),
        "CLICKHOUSE_URL": pipeline.clickhouse(),
        "METERING_DATABASE": pipeline.database,
        "METERING_TOPIC_PREFIX": pipeline.topic_prefix,
        "METERING_HOME": str(pipeline.home),
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    settings_of_process.cache_clear()

    def call(*words: str) -> Any:
        result = CliRunner().invoke(app, ["rejected", *words])
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exception is None, result.output
        return json.loads(result.output) if "--json" in words else result.output

    yield call
    settings_of_process.cache_clear()


def counted(meter: str, times: int) -> Callable[[Books], bool]:
    return lambda books: books.metered(PERIOD).get(meter) == times


def has_letters(customer_or_type: str, number: int) -> Callable[[Books], bool]:
    def look(books: Books) -> bool:
        rows = books._rows(
            "SELECT count() FROM rejected_current WHERE event_type = {x:String} OR customer = {x:String}",
            x=customer_or_type,
        )
        return bool(rows[0][0] == number)

    return look


def of_type(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [x for x in found["letters"] if x["event_type"] == kind]


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_events_of_an_unknown_type_are_driven_again_once_their_meter_exists(
    pipeline: Settings, metering: Callable[..., Any]
) -> None:
    same = event(1, type="late-meter")
    send(pipeline, same, event(2, type="late-meter"), event(3, type="nothing"))
    wait_for(has_letters("late-meter", 2), pipeline)
    wait_for(has_letters("nothing", 1), pipeline)
    before = metering("retry", "--reason", "unknown_type", "--json")
    assert {x["retry"]["reason"] for x in before["letters"]} == {"unknown_type"}
    assert "would be refused again" in metering("retry", "--reason", "unknown_type")

    put_in_force(pipeline, with_meters("late-meter"))
    shown = metering("retry", "--reason", "unknown_type")
    assert "nothing was sent: --yes sends 2 of them; 1 stay as they are" in shown
    done = metering("retry", "--reason", "unknown_type", "--yes", "--actor", "otto", "--json")
    assert (done["sent"], len(of_type(done, "late-meter"))) == (2, 2)
    wait_for(counted("late-meter", 2), pipeline)

    send(pipeline, same)  # and the producer tries again too
    again = metering("retry", "--reason", "unknown_type", "--yes", "--json")
    assert again["sent"] == 0
    listed = metering("list", "--reason", "unknown_type", "--customer", "a", "--json")
    states = {x["event_type"]: x["state"] for x in listed["letters"]}
    assert states == {"late-meter": "retried", "nothing": "open"}
    send(pipeline, event(4))
    wait_for(lambda books: counted("calls", 1)(books) and books.counters().duplicates == 1, pipeline)
    with connect(pipeline.clickhouse(), pipeline.database) as client:
        assert counted("late-meter", 2)(Books(client))
        assert Books(client).rating_errors(PERIOD) == 0


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_what_is_refused_again_is_a_new_letter_and_the_old_one_is_done_with(
    pipeline: Settings, metering: Callable[..., Any]
) -> None:
    send(pipeline, event(10, type="never"))
    wait_for(has_letters("never", 1), pipeline)
    (first,) = of_type(metering("list", "--state", "open", "--json"), "never")
    refused = metering("retry", first["letter"], "--yes", "--json")
    assert refused["sent"] == 0
    assert metering("retry", first["letter"], "--yes", "--anyway", "--json")["sent"] == 1
    wait_for(has_letters("never", 2), pipeline)
    second, known = of_type(metering("list", "--json"), "never")
    assert (second["state"], known["state"]) == ("open", "retried")
    shown = metering("show", known["letter"], "--json")
    assert [a["action"] for a in shown["actions"]] == ["retried"]
    assert shown["actions"][0]["sent_offset"] == second["offset"]
    with pytest.raises(UserError, match="is done with"):
        metering("retry", known["letter"])


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_an_event_of_an_envelope_comes_back_alone_with_the_key_of_its_pool(
    pipeline: Settings, metering: Callable[..., Any]
) -> None:
    inside = [event(20, "p1", type="pooled"), event(21, "p1", type="pooled")]
    send(pipeline, b"[" + b",".join(inside) + b"]", key=b"p1")  # the pool's id should be the key
    wait_for(has_letters("pooled", 2), pipeline)
    put_in_force(pipeline, with_meters("late-meter", "pooled"))
    letters = of_type(metering("list", "--customer", "p1", "--json"), "pooled")
    assert sorted(x["index"] for x in letters) == [0, 1]
    record = letters[0]["letter"].rpartition(":")[0]
    with pytest.raises(UserError, match="holds 2 dead letters"):
        metering("show", record)
    one = next(x["letter"] for x in letters if x["index"] == 1)
    assert metering("retry", one, "--yes", "--json")["sent"] == 1
    wait_for(counted("pooled", 1), pipeline)
    assert json.loads(metering("show", one, "--json")["payload"])["id"] == "e21"


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_a_correction_comes_back_when_its_original_counts(
    pipeline: Settings, metering: Callable[..., Any]
) -> None:
    original = event(25, type="fixed")
    data = {"event": json.loads(original), "actor": "anna", "reason": "a load test"}
    send(pipeline, original, event(26, type="metering.void", data=data))
    wait_for(lambda books: books.rejected_by_reason().get("unknown_event") == 1, pipeline)
    put_in_force(pipeline, with_meters("late-meter", "pooled", "fixed"))
    (early,) = metering("retry", "--reason", "unknown_event", "--json")["letters"]
    assert early["retry"]["reason"] == "unknown_event"
    (letter,) = of_type(metering("list", "--state", "open", "--json"), "fixed")
    assert metering("retry", letter["letter"], "--yes", "--json")["sent"] == 1
    wait_for(counted("fixed", 1), pipeline)
    (now,) = metering("retry", "--reason", "unknown_event", "--yes", "--json")["letters"]
    assert (now["retry"]["outcome"], now["sent"]) == ("counts", True)
    wait_for(counted("fixed", 0), pipeline)


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_a_letter_whose_event_counts_by_now_can_only_be_a_duplicate(
    pipeline: Settings, metering: Callable[..., Any]
) -> None:
    send(pipeline, event(30), key=b"c")  # another partition than customer `a` has
    send(pipeline, event(31), key=b"c")
    reason = ("--reason", "wrong_partition", "--json")
    wait_for(lambda books: books.rejected_by_reason().get("wrong_partition") == 2, pipeline)
    with connect(pipeline.clickhouse(), pipeline.database) as client:
        calls = Books(client).metered(PERIOD).get("calls", 0)
    send(pipeline, event(30), event(31, hour=1))  # one as it was, one with another time
    wait_for(counted("calls", calls + 2), pipeline)
    made = {x["event_id"]: x["retry"] for x in metering("retry", *reason)["letters"]}
    assert (made["e30"]["outcome"], made["e31"]["reason"]) == ("duplicate", "conflict")
    assert metering("retry", *reason, "--yes", "--anyway")["sent"] == 1
    send(pipeline, event(32))
    wait_for(counted("calls", calls + 3), pipeline)


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_a_discard_is_on_record_with_who_and_why(pipeline: Settings, metering: Callable[..., Any]) -> None:
    send(pipeline, event(40, "[/red]", type="spam"), b'{"id": "\xff"}', event(41, type="spam"))
    wait_for(has_letters("spam", 2), pipeline)
    wait_for(lambda books: books.rejected_by_reason().get("not_utf8") == 1, pipeline)
    with pytest.raises(UserError, match="which letters"):
        metering("discard", "--yes", "--reason", "unknown_customer")
    with pytest.raises(UserError, match="is a code"):
        metering("discard", "--customer", "a", "--yes", "--reason", "unknown_customer")
    with pytest.raises(UserError, match="needs a reason"):
        metering("discard", "--code", "unknown_customer", "--yes")
    assert "--yes discards 1" in metering("discard", "--code", "unknown_customer")
    words = ("--code", "unknown_customer", "--yes", "--reason", "a test of ours", "--actor", "anna")
    assert "1 discarded" in metering("discard", *words)
    (letter,) = metering("list", "--reason", "unknown_customer", "--json")["letters"]
    assert letter["state"] == "discarded"
    said = metering("show", letter["letter"])
    assert "discarded" in said
    assert "by anna: a test of ours" in said
    assert "[/red]" in said  # a customer's name is text, not markup
    assert metering("list", "--reason", "unknown_customer", "--state", "open", "--json")["letters"] == []
    (again,) = metering("retry", letter["letter"], "--json")["letters"]  # named, it can still come back
    assert (again["state"], again["retry"]["reason"]) == ("discarded", "unknown_customer")


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_bytes_that_are_no_event_are_shown_and_never_sent(
    pipeline: Settings, metering: Callable[..., Any]
) -> None:
    send(pipeline, b'{"id": "\xfe\x00"}', b'{"id": 1.50}')
    wait_for(lambda books: books.rejected_by_reason().get("wrong_type") == 1, pipeline)
    letters = metering("list", "--json")["letters"]
    wrong = next(x["letter"] for x in letters if x["reason"] == "wrong_type")
    bytes_ = next(x["letter"] for x in letters if x["reason"] == "not_utf8")
    assert "1.50" in metering("show", wrong)
    assert metering("show", bytes_, "--json")["payload"] is None
    assert metering("retry", wrong, bytes_, "--yes", "--anyway", "--json")["sent"] == 0


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_what_can_never_count_is_said(pipeline: Settings, metering: Callable[..., Any]) -> None:
    row = "SELECT 'usage.charges', 0, 1, -2, now64(3), 'sink_refused', 'd', '', '', 'charges', 'x', 1"
    with connect(pipeline.clickhouse(), pipeline.database) as client:
        client.command(f"INSERT INTO rejected {row}")
    (made,) = metering("retry", "usage.charges/0:1:-2", "--anyway", "--json")["letters"]
    assert "not an event" in made["retry"]["detail"]
    future = START * 10 + 5 * HOUR
    send(pipeline, event(50, time=future))
    wait_for(lambda books: books.rejected_by_reason().get("in_the_future") == 1, pipeline)
    (made,) = metering("retry", "--reason", "in_the_future", "--json")["letters"]
    assert made["retry"]["reason"] == "in_the_future"


@pytest.mark.parts
def test_mistakes_are_named(metering: Callable[..., Any]) -> None:
    for words, message in (
        (("show", "x"), "does not name a dead letter"),
        (("show", "0:999999"), "there is no dead letter"),
        (("list", "--since", "yesterday"), "is not an instant"),
        (("list", "--state", "lost"), "is not a state"),
        (("retry", "0:1", "--reason", "x"), "not both"),
    ):
        with pytest.raises(UserError, match=message):
            metering(*words)
    assert "no dead letters" in metering("list", "--until", "2020-01-01")
    assert "these are open" in metering("retry", "--since", "0m")


def test_a_place_is_read_as_it_is_written() -> None:
    for text in ("2:1234", "2:1234:0", "usage.charges/0:1:-2"):
        assert parse_place(text, "usage.events").named("usage.events").removesuffix(":-3") == text


def test_a_place_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.print("2:1234:0")  # `:1234:` is an emoji to some
    console.print(literal("[/x]\x1b[2J"))
    assert capsys.readouterr().out == "2:1234:0\n[/x]\\x1b[2J\n"
