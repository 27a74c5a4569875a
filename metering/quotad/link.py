"""quotad's connection: made in the background, tried again until it stands, and how it is."""

import asyncio
from collections.abc import Callable

import structlog

from metering.client import Metering
from metering.errors import UserError
from metering.quotad.models import Health

log = structlog.get_logger()

# Replicas share it, so that a request that is repeated at another one gets the same reply.
CLIENT = "quotad"
_PAUSE_SECONDS = 1.0

Connect = Callable[[], Metering]


class Link:
    """Holds the client once it is connected; until then there is none."""

    def __init__(self, connect: Connect, stale_seconds: float) -> None:
        self._connect = connect
        self._stale_ms = int(stale_seconds * 1_000)
        self._task: asyncio.Task[None] | None = None
        self._problem = "connecting"
        self.metering: Metering | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.metering is not None:
            await self.metering.close()
            self.metering = None

    async def _run(self) -> None:
        while self.metering is None:
            try:
                self.metering = await self._connect().__aenter__()
            except UserError as error:
                self._problem = f"{error}; {error.hint}"
                log.warning("not_connected", error=str(error), hint=error.hint, retry_in=_PAUSE_SECONDS)
                await asyncio.sleep(_PAUSE_SECONDS)

    def health(self) -> Health:
        """Starting until quotas are read; dead when a reader has ended; degraded when nothing is heard."""
        if self.metering is None:
            task = self._task
            if task is not None and task.done() and not task.cancelled():
                return Health("dead", f"connecting failed: {task.exception()!r}")
            return Health("starting", self._problem)
        broken = self.metering.broken()
        silent = self.metering.silent_ms()
        if broken:
            return Health("dead", broken, silent)
        if silent is None:
            return Health("degraded", "a partition was never heard of: does a worker own it?", silent)
        if silent > self._stale_ms:
            return Health("degraded", "no heartbeat: are all workers running, is the broker there?", silent)
        return Health("ready", "", silent)
