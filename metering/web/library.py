"""The page's way to the books: a few questions at a time, each in a thread, over one client."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web

from metering.settings import Settings
from metering.sinks.client import connect

_AT_ONCE = 4
_LIMITS = {"max_execution_time": 25}
T = TypeVar("T")


class Library:
    """One client, opened when it is needed; a lost ClickHouse is asked again with the next page."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, question: Callable[[Any], T]) -> T:
        """Answer a question with a blocking client; UserError or ClickHouseError when it cannot be asked."""
        async with self._room:
            client = await self._opened()
            return await asyncio.to_thread(question, client)

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(self._connect)
            return self._client

    def _connect(self) -> Any:
        client = connect(self._settings.clickhouse(), self._settings.database)
        for name, value in _LIMITS.items():
            client.set_client_setting(name, value)
        return client

    def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            self._client.close()


LIBRARY: web.AppKey[Library] = web.AppKey("library", Library)
