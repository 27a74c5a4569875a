"""The archive in columns says what single rows say, for whatever is sent and however it is fetched."""

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.records import HourlyTotal, version
from metering.settings import Settings
from metering.sinks.archive import archived
from metering.sinks.blocks import Block
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.sinks.rows import COLUMNS, TableRow, of_record
from metering.sinks.writer import Origin, Stretch, Writer
from metering.state.fold import Chunk
from tests.sinks.naive import archive_rows
from tests.state.folding import START, event, tick
from tests.state.test_row_batch import Mixture

TOPIC = "usage.events"
TEXTS = [
    "plain",
    'a "quoted" one',
    "back\\slash",
    "line\nbreak",
    "tab\t",
    "\u00fcber",
    "\U0001f600",
    "\x7f",
    "",
]
NUMBERS = [0, -1, 2**63, 2**70, 10**40, 0.1, 1e300, 1.5e-9, True, None]
leaves = st.sampled_from([*TEXTS, *NUMBERS]) | st.text() | st.integers() | st.decimals(allow_nan=False)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))


@st.composite
def sent(draw: st.DrawFn) -> list[bytes | None]:
    """What applications send: single events and envelopes of any data, and what nobody can read."""
    chance = draw(st.integers(0, 2**32))
    found: list[bytes | None] = [value for batch, _, _ in Mixture(chance).batches() for value in batch]
    for number, data in enumerate(draw(st.lists(st.dictionaries(st.text(), values), max_size=4))):
        body = {"id": f"d{number}", "customer": "a", "type": "use", "time": START, "data": data}
        found.append(json.dumps([body, body] if draw(st.booleans()) else body, default=str).encode())
    return [*found, *found[:2]]


@st.composite
def logs(draw: st.DrawFn) -> list[Chunk]:
    """A stretch of the log in some chunks, with holes."""
    found, offset, chunks = draw(sent()), draw(st.integers(0, 99)), []
    cuts = sorted({0, len(found), *draw(st.lists(st.integers(0, len(found)), max_size=3))})
    for first, stop in pairwise(cuts):
        offsets = [offset + 3 * number for number in range(stop - first)]
        following = offset + 3 * (stop - first)
        chunks.append(Chunk(offset, following, offsets, found[first:stop], START + offset))
        offset = following
    return chunks


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of the archive as ClickHouse gets it: times are ticks, text is UTF-8."""
    ticks = {2: int(row[2].timestamp() * 1_000), 5: row[5].encode(), 10: int(row[10].timestamp() * 1_000)}
    return tuple(ticks.get(place, value) for place, value in enumerate(row))


@given(logs())
def test_columns_say_what_single_rows_say(chunks: list[Chunk]) -> None:
    block = archived(chunks, TOPIC, 3)
    assert list(block) == [plain(row) for _, row in archive_rows(chunks, TOPIC, 3)]


@given(logs())
def test_a_column_holds_one_kind_of_value(chunks: list[Chunk]) -> None:
    """The client chooses how it encodes a column by its first value."""
    for name, column in zip(COLUMNS["events"], archived(chunks, TOPIC, 3).columns, strict=True):
        assert {type(value) for value in column} <= ({bytes} if name == "data" else {str, int})
        assert len({type(value) for value in column}) <= 1


@pytest.fixture
def client(deployment: Settings) -> Iterator[Any]:
    migrate(deployment.clickhouse(), deployment.database)
    with connect(deployment.clickhouse(), deployment.database) as opened:
        yield opened


def write(settings: Settings, *stretches: tuple[Origin, list[TableRow | Block]]) -> None:
    async def work() -> None:
        writer = Writer(settings.clickhouse(), settings.database)
        try:
            for origin, rows in stretches:
                await asyncio.wait_for(writer.write(rows, origin), 30)
        finally:
            await writer.close()

    asyncio.run(work())


def test_the_engine_holds_the_same_rows_by_either_way(client: Any, deployment: Settings) -> None:
    data = {text: [number, {text: None}] for text, number in zip(TEXTS, NUMBERS, strict=False)}
    body = json.loads(event(1)) | {"data": data}
    found = [
        json.dumps(body).encode(),
        json.dumps([body, body, 7]).encode(),
        tick(),
        b"noise",
        event(2),
        event(2),
    ]
    found += [json.dumps(body | {"time": 253_402_300_799_999, "backfill": "b1"}).encode()]
    chunk = Chunk(5, 90, range(10, 10 + len(found)), found, START)
    write(deployment, (Origin(TOPIC, 3, 5, 89), [archived([chunk], TOPIC, 3)]))
    ask = "SELECT *, toUnixTimestamp64Milli(time) FROM events ORDER BY ALL"
    columns = client.query(ask).result_rows
    client.command("TRUNCATE TABLE events")
    client.insert(
        "events", [row for _, row in archive_rows([chunk], TOPIC, 3)], column_names=COLUMNS["events"]
    )
    assert columns == client.query(ask).result_rows
    assert len(columns) == 6


def test_a_fetch_over_many_months_is_stored(client: Any, deployment: Settings) -> None:
    """ClickHouse refuses an insert of more than 100 partitions of a table, unless it is told not to."""
    found = [event(n, time=START + n * 32 * 86_400_000) for n in range(150)]
    chunk = Chunk(0, 150, range(150), found, START)
    write(deployment, (Origin(TOPIC, 0, 0, 149), [archived([chunk], TOPIC, 0)]))
    assert client.query("SELECT count(), uniqExact(toYYYYMM(time)) FROM events").result_rows == [(150, 150)]


def test_a_poison_row_among_several_partitions_keeps_its_own_origin(
    client: Any, deployment: Settings
) -> None:
    def total(quantity: str, meter: str) -> TableRow:
        row = of_record(HourlyTotal("a", meter, START // 1_000, quantity, 1, str(version(1, 1))))
        assert row is not None
        return row

    async def work() -> None:
        writer = Writer(deployment.clickhouse(), deployment.database)
        good = [[total("1", f"m{partition}-{n}") for n in range(3)] for partition in range(4)]
        good[2].insert(1, total("0.0000001", "cut"))
        origins = [Origin("usage.hourly", p, 10 * p, 10 * p + 9) for p in range(4)]
        await writer.store(map(Stretch, origins, good))
        await writer.store(map(Stretch, origins, good))  # a replay
        await writer.close()

    asyncio.run(work())
    assert client.query("SELECT count() FROM hourly").result_rows == [(12,)]
    sql = "SELECT k_topic, k_partition, k_offset, k_index, reason, event_type FROM rejected"
    assert client.query(sql).result_rows == [("usage.hourly", 2, 20, -2, "sink_refused", "hourly")]
