"""Reading one partition of a topic of ours to its end, record by record, without a group."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.errors import UserError
from metering.stopping import stop

READ_SECONDS = 120.0  # a journal is read at about 100 MB/s


class LogReader:
    """Reads one partition from its beginning to the end it has now, without a group."""

    def __init__(self, brokers: str, topic: str, partition: int) -> None:
        self._brokers = brokers
        self._topic = topic
        self._tp = TopicPartition(topic, partition)
        self.end = 0  # of the log, once it was read
        self.at = -1  # the offset of the record in hand

    async def records(
        self, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[tuple[bytes, bytes | None], None]:
        """Key and value of each record from `start` (-1: the last one) to the log's end, or until `end`."""
        async with self._consumer() as consumer:
            self.end = (await consumer.end_offsets([self._tp]))[self._tp]
            end = self.end if end is None else end
            first = (await consumer.beginning_offsets([self._tp]))[self._tp]
            consumer.seek(self._tp, max(first, end - 1 if start < 0 else start))
            while first < end and await consumer.position(self._tp) < end:
                fetched = await consumer.getmany(self._tp, timeout_ms=1_000)
                for record in fetched.get(self._tp, ()):
                    if record.offset < end:
                        self.at = record.offset
                        yield record.key or b"", record.value

    async def find_end(self) -> int:
        """Where the log ends now."""
        async with self._consumer() as consumer:
            found: int = (await consumer.end_offsets([self._tp]))[self._tp]
            return found

    @asynccontextmanager
    async def _consumer(self) -> AsyncGenerator[AIOKafkaConsumer, None]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=8 << 20,
        )
        try:
            async with asyncio.timeout(READ_SECONDS):
                await consumer.start()
                consumer.assign([self._tp])
                yield consumer
        except (KafkaError, TimeoutError) as error:
            raise UserError(
                f"the journal {self._topic}, partition {self._tp.partition}, cannot be read: {error!r}",
                hint="is the broker reachable, and were the topics created (`metering topics apply`)?",
            ) from error
        finally:
            await stop(consumer)
