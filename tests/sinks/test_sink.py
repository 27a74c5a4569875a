"""The sink itself: what is stored in which order, what waits for what, and what is never dropped."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import pytest
from faust.types import TP

from metering.records import HourlyTotal, encode, version
from metering.settings import Settings
from metering.sink import Sink
from metering.sinks.blocks import by_table
from metering.sinks.writer import Origin, Stretch, token_of
from metering.state.fold import Chunk
from metering.state.log_bounds import Bounds
from metering.topics import Names
from metering.transport import Batch
from tests.state.folding import START, event

SETTINGS = Settings(kafka_brokers="k:1", clickhouse_url="http://127.0.0.1:9", sink_batch_rows=4)
NAMES = Names(SETTINGS)
EVENTS, HOURLY = TP(NAMES.events, 0), TP(NAMES.hourly, 0)


class Log:
    """Stands where the broker does: where each log begins and ends."""

    first = 0

    async def of(self, *_: Any) -> Bounds:
        return Bounds(self.first, 1_000)


class Group:
    """Stands where Faust's consumer does."""

    def __init__(self) -> None:
        self.told: list[Mapping[TP, int]] = []
        self.sought: list[Mapping[TP, int]] = []

    async def commit_positions(self, offsets: Mapping[TP, int]) -> None:
        self.told.append(offsets)

    async def seek_batches(self, offsets: Mapping[TP, int]) -> None:
        self.sought.append(offsets)


class Books:
    """Stands where the writer does: what it was given, and tables whose inserts hang or fail."""

    is_away = False

    def __init__(self) -> None:
        self.stored: list[tuple[str, int]] = []
        self.hanging: dict[str, asyncio.Event] = {}
        self.failing: set[str] = set()

    async def query(self, *_: Any, **__: Any) -> list[Any]:
        return []

    async def store(self, stretches: Iterable[Stretch]) -> None:
        for _, rows in stretches:
            for table, parts in by_table(rows).items():
                if table in self.hanging:
                    await self.hanging[table].wait()
                if table in self.failing:
                    raise RuntimeError("the books are full")
                self.stored.append((table, sum(map(len, parts))))

    @property
    def tables(self) -> list[str]:
        return [table for table, _ in self.stored]


class Ended(Exception):
    """The process would have ended."""


class Mortal(Sink):
    """A sink whose end is an error."""

    def _die(self, event: str, error: Exception, **_: Any) -> NoReturn:
        raise Ended(event) from error


async def made() -> tuple[Mortal, Books, Group]:
    sink, books, group = Mortal(SETTINGS), Books(), Group()
    sink.writer, sink.bounds, sink.consumer = books, Log(), group  # type: ignore[assignment]
    await sink.load({EVENTS, HOURLY})
    return sink, books, group


def events(first: int, count: int) -> Batch:
    values = [event(first + n) for n in range(count)]
    return Batch(EVENTS, [Chunk(first, first + count, range(first, first + count), values, START)], None)


