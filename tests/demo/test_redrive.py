"""What a retry would come to, asked of books that were written by hand."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from metering.records import DeadLetter, HourlyTotal, Progress, version
from metering.redrive import Forecast, Forecaster
from metering.rejected import Filter, Letters
from metering.settings import Settings
from metering.sinks.archive import archived
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.sinks.rows import TableRow, of_record
from metering.sinks.writer import Origin, Writer
from metering.state.dead_letters import LETTER_PAYLOAD_BYTES
from metering.state.fold import Chunk
from tests.state.folding import CATALOG, catalog

DAY = 86_400_000
NOW = int(datetime(2026, 11, 21, 10, tzinfo=UTC).timestamp()) * 1_000
TOPIC = "usage.events"
Ask = Callable[..., Forecast]


def event(name: str = "e", at: int = NOW, n: object = 1, **changes: Any) -> bytes:
    body = {"id": name, "customer": "a", "type": "use", "time": at, "data": {"n": n, "kind": "x"}}
    return json.dumps({**body, **changes}).encode()


def letter(payload: bytes, reason: str = "unknown_type", offset: int = 1_000) -> TableRow:
    stamp = str(version(1, offset))
    made = DeadLetter(TOPIC, 0, offset, -1, reason, "then", "a", "e", "use", NOW, payload, stamp)
    row = of_record(made)
    assert row is not None
    return row


def stored(payload: bytes, appended: int, offset: int = 1) -> TableRow:
    (row,) = archived([Chunk(offset, offset + 1, [offset], [payload], appended)], TOPIC, 0)
    return TableRow("events", row)


def total(kind: Any, values: int = 0) -> TableRow:
    held = {f"{n:032x}": "1" for n in range(values)}
    hour = NOW // 3_600_000 * 3_600
    row = of_record(HourlyTotal("a", "tokens", hour, "1", 1, "1", 0, {"kind": "x"}, kind, held))
    assert row is not None
    return row


@pytest.fixture
def ask(deployment: Settings) -> Ask:
    """Forecast the one letter of some rows."""
    own = deployment.model_copy(update={"topic_prefix": "", "close_grace_hours": 24})
    migrate(own.clickhouse(), own.database)
    progress = of_record(Progress("meter", 0, 1, 5_000, NOW, 1, 1, 0, 0, 0, 1, "w", NOW))
    assert progress is not None

    def call(*rows: TableRow, text: str = CATALOG) -> Forecast:
        asyncio.run(write(own, [*rows, progress]))
        with connect(own.clickhouse(), own.database) as client:
            letters = Letters(client, TOPIC)
            found = letters.find(Filter(), 10)
            forecaster = Forecaster(client, own, catalog(text), NOW)
            (forecast,) = [f for batch in letters.payloads(found) for f in forecaster.of(batch)]
        return forecast

    return call


async def write(settings: Settings, rows: list[TableRow]) -> None:
    writer = Writer(settings.clickhouse(), settings.database)
    try:
        await writer.write(rows, Origin("x", 0, 0, 0))
    finally:
        await writer.close()


def test_what_was_mended_would_count(ask: Ask) -> None:
    found = ask(letter(event()))
    assert (found.outcome, found.key, found.payload) == ("counts", b"a", event())


def test_the_key_is_the_pool_of_the_customer(ask: Ask) -> None:
    pooled = CATALOG.replace("id: a, name: A,", "id: a, name: A, pool: club,")
    assert ask(letter(event()), text=pooled).key == b"club"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (event(type="x"), "unknown_type"),
        (event(n="1.001"), "too_many_decimals"),
        (event(at=NOW + DAY), "in_the_future"),
        (event(at=NOW - 100 * DAY), "period_closed"),
        (event(customer="nobody"), "unknown_customer"),
    ],
)
def test_what_would_be_refused_again_is_said_and_sent_only_anyway(
    ask: Ask, payload: bytes, reason: str
) -> None:
    found = ask(letter(payload))
    assert (found.outcome, found.reason) == ("refused", reason)
    assert (found.is_sent(anyway=False), found.is_sent(anyway=True)) == (False, True)


@pytest.mark.parametrize("payload", [b"{", b"\xff", b"x" * LETTER_PAYLOAD_BYTES])
def test_what_cannot_be_read_is_never_sent(ask: Ask, payload: bytes) -> None:
    found = ask(letter(payload, "not_json"))
    assert (found.outcome, found.is_sent(anyway=True)) == ("refused", False)


def test_a_copy_of_what_counts_is_a_duplicate_while_its_id_is_known(ask: Ask) -> None:
    found = ask(letter(event()), stored(event(), NOW - 30 * DAY))
    assert (found.outcome, found.is_sent(anyway=False)) == ("duplicate", True)


def test_a_copy_of_what_counted_too_long_ago_is_never_sent(ask: Ask) -> None:
    found = ask(letter(event()), stored(event(), NOW - 34 * DAY))
    assert (found.reason, found.is_sent(anyway=True)) == ("counted_before", False)


def test_another_text_of_the_same_event_is_no_conflict(ask: Ask) -> None:
    spaced = event(n=1.5).replace(b",", b" , ").replace(b'"n": 1.5 , "kind": "x"', b'"kind":"x","n":"1.5"')
    found = ask(letter(spaced), stored(event(n=1.5), NOW - DAY))
    assert found.outcome == "duplicate"


def test_other_content_under_the_same_id_is_never_sent(ask: Ask) -> None:
    found = ask(letter(event(n=2)), stored(event(n=1), NOW - DAY))
    assert (found.reason, found.is_sent(anyway=True)) == ("conflict", False)


def test_a_refused_copy_in_the_archive_does_not_count(ask: Ask) -> None:
    found = ask(letter(event(), offset=7), stored(event(), NOW - DAY, offset=7))
    assert found.outcome == "counts"


@pytest.mark.parametrize(
    ("reason", "held"), [("meter_changed", total("count")), ("too_many_values", total("unique", 50_000))]
)
def test_a_total_that_cannot_take_it_still_cannot(ask: Ask, reason: str, held: TableRow) -> None:
    unique = CATALOG.replace("aggregation: sum, value: n", "aggregation: unique, value: n")
    unique = unique.replace(", scale: 2", "")
    found = ask(letter(event(), reason), held, text=CATALOG if reason == "meter_changed" else unique)
    assert (found.outcome, found.reason) == ("refused", reason)
