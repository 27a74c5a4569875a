"""All that stands in a topic now, for tests that look at it."""

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from metering.settings import Settings


async def records(settings: Settings, topic: str) -> list[Any]:
    """The records of every partition up to their ends as they are when this begins."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.brokers(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        tps = [TopicPartition(topic, p) for p in range(settings.partitions)]
        consumer.assign(tps)
        ends, found = await consumer.end_offsets(tps), []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += batch
        return found
    finally:
        await consumer.stop()
