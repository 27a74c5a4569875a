"""The clients that production code makes, over the broker in memory: the same methods, no network."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from metering.state.publish import Keyed
from tests.simulation.broker import Broker
from tests.simulation.chance import Chance
from tests.simulation.loop import PROCESS, Died

HOPS = 0.3  # the share of answers that the process has to wait for


class Network(NamedTuple):
    """What a client needs of its world."""

    broker: Broker
    chance: Chance


def alive() -> None:
    """Stop what a dead process still tries on its way down."""
    if not PROCESS.get().alive:
        raise Died


async def hop(chance: Chance) -> None:
    """Wait for an answer; anything may happen meanwhile."""
    alive()
    if chance.random.random() < HOPS:
        await asyncio.sleep(chance.latency())
        alive()


class BatchBuilder:
    """Collects the records of one batch."""

    def __init__(self) -> None:
        self.records: list[Keyed] = []

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes | None) -> bool:
        """Add a record; there is always room."""
        assert timestamp is None, "the broker's append time decides"
        self.records.append((key, value))
        return True

    def close(self) -> None:
        """Nothing more comes."""


class Producer:
    """As `AIOKafkaProducer`."""

    def __init__(self, network: Network) -> None:
        self._broker, self._chance = network

    async def start(self) -> None:
        """Connect."""
        await hop(self._chance)
        self._broker.check()

    async def stop(self) -> None:
        """Nothing to release."""

    async def partitions_for(self, _topic: str) -> set[int]:
        """The partitions of every topic."""
        await hop(self._chance)
        return set(range(self._broker.partitions))

    def create_batch(self) -> BatchBuilder:
        """An empty batch."""
        return BatchBuilder()

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        """Hand a batch to the network; the answer comes later, or never."""
        await hop(self._chance)
        return self._broker.produce(topic, partition, batch.records)


class Message(NamedTuple):
    """One record as a consumer without a group sees it."""

    offset: int
    key: bytes | None
    value: bytes | None


class Consumer:
    """As `AIOKafkaConsumer` without a group: journals and log bounds are read with it."""

    def __init__(self, network: Network) -> None:
        self._broker, self._chance = network
        self._at: dict[Any, int] = {}

    async def start(self) -> None:
        """Connect."""
        await hop(self._chance)
        self._broker.check()

    async def stop(self) -> None:
        """Nothing to release."""

    def assign(self, tps: list[Any]) -> None:
        """Read these partitions from their beginning."""
        self._at = {tp: self._broker.log(*tp).first for tp in tps}

    def seek(self, tp: Any, offset: int) -> None:
        """Go on from an offset."""
        self._at[tp] = offset

    async def position(self, tp: Any) -> int:
        """The next offset to read."""
        return self._at[tp]

    async def beginning_offsets(self, tps: list[Any]) -> Mapping[Any, int]:
        """Where logs begin."""
        await hop(self._chance)
        self._broker.check()
        return {tp: self._broker.log(*tp).first for tp in tps}

    async def end_offsets(self, tps: list[Any]) -> Mapping[Any, int]:
        """Where logs end."""
        await hop(self._chance)
        self._broker.check()
        return {tp: self._broker.log(*tp).end for tp in tps}

    async def getmany(self, tp: Any, *, timeout_ms: int) -> dict[Any, list[Message]]:
        """Some batches from the position on."""
        assert timeout_ms > 0
        await hop(self._chance)
        self._broker.check()
        log, at = self._broker.log(*tp), self._at[tp]
        batches = log.read(at, 1 + int(self._chance.random.expovariate(0.05)))
        self._at[tp] = batches[-1].next if batches else log.end
        return {tp: [Message(*r) for b in batches for r in b.records if r.offset >= at]}
