"""A limit: aiokafka's `getmany`, values touched and nothing else."""

import asyncio

from aiokafka import AIOKafkaConsumer

from bench.peers.contract import Orders


async def consume(orders: Orders) -> None:
    """Fetch every record and commit each second."""
    orders.wait_at_gate()
    consumer = AIOKafkaConsumer(
        orders.topic,
        bootstrap_servers=orders.brokers,
        group_id=orders.group,
        auto_offset_reset="earliest",
        auto_commit_interval_ms=int(orders.commit_seconds * 1_000),
    )
    await consumer.start()
    taken = size = 0
    while taken < orders.records:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                size += len(record.value)
            taken += len(records)
        orders.report(taken)
    await consumer.commit()
    orders.finish({"records": (size, taken)})
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(consume(Orders()))
