"""A page on books of its own, served on a free port by a process of this test session."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web

from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.web.app import web_app
from metering.web.listen import address

DEADLINE = 60.0
Serve = Callable[[Settings], str]


@pytest.fixture(scope="session")
def books(local_parts: Settings, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Settings]:
    """Empty books by name, on the shared parts."""

    def make(name: str) -> Settings:
        settings = local_parts.model_copy(
            update={
                "kafka_brokers": local_parts.brokers(),
                "clickhouse_url": local_parts.clickhouse(),
                "home": tmp_path_factory.mktemp(name),
                "database": name,
                "topic_prefix": f"{name}.",
                "watch_url": "http://127.0.0.1:1/metrics",
            }
        )
        with connect(settings.clickhouse(), "default") as client:
            client.command(f"DROP DATABASE IF EXISTS `{name}`")
        migrate(settings.clickhouse(), name)
        return settings

    return make


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """Serve the page of some settings in a loop of its own; the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runners: list[web.AppRunner] = []

    async def start(settings: Settings) -> str:
        runner = web.AppRunner(web_app(settings))
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return address(runner)

    yield lambda settings: asyncio.run_coroutine_threadsafe(start(settings), loop).result(DEADLINE)

    async def stop() -> None:
        for runner in runners:
            await runner.cleanup()

    asyncio.run_coroutine_threadsafe(stop(), loop).result(DEADLINE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(DEADLINE)
    loop.close()
