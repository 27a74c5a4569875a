"""What a publisher sends late must not be all that compaction leaves."""

import asyncio
from typing import Any, NamedTuple

import msgspec
import pytest
from aiokafka.errors import RequestTimedOutError

from metering.records import key
from metering.state import publish
from metering.state.fold import Output
from metering.state.publish import Keyed, Publisher

PLACE = key("a", "tokens", 0)


class Batch:
    """As aiokafka's batch builder."""

    def __init__(self) -> None:
        self.records: list[Keyed] = []

    def append(self, *, timestamp: None, key: bytes | None, value: bytes | None) -> bool:
        self.records.append((key, value))
        return timestamp is None

    def close(self) -> None:
        """Nothing more comes."""


class Placed(NamedTuple):
    offset: int


class Producer:
    """A producer whose first request is not answered, and arrives behind everything else."""

    def __init__(self) -> None:
        self.late: list[Keyed] = []
        self.log: list[Keyed] = []

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, _topic: str, *, partition: int) -> "asyncio.Future[Placed]":
        assert partition == 0
        answer: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
        if not self.late:
            self.late = batch.records
            answer.set_exception(RequestTimedOutError())
        else:
            answer.set_result(Placed(len(self.log)))
            self.log += batch.records
        return answer


def totals(*values: bytes) -> list[Output]:
    return [Output("hourly", PLACE, value) for value in values]


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Producer:
    monkeypatch.setattr(publish, "_FIRST_PAUSE", 0.0)
    return Producer()


def publisher_of(producer: Any) -> Publisher:
    made = Publisher("nowhere:9092")
    made._producer = producer
    return made


def compacted(producer: Producer) -> list[bytes | None]:
    return list(dict(producer.log + producer.late).values())


def test_a_result_that_lands_late_takes_no_newer_one_away(producer: Producer) -> None:
    async def run() -> None:
        publisher = publisher_of(producer)
        await publisher.publish_results(0, totals(b"older"))
        await publisher.publish_results(0, totals(b"newer"))

    asyncio.run(run())
    assert b"newer" in compacted(producer)


def test_owners_have_keys_of_their_own_that_say_the_same_place(producer: Producer) -> None:
    async def run() -> None:
        for publisher in (publisher_of(producer), publisher_of(producer)):
            await publisher.publish_results(0, totals(b"x"))
            publisher.renew()
            await publisher.publish_results(0, totals(b"x"))

    asyncio.run(run())
    keys = {found for found, _ in producer.log}
    assert len(keys) == 4
    assert {tuple(msgspec.json.decode(found or b"")[:-1]) for found in keys} == {("a", "tokens", 0)}


def test_what_is_no_result_keeps_its_key(producer: Producer) -> None:
    asyncio.run(publisher_of(producer).publish(0, totals(b"x")))
    assert producer.log == [(PLACE, b"x")]
