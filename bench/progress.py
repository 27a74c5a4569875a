"""How far a group of consumers has come, asked from the broker."""

from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, TopicPartition

_SECONDS = 10.0


class GroupProgress:
    """Committed positions of a group and the ends of its topics."""

    def __init__(self, brokers: str, group: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": group})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def end(self, topic: str, partitions: int) -> int:
        """The sum of the end offsets of a topic."""
        return sum(self.end_of(topic, partition) for partition in range(partitions))

    def end_of(self, topic: str, partition: int) -> int:
        """The end offset of one partition."""
        tp = TopicPartition(topic, partition)
        return int(self._consumer.get_watermark_offsets(tp, _SECONDS, cached=False)[1])

    def committed(self, topic: str, partitions: int) -> int:
        """The sum of the committed offsets of a topic."""
        tps = [TopicPartition(topic, p) for p in range(partitions)]
        return sum(max(0, tp.offset) for tp in self._consumer.committed(tps, _SECONDS))
