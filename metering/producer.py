"""Sending usage events and ticks to `usage.events`, for the command line and the demo."""

from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from metering.errors import UserError
from metering.quota_service import tick_record

_RECORD_BYTES = 8 << 20


class UsageProducer:
    """A producer with the key (customer) and partitioner (murmur2) that the pipeline expects."""

    def __init__(self, brokers: str, topic: str) -> None:
        self._brokers = brokers
        self._topic = topic
        self._producer = None

    async def __aenter__(self) -> "UsageProducer":
        producer = AIOKafkaProducer(
            bootstrap_servers=self._brokers,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=20,
            max_batch_size=1 << 18,
            max_request_size=_RECORD_BYTES,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise UserError(
                f"no broker answers at {self._brokers}: {error}", hint="run `metering local up`"
            ) from error
        self._producer = producer
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def send(self, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Send (key, value) records and wait until the broker has all of them; how many."""
        return len(await self.deliver(records))

    async def deliver(self, records: Iterable[tuple[bytes, bytes]]) -> list[tuple[int, int]]:
        """Send (key, value) records; the partition and offset at which the broker has each."""
        assert self._producer is not None, "use it as a context manager"
        waiting = [await self._producer.send(self._topic, value, key=key) for key, value in records]
        placed = [await sent for sent in waiting]
        return [(found.partition, found.offset) for found in placed]

    async def tick(self, partitions: int, idle_ms: int = 0) -> None:
        """Say in each partition that nothing is on its way that is older than `idle_ms`."""
        assert self._producer is not None, "use it as a context manager"
        for partition in range(partitions):
            await self._producer.send_and_wait(self._topic, tick_record(idle_ms), partition=partition)
