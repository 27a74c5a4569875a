"""A client's connection: one producer, the readers, and what is asked and sent over them."""

import asyncio
import uuid
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from metering.client.buffer import Buffer
from metering.client.quotas import Quotas
from metering.client.reading import CatalogReader, ReplyReader, StateReader, now_ms
from metering.client.usage import Placed, Usage
from metering.errors import UserError
from metering.quota.local import LocalView
from metering.quota.wire import Request, encode

_RECORD_BYTES = 8 << 20


class Metering:
    """Quotas and usage of one application; use it as an asynchronous context manager.

    `prefix` is the deployment's `METERING_TOPIC_PREFIX`. `timeout_seconds` bounds every answer. Without any
    data `when_no_data` answers. `buffer` is a file for usage that the broker does not take.
    """

    def __init__(
        self,
        brokers: str,
        *,
        prefix: str = "",
        client: str = "",
        timeout_seconds: float = 5.0,
        start_seconds: float = 30.0,
        when_no_data: Literal["allow", "deny"] = "deny",
        buffer: Path | None = None,
    ) -> None:
        self._brokers, self._prefix = brokers, prefix
        self._timeout, self._start_seconds = timeout_seconds, start_seconds
        self._producer: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self.client = client or f"client-{uuid.uuid4().hex[:12]}"
        self.view = LocalView()
        self._states = StateReader(brokers, f"{prefix}quota.state", self.view)
        self._replies = ReplyReader(brokers, f"{prefix}quota.replies", self.client)
        self._catalogs = CatalogReader(brokers, f"{prefix}catalog")
        self.quotas = Quotas(
            self.view,
            self._replies,
            self.client,
            lambda: self._catalogs.catalog,
            self._request,
            lambda: self._states.partitions,
            timeout_seconds=timeout_seconds,
            when_no_data=when_no_data,
        )
        self.usage = Usage(
            self.view, lambda: self._catalogs.catalog, self._emit, Buffer(buffer) if buffer else None
        )

    async def __aenter__(self) -> Self:
        """Connect; returns when the quotas are read. UserError when that takes too long."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._brokers,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_request_size=_RECORD_BYTES,
        )
        readers = (self._states, self._replies, self._catalogs)
        try:
            async with asyncio.timeout(self._start_seconds):
                await self._producer.start()
                count = len(await self._producer.partitions_for(f"{self._prefix}usage.events"))
                self._states.partitions = self._replies.partitions = self.view.partitions = count
                self._tasks = [
                    asyncio.create_task(reader.run(), name=type(reader).__name__) for reader in readers
                ]
                for reader in readers:
                    await reader.ready.wait()
        except (KafkaError, OSError, TimeoutError) as error:
            missing = [type(reader).__name__ for reader in readers if not reader.ready.is_set()]
            await self.close()
            raise UserError(
                f"no quotas from {self._brokers} (prefix `{self._prefix}`): {error!r}, without {missing}",
                hint="is the broker running, were topics applied and a catalog published?",
            ) from error
        self._tasks.append(asyncio.create_task(self.usage.drain()))
        return self

    def silent_ms(self) -> int | None:
        """How long the quietest partition was not heard of; None when one never was."""
        return self.view.silent_ms(self._states.partitions, now_ms())

    def broken(self) -> str:
        """Why a reader has ended, after which answers rest on what was read before; empty while all run."""
        causes = {
            task.get_name(): "cancelled" if task.cancelled() else repr(task.exception())
            for task in self._tasks
            if task.done() and (task.cancelled() or task.exception() is not None)
        }
        return ", ".join(f"{name}: {cause}" for name, cause in causes.items())

    async def __aexit__(self, *_: object) -> None:
        """Disconnect; what was emitted has been delivered or buffered."""
        await self.close()

    async def close(self) -> None:
        """Stop reading and release the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def _request(self, partition: int, request: Request) -> None:
        topic = f"{self._prefix}quota.checks"
        async with asyncio.timeout(self._timeout):
            await self._producer.send_and_wait(
                topic, encode(request), key=request.customer.encode(), partition=partition
            )

    async def _emit(self, key: str, event: dict[str, object]) -> Placed:
        topic = f"{self._prefix}usage.events"
        async with asyncio.timeout(self._timeout):
            value = msgspec.json.encode(event)
            sent = await self._producer.send_and_wait(topic, value, key=key.encode())
        return Placed(sent.partition, sent.offset)
