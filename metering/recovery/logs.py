"""A partition's log read as the worker reads it: whole chunks, from an offset to an end."""

import asyncio
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.errors import UserError
from metering.state.fold import Chunk
from metering.stopping import stop
from metering.transport import whole_batches

SILENCE_SECONDS = 60.0  # a broker that sends nothing for so long is away
_FETCH_BYTES = 8 << 20
_POLL_MS = 1_000


async def read_chunks(
    brokers: str, topic: str, partition: int, first: int, end: int
) -> AsyncIterator[list[Chunk]]:
    """Chunks that cover the offsets `first` to `end - 1` without a hole."""
    if first >= end:
        return  # a consumer that is stopped before it has asked for anything cancels its caller
    tp = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers, auto_offset_reset="earliest", max_partition_fetch_bytes=_FETCH_BYTES
    )
    with whole_batches(topic):
        try:
            await consumer.start()
            consumer.assign([tp])
            consumer.seek(tp, first)
            while first < end:
                fetched = await _fetch(consumer, tp)
                chunks = [before(chunk, end) for chunk in fetched if chunk.first < end]
                if chunks:
                    first = chunks[-1].next
                    yield chunks
        except (KafkaError, OSError, TimeoutError) as error:
            raise UserError(
                f"{topic}, partition {partition}, cannot be read from offset {first}: {error!r}",
                hint="is the broker reachable, and were the topics created (`metering topics apply`)?",
            ) from error
        finally:
            await stop(consumer)


async def _fetch(consumer: AIOKafkaConsumer, tp: TopicPartition) -> list[Chunk]:
    async with asyncio.timeout(SILENCE_SECONDS):
        while True:
            found = await consumer.getmany(tp, timeout_ms=_POLL_MS)
            if found:
                return [packed.unpacked() for packed in found[tp]]


def before(chunk: Chunk, offset: int) -> Chunk:
    """The part of a chunk before `offset`."""
    if offset >= chunk.next:
        return chunk
    count = sum(1 for o in chunk.offsets if o < offset)
    return Chunk(chunk.first, offset, chunk.offsets[:count], chunk.values[:count], chunk.appended)
