"""The fake on a socket.

`POST /admin/faults` takes a fault as JSON, as `faults.Faults.add` describes it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from billing_sync.stripe_fake.client import read_call
from billing_sync.stripe_fake.core import Fake
from billing_sync.stripe_fake.errors import Crash, Lost

__all__ = ["Fake", "application", "running"]

_START_SECONDS = 10.0


def application(fake: Fake) -> web.Application:
    """The fake as an aiohttp application."""

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.text()
        try:
            reply = fake.handle(read_call(request.method, str(request.rel_url), request.headers, body))
        except (Lost, Crash):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return web.Response(text=reply.text, status=reply.status, headers=reply.headers)

    async def add_fault(request: web.Request) -> web.Response:
        fake.faults.add(await request.json())
        return web.json_response({"ok": True})

    app = web.Application()
    routes = [web.route("*", f"/{version}/{{rest:.*}}", handle) for version in ("v1", "v2")]
    app.add_routes([web.post("/admin/faults", add_fault), *routes])
    return app


@contextmanager
def running(path: Path, clock: Callable[[], float] = time.time) -> Iterator[tuple[str, Fake]]:
    """The fake in a thread of its own on a free loopback port: its base address and itself."""
    loop = asyncio.new_event_loop()
    fake = Fake(path, clock)
    started: list[str] = []
    ready = threading.Event()

    async def serve() -> web.AppRunner:
        runner = web.AppRunner(application(fake))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()
        return runner

    def work() -> None:
        runner = loop.run_until_complete(serve())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    if not ready.wait(_START_SECONDS):
        raise TimeoutError("the Stripe fake did not start")
    try:
        yield started[0], fake
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_START_SECONDS)
        fake.state.close()
