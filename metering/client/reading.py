"""What a client follows: `quota.state` into its view, the replies to its requests, the catalog."""

import asyncio
import time
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.catalog.reader import follow
from metering.catalog.resolved import Catalog
from metering.quota.local import LocalView
from metering.quota.wire import Reply, decode_reply
from metering.stopping import stop

log = structlog.get_logger()

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_POLL_MS = 250


def now_ms() -> int:
    """The client's own clock; heartbeats correct it."""
    return time.time_ns() // 1_000_000


class StateReader:
    """Keeps a view as `quota.state` says, from its beginning on."""

    def __init__(self, brokers: str, topic: str, view: LocalView) -> None:
        self._brokers, self._topic, self._view = brokers, topic, view
        self.ready = asyncio.Event()
        self.partitions = 0  # set it before `run`

    async def run(self) -> None:
        """Follow for ever; a broker that is away is tried again, and the view grows stale meanwhile."""
        pause = _FIRST_PAUSE
        while True:
            consumer = AIOKafkaConsumer(bootstrap_servers=self._brokers, auto_offset_reset="earliest")
            try:
                await consumer.start()
                await self._follow(consumer)
            except (KafkaError, OSError) as error:
                log.warning("quota_state_unreachable", topic=self._topic, error=repr(error), retry_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            finally:
                await stop(consumer)

    async def _follow(self, consumer: Any) -> None:
        tps = [TopicPartition(self._topic, p) for p in range(self.partitions)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        while True:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            now = now_ms()
            for tp, records in fetched.items():
                for record in records:
                    is_old = record.offset < ends[tp]
                    self._view.apply(record.key or b"", record.value, tp.partition, now, is_old)
            if not self._view.is_ready:
                await self._note_ready(consumer, ends)

    async def _note_ready(self, consumer: Any, ends: dict[Any, int]) -> None:
        if all([await consumer.position(tp) >= end for tp, end in ends.items()]):
            self._view.is_ready = True
            self.ready.set()


class ReplyReader:
    """Hands each reply to whoever waits for it; replies to others are passed over."""

    def __init__(self, brokers: str, topic: str, client: str) -> None:
        self._brokers, self._topic = brokers, topic
        self._key = client.encode()
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self.ready = asyncio.Event()
        self.partitions = 0  # set it before `run`

    def expect(self, request: str) -> "asyncio.Future[Reply]":
        """The reply to a request, when it comes."""
        return self._waiting.setdefault(request, asyncio.get_running_loop().create_future())

    def forget(self, request: str) -> None:
        """Nobody waits any more."""
        self._waiting.pop(request, None)

    async def run(self) -> None:
        """Follow for ever."""
        pause = _FIRST_PAUSE
        while True:
            # From the end, without a seek that a default reset could overtake; a request that is
            # repeated gets its reply again, so none is missed for good.
            consumer = AIOKafkaConsumer(bootstrap_servers=self._brokers, auto_offset_reset="latest")
            try:
                await consumer.start()
                tps = [TopicPartition(self._topic, p) for p in range(self.partitions)]
                consumer.assign(tps)
                for tp in tps:
                    await consumer.position(tp)
                self.ready.set()
                while True:
                    fetched = await consumer.getmany(timeout_ms=_POLL_MS)
                    for records in fetched.values():
                        for record in records:
                            self._take(record.key, record.value)
            except (KafkaError, OSError) as error:
                log.warning("quota_replies_unreachable", error=repr(error), retry_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            finally:
                await stop(consumer)

    def _take(self, key: bytes | None, value: bytes | None) -> None:
        if key != self._key or value is None:
            return
        try:
            reply = decode_reply(value)
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("quota_reply_unreadable", error=str(error))
            return
        waiting = self._waiting.get(reply.request)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)


class CatalogReader:
    """Follows the catalog: which account a customer belongs to, and what an event counts for."""

    def __init__(self, brokers: str, topic: str) -> None:
        self._brokers, self._topic = brokers, topic
        self.catalog: Catalog | None = None
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Follow for ever."""
        async for catalog in follow(self._brokers, self._topic, 0):
            self.catalog = catalog
            self.ready.set()