def total(offset: int) -> Batch:
    record = HourlyTotal("a", "calls", START // 1_000, "1", 1, str(version(1, offset)))
    return Batch(HOURLY, [Chunk(offset, offset + 1, [offset], [encode(record)], START)], None)


async def test_rows_are_stored_before_their_position_and_the_group_hears_last() -> None:
    sink, books, group = await made()
    await sink.take(events(0, 2))
    await sink.take(total(0))
    await sink.flush_all()
    assert books.tables == ["hourly", "sink_progress", "events", "sink_progress"]
    assert group.told == [{HOURLY: 1}, {EVENTS: 2}]


async def test_no_position_is_stored_for_rows_that_could_not_be() -> None:
    sink, books, group = await made()
    books.failing = {"events"}
    await sink.take(events(0, 2))
    with pytest.raises(Ended):
        await sink.flush_all()
    assert books.stored == []
    assert group.told == []


async def test_rows_are_read_while_others_are_stored_but_not_without_bound() -> None:
    sink, books, _ = await made()
    books.hanging["events"] = asyncio.Event()
    await sink.take(events(0, 4))  # an insert of them begins
    await asyncio.wait_for(sink.take(events(4, 3)), 10)
    third = asyncio.create_task(sink.take(events(7, 5)))  # enough for the next one, which waits
    await asyncio.sleep(0.05)
    assert not third.done()
    books.hanging["events"].set()
    await asyncio.wait_for(third, 10)
    await sink.flush_all()
    assert sum(count for table, count in books.stored if table == "events") == 12
    assert sink.pending[EVENTS].first == 12


async def test_an_error_of_an_insert_under_way_ends_the_process() -> None:
    sink, books, _ = await made()
    books.failing = {"events"}
    await sink.take(events(0, 4))
    with pytest.raises(Ended):
        await sink.flush_all()


async def test_results_do_not_wait_for_the_archive() -> None:
    sink, books, _ = await made()
    books.hanging["events"] = asyncio.Event()
    await sink.take(events(0, 4))
    await sink.take(total(0))
    await asyncio.wait_for(sink.flush_results(), 10)
    assert books.tables == ["hourly", "sink_progress"]
    books.hanging["events"].set()
    await sink.flush_all()


async def test_rows_that_are_being_stored_count_as_not_stored() -> None:
    sink, books, _ = await made()
    books.hanging["events"] = asyncio.Event()
    await sink.take(events(0, 4))
    await asyncio.sleep(0)
    assert (sink.pending[EVENTS].first, sink.pending[EVENTS].next) == (0, 4)
    books.hanging["events"].set()
    await sink.flush_all()
    assert sink.pending[EVENTS].first == 4


async def test_a_gap_is_not_stored_over() -> None:
    sink, books, group = await made()
    await sink.take(events(0, 2))
    await sink.take(events(3, 2))
    await sink.take(events(0, 1))  # a copy of what was read
    await sink.flush_all()
    assert group.sought == [{EVENTS: 2}]
    assert ("events", 2) in books.stored
    assert sink.pending[EVENTS].first == 2


async def test_rows_that_were_read_before_the_broker_deleted_the_next_ones_are_stored() -> None:
    sink, books, _ = await made()
    await sink.take(events(0, 2))
    sink.bounds.first = 5  # type: ignore[attr-defined]
    await sink.take(events(5, 1))
    await sink.take(events(5, 1))
    await sink.flush_all()
    assert ("events", 3) in books.stored
    assert sink.pending[EVENTS].first == 6


async def test_a_record_that_is_not_ours_is_named_by_its_offset() -> None:
    sink, books, _ = await made()
    await sink.take(total(0))
    await sink.take(Batch(HOURLY, [Chunk(1, 2, [1], [b'{"kind": "guess"}'], START)], None))
    with pytest.raises(Ended) as ended:
        await sink.flush_all()
    assert f"{NAMES.hourly}, partition 0, offset 1: the record is not ours" in str(ended.value.__cause__)
    assert books.stored == []


async def test_a_revoked_partition_is_forgotten() -> None:
    sink, books, _ = await made()
    await sink.take(events(0, 2))
    await sink.release({EVENTS})
    await sink.take(events(2, 2))
    await sink.flush_all()
    assert books.stored == []


def test_a_token_says_the_offsets_and_nothing_else() -> None:
    one, two = Origin("t", 0, 0, 9), Origin("t", 1, 5, 6)
    assert token_of("charges", [one, one]) == "charges:t:0:0-9"
    assert token_of("charges", [one, two]) == token_of("charges", [one, one, two])
    others = [[one, two._replace(last=7)], [one._replace(first=1), two], [one], [two]]
    assert len({token_of("charges", found) for found in [[one, two], *others]}) == 5
    assert token_of("charges", [one, two]) != token_of("hourly", [one, two])
