"""A limit: librdkafka's `consume` through confluent-kafka, values touched and nothing else."""

from confluent_kafka import Consumer

from bench.peers.contract import Orders

_BATCH = 5_000


def consume(orders: Orders) -> None:
    """Fetch every record and commit each second."""
    orders.wait_at_gate()
    consumer = Consumer(
        {
            "bootstrap.servers": orders.brokers,
            "group.id": orders.group,
            "auto.offset.reset": "earliest",
            "auto.commit.interval.ms": int(orders.commit_seconds * 1_000),
        }
    )
    consumer.subscribe([orders.topic])
    taken = size = 0
    while taken < orders.records:
        for message in consumer.consume(_BATCH, 0.5):
            if message.error() is not None:
                raise SystemExit(str(message.error()))
            size += len(message.value() or b"")
            taken += 1
        orders.report(taken)
    consumer.commit(asynchronous=False)
    orders.finish({"records": (size, taken)})
    consumer.close()


if __name__ == "__main__":
    consume(Orders())
