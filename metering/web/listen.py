"""Serve an application until the process is told to stop."""

import asyncio
import signal
from typing import Any

from aiohttp import web

from metering.console import console
from metering.errors import UserError
from metering.settings import Settings

_DRAIN_SECONDS = 5.0


def listen(app: web.Application, settings: Settings) -> None:
    """Print the address and serve; SIGINT and SIGTERM end it in order."""
    try:
        asyncio.run(_serve(app, settings))
    except OSError as error:
        place = f"{settings.web_host}:{settings.web_port}"
        raise UserError(
            f"{place} cannot be served: {error.strerror}", hint="choose another --port"
        ) from error


async def _serve(app: web.Application, settings: Settings) -> None:
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_DRAIN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.web_host, settings.web_port).start()
        console.print(f"page on {address(runner)}; Ctrl-C stops", soft_wrap=True)
        await told.wait()
    finally:
        await runner.cleanup()


def address(runner: web.AppRunner) -> str:
    """Where a runner is reached, with the port that it got."""
    found: Any = runner.addresses[0]
    host = f"[{found[0]}]" if ":" in found[0] else found[0]
    return f"http://{host}:{found[1]}"
