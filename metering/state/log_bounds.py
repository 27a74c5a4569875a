"""Where a partition's log begins and ends, asked over a connection of its own.

The connection that fetches is busy with long polls: a question behind one waits 1.5 s.
"""

from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from metering.stopping import stop

_ANSWER_MS = 5_000


class Bounds(NamedTuple):
    """The first offset that the broker still holds, and the offset behind the last record."""

    first: int
    end: int


class LogBounds:
    """A consumer without a group that only asks for offsets."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._consumer: Any = None

    async def of(self, topic: str, partition: int) -> Bounds:
        """The bounds of one partition, now."""
        consumer = await self._connected()
        tp = TopicPartition(topic, partition)
        first = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        return Bounds(first, end)

    async def _connected(self) -> Any:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(bootstrap_servers=self._brokers, request_timeout_ms=_ANSWER_MS)
            await consumer.start()
            self._consumer = consumer
        return self._consumer

    async def close(self) -> None:
        """Release the connection."""
        if self._consumer is not None:
            await stop(self._consumer)
