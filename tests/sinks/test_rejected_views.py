"""Letters and what was done about them, on the real engine: nothing goes away, the state follows."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from metering import rejected
from metering.records import DeadLetter, LetterAction, decode, encode, version
from metering.rejected import Filter, Letters, Place
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.sinks.rows import TableRow, of_record
from metering.sinks.writer import Origin, Writer

TOPIC = "usage.events"
START = 1_698_796_800_000


def letter(offset: int, index: int = -1, reason: str = "unknown_type", payload: bytes = b"{}") -> DeadLetter:
    appended = START + offset * 1_000
    stamp = str(version(1, offset))
    return DeadLetter(TOPIC, 0, offset, index, reason, "d", f"c{offset}", "e", "t", appended, payload, stamp)


def action(offset: int, what: Any, at: int, index: int = -1, sent: int = -1) -> LetterAction:
    stamp = str(version(1, at))
    return LetterAction(TOPIC, 0, offset, index, what, "anna", "why", at, stamp, 0 if sent >= 0 else -1, sent)


RECORDS = [
    *(letter(offset) for offset in range(4)),
    letter(4, 0, "not_a_number", b"\xff\x00"),
    letter(4, 1, "not_a_number"),
    action(1, "discarded", START),
    action(2, "retried", START, sent=9),
    action(3, "discarded", START),
    action(3, "retried", START + 1, sent=10),  # somebody thought better of it
    action(4, "discarded", START, index=1),
]


@pytest.fixture
def client(deployment: Settings) -> Iterator[Any]:
    migrate(deployment.clickhouse(), deployment.database)
    rows = [row for record in RECORDS if (row := of_record(decode(encode(record)))) is not None]
    for number in range(2):  # a second copy of everything changes nothing
        asyncio.run(write(deployment, rows, number))
    with connect(deployment.clickhouse(), deployment.database) as opened:
        yield opened


async def write(settings: Settings, rows: list[TableRow], number: int) -> None:
    writer = Writer(settings.clickhouse(), settings.database)
    try:
        await writer.write(rows, Origin("usage.rejected", 0, number, number))
    finally:
        await writer.close()


def test_the_state_of_a_letter_follows_from_its_actions(client: Any) -> None:
    found = Letters(client, TOPIC).find(Filter(), 100, oldest_first=True)
    states = {x.place.named(TOPIC): x.state for x in found}
    assert states == {
        "0:0": "open",
        "0:1": "discarded",
        "0:2": "retried",
        "0:3": "retried",
        "0:4:0": "open",
        "0:4:1": "discarded",
    }


def test_open_letters_are_those_without_an_action(client: Any) -> None:
    rows = client.query("SELECT k_offset, k_index FROM rejected_open ORDER BY k_offset").result_rows
    assert list(rows) == [(0, -1), (4, 0)]


def test_letters_are_counted_by_reason_and_state(client: Any) -> None:
    assert Letters(client, TOPIC).count(Filter()) == {
        "unknown_type": {"open": 1, "retried": 2, "approved": 0, "discarded": 1},
        "not_a_number": {"open": 1, "retried": 0, "approved": 0, "discarded": 1},
    }


@pytest.mark.parametrize(
    ("wanted", "offsets"),
    [
        (Filter(reason="not_a_number"), [4, 4]),
        (Filter(customer="c2"), [2]),
        (Filter(since=START + 3_000), [3, 4, 4]),
        (Filter(until=START + 1_000), [0]),
        (Filter(since=START + 1_000, until=START + 3_000, states=("retried",)), [2]),
        (Filter(customer="' OR 1 --"), []),
    ],
)
def test_letters_are_filtered(client: Any, wanted: Filter, offsets: list[int]) -> None:
    found = Letters(client, TOPIC).find(wanted, 100, oldest_first=True)
    assert [x.place.offset for x in found] == offsets


def test_open_letters_stand_first_and_the_newest_of_them(client: Any) -> None:
    found = Letters(client, TOPIC).find(Filter(), 3)
    assert [x.place.offset for x in found] == [4, 0, 4]


def test_a_record_names_all_letters_of_its_envelope(client: Any) -> None:
    letters = Letters(client, TOPIC)
    assert [x.place.within for x in letters.named("0:4")] == [0, 1]
    assert [x.place.within for x in letters.named("usage.events/0:4:1")] == [1]


def test_payloads_are_the_original_bytes(client: Any) -> None:
    letters = Letters(client, TOPIC)
    (payloads,) = letters.payloads(letters.named("0:4"))
    assert list(payloads.values()) == [b"\xff\x00", b"{}"]


def test_actions_are_kept_in_order(client: Any) -> None:
    actions = Letters(client, TOPIC).actions(Place(TOPIC, 0, 3))
    assert [(a.action, a.actor, a.reason, a.sent_offset) for a in actions] == [
        ("discarded", "anna", "why", -1),
        ("retried", "anna", "why", 10),
    ]


def test_payloads_come_in_batches_that_memory_holds(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejected, "_BATCH_BYTES", 4)
    letters = Letters(client, TOPIC)
    found = letters.find(Filter(), 100, oldest_first=True)
    batches = list(letters.payloads(found))
    assert [len(batch) for batch in batches] == [2, 2, 2]
    assert [x for batch in batches for x in batch] == found
