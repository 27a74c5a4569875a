"""`/metrics`, `/health/live` and `/health/ready` of a worker or sink, on a port of their own."""

import json

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from metering.errors import UserError
from metering.observe.families import REGISTRY
from metering.observe.health import Ask, Health, health_of
from metering.observe.reports import Reporter, StateCollector


class Server:
    """Answers on one address until it is stopped; it shows no customer and no event."""

    def __init__(self, reporter: Reporter, ask: Ask) -> None:
        self._states = CollectorRegistry()
        self._states.register(StateCollector(reporter))
        self._ask = ask
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Begin to answer; an address that is taken is an error that names the setting."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self.stop()
            raise taken(host, port, error) from error

    async def stop(self) -> None:
        """Answer no more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._states) + generate_latest(REGISTRY)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _live(self, _: web.Request) -> web.Response:
        found = health_of(self._ask())
        return _answer(found, is_well=found.is_live)

    async def _ready(self, _: web.Request) -> web.Response:
        found = health_of(self._ask())
        return _answer(found, is_well=found.is_ready)


def _answer(found: Health, *, is_well: bool) -> web.Response:
    text = json.dumps(found._asdict())
    return web.Response(text=text, status=200 if is_well else 503, content_type="application/json")


def taken(host: str, port: int, error: OSError) -> UserError:
    """What to say when the address of metrics is not ours to have."""
    return UserError(
        f"metrics cannot be served on {host}:{port}: {error.strerror}",
        hint="set METERING_METRICS_PORT to a free port, or to 0 for none",
    )
