"""A client that is stopped does not stop who stops it."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from metering.stopping import stop


def consumer_before_its_first_step() -> Any:
    """As after a start that failed: its tasks are made, none has run."""
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    consumer._coordinator = _Coordinator()
    return consumer


class _Coordinator:
    """As aiokafka's, for a consumer without a group."""

    def __init__(self) -> None:
        self._task = asyncio.ensure_future(asyncio.sleep(60))

    async def close(self) -> None:
        self._task.cancel()
        await self._task


async def test_a_consumer_that_never_began_does_not_cancel_its_caller() -> None:
    await stop(consumer_before_its_first_step())


async def test_who_is_cancelled_while_stopping_stays_so() -> None:
    class Slow:
        async def stop(self) -> None:
            await asyncio.sleep(60)

    stopping = asyncio.create_task(stop(Slow()))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
