"""Writing whole record batches to one partition, awaited, in order, retried until they are there."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from secrets import token_hex
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordTooLargeError

from metering.state.fold import Output

log = structlog.get_logger()

BATCH_BYTES = 12 << 20  # below the broker's limit of 16 MiB, with room for its framing
_MARK_BYTES = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0

Keyed = tuple[bytes | None, bytes | None]


# aiokafka's lz4 is of the highest level, ten times as dear as snappy. So only what others read has it: not
# every client library has snappy or zstd.
FOR_OTHERS, FOR_US = "lz4", "snappy"


class Publisher:
    """A producer, whose records are compressed for others or for us."""

    def __init__(self, brokers: str, *, compression: str = FOR_OTHERS, timeout_ms: int = 15_000) -> None:
        self._brokers = brokers
        self._compression = compression
        self._timeout_ms = timeout_ms
        self._producer: Any = None
        self._mark = token_hex(_MARK_BYTES)

    def renew(self) -> None:
        """Mark the keys of results anew: what was sent before, and lands late, takes none of them away."""
        self._mark = token_hex(_MARK_BYTES)

    async def start(self) -> None:
        """Connect; a broker that cannot be reached is tried again."""
        pause = _FIRST_PAUSE
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._brokers,
                acks="all",
                compression_type=self._compression,
                linger_ms=0,
                max_batch_size=BATCH_BYTES,
                max_request_size=BATCH_BYTES,
                request_timeout_ms=self._timeout_ms,
            )
            try:
                await producer.start()
            except (KafkaError, OSError) as error:
                await producer.stop()
                pause = await _pause_after(error, pause, brokers=self._brokers)
            else:
                self._producer = producer
                return

    async def stop(self) -> None:
        """Release the connection; what was not awaited is not sent."""
        if self._producer is not None:
            await self._producer.stop()

    async def partitions(self, topic: str) -> int:
        """The number of partitions that a topic has."""
        return len(await self._producer.partitions_for(topic))

    async def publish(self, partition: int, outputs: Sequence[Output]) -> None:
        """Publish outputs to their topics, in order within each topic, and wait for all."""
        await self._publish(partition, outputs, is_marked=False)

    async def publish_results(self, partition: int, outputs: Sequence[Output]) -> None:
        """Publish what a fold makes, as `publish` does, under keys that no other owner uses.

        Compaction keeps the last record of a key, readers keep the highest version: under one key, what
        a worker that was replaced writes late would be all that is left.
        """
        await self._publish(partition, outputs, is_marked=True)

    async def _publish(self, partition: int, outputs: Sequence[Output], *, is_marked: bool) -> None:
        topics: dict[tuple[str, bool], list[Keyed]] = {}
        for output in outputs:
            place = output.topic, is_marked and not output.keeps_key
            topics.setdefault(place, []).append((output.key, output.value))
        for (topic, marked), records in topics.items():
            for batch in self._batches(records):
                await self._deliver(topic, partition, batch, is_marked=marked)

    async def append_at_once(self, topic: str, partition: int, records: Sequence[Keyed]) -> int:
        """Append records as one Kafka record batch, all or none; the offset of the first."""
        batches = list(self._batches(records))
        if len(batches) != 1:
            raise ValueError(f"{len(records)} records do not fit one batch of {BATCH_BYTES} bytes")
        return await self._deliver(topic, partition, batches[0])

    async def append(self, topic: str, partition: int, records: Iterable[Keyed]) -> None:
        """Append records in order, in as many batches as they need."""
        for batch in self._batches(records):
            await self._deliver(topic, partition, batch)

    def _batches(self, records: Iterable[Keyed]) -> Iterable[list[Keyed]]:
        """Cut records into lists that each fit one record batch, whatever they compress to."""
        batch: list[Keyed] = []
        size = 0
        for key, value in records:
            weight = len(key or b"") + len(value or b"") + 64
            if batch and size + weight > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append((key, value))
            size += weight
        if batch:
            yield batch

    async def _deliver(
        self, topic: str, partition: int, records: Sequence[Keyed], *, is_marked: bool = False
    ) -> int:
        """Send one batch until the broker has it; what it says twice is absolute, so harmless."""
        pause = _FIRST_PAUSE
        while True:
            try:
                keyed = _marked(records, self._mark) if is_marked else records
                return await self._send(topic, partition, keyed)
            except (MessageSizeTooLargeError, RecordTooLargeError):
                raise  # no retry makes it smaller
            except (KafkaError, OSError) as error:
                self.renew()  # this one may still be on its way, and land behind what follows
                pause = await _pause_after(error, pause, topic=topic, partition=partition)

    async def _send(self, topic: str, partition: int, records: Sequence[Keyed]) -> int:
        builder = self._producer.create_batch()
        for key, value in records:
            if builder.append(timestamp=None, key=key, value=value) is None:
                raise ValueError(f"a batch for {topic} is larger than was weighed")
        builder.close()
        sent = await (await self._producer.send_batch(builder, topic, partition=partition))
        first: int = sent.offset
        return first


def _marked(records: Sequence[Keyed], mark: str) -> list[Keyed]:
    """The keys are JSON arrays (see `records.key`) and stay such, with the mark as the last element."""
    return [(key and key[:-1] + b',"%s"]' % mark.encode(), value) for key, value in records]


async def _pause_after(error: Exception, pause: float, **facts: object) -> float:
    """Say that the broker is away, wait, and return the next pause."""
    log.warning("broker_unreachable", error=repr(error), retry_in_seconds=round(pause, 1), **facts)
    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
    return min(pause * 2, _LONGEST_PAUSE)
