"""`metering quotad`: serve until told to stop."""

import asyncio
import signal

import structlog
from aiohttp import web

from metering.client import Metering
from metering.errors import UserError
from metering.quotad.link import CLIENT, Link
from metering.quotad.server import Server
from metering.quotad.settings import QuotadSettings
from metering.settings import Settings

log = structlog.get_logger()

_STOP_SECONDS = 1.0  # on top of the longest answer


async def serve(settings: Settings, own: QuotadSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered before it ends."""
    link = Link(lambda: _client(settings, own), own.stale_seconds)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    patience = own.timeout_seconds + _STOP_SECONDS
    runner = web.AppRunner(Server(own, link).app(), access_log=None, shutdown_timeout=patience)
    await runner.setup()
    try:
        await _listen(runner, own)
        link.start()
        log.info("listening", host=own.host, port=own.port, brokers=settings.brokers())
        await stopped.wait()
        log.info("stopping")
    finally:
        await runner.cleanup()
        await link.stop()


def _client(settings: Settings, own: QuotadSettings) -> Metering:
    return Metering(
        settings.brokers(),
        prefix=settings.topic_prefix,
        client=CLIENT,
        timeout_seconds=own.timeout_seconds,
        when_no_data=own.when_no_data,
    )


async def _listen(runner: web.AppRunner, own: QuotadSettings) -> None:
    try:
        await web.TCPSite(runner, own.host, own.port).start()
    except OSError as error:
        raise UserError(
            f"{own.host}:{own.port} cannot be served: {error.strerror or error}",
            hint="choose another with METERING_QUOTAD_HOST and METERING_QUOTAD_PORT",
        ) from error
