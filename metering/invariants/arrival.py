"""Waiting until what is under way has arrived: folded, rated, stored.

Figures that travel different ways are equal only then. What is under way now is what the logs hold now;
what comes later is not waited for, so that this ends while usage goes on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.queries import Books
from metering.state import opening
from metering.state.log_bounds import LogBounds
from metering.state.publish import Publisher
from metering.topics import Names

Places = Mapping[tuple[str, int], int]  # topic, partition → offset
_PAUSE = 0.3


async def arrival(settings: Settings, seconds: float) -> str:
    """Wait until all of it has arrived; what is still missing after so many seconds, or nothing."""
    way = _Way(settings)
    deadline = time.monotonic() + seconds
    names = way.names
    try:
        for topic in (names.events, names.hourly):
            if not await _reach(await way.ends(topic), way.folded, deadline):
                return f"{topic} is not folded to its end"
        for topic in (names.events, names.hourly, names.charges, names.rejected):
            if not await _reach(await way.ends(topic), way.stored, deadline):
                return f"{topic} is not stored to its end"
        return ""
    finally:
        await way.close()


async def _reach(wanted: Places, now: Callable[[Places], Awaitable[Places]], deadline: float) -> bool:
    while True:
        places = await now(wanted)
        if all(places.get(place, 0) >= offset for place, offset in wanted.items()):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_PAUSE)


class _Way:
    """Positions along the way of a deployment's records."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = Names(settings)
        self._bounds = LogBounds(settings.brokers())
        self._nobody = Publisher(settings.brokers())  # not started: nothing is written here

    async def ends(self, topic: str) -> Places:
        """Where each partition of a topic ends now."""
        partitions = range(self.settings.partitions)
        return {(topic, p): (await self._bounds.of(topic, p)).end for p in partitions}

    async def folded(self, wanted: Places) -> Places:
        """The durable positions of the folds that read a topic."""
        found = {}
        for topic, partition in wanted:
            journal = opening.journal(self.settings, self._nobody, topic)
            found[topic, partition] = await journal.position(partition, self.settings.epoch) or 0
        return found

    async def stored(self, wanted: Places) -> Places:
        """The positions of the sink."""
        with connect(self.settings.clickhouse(), self.settings.database) as client:
            known = Books(client).stored()
        return {place: offset for place, offset in known.items() if place in wanted}

    async def close(self) -> None:
        """Release the connection."""
        await self._bounds.close()
