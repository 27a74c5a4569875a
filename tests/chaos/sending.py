"""Sending the load at its pace, and waiting until everything that was sent is stored and closed."""

import asyncio
import time
from collections.abc import Iterable

from aiokafka.errors import KafkaError

from metering.console import console
from metering.errors import UserError
from metering.producer import UsageProducer
from metering.sinks.client import connect
from metering.sinks.queries import Books
from metering.state.calendar import HOUR_MS, period_end
from metering.state.log_bounds import LogBounds
from metering.topics import Names
from tests.chaos.catalog import CUSTOMERS, SECOND
from tests.chaos.load import Sent
from tests.chaos.model import Model
from tests.chaos.world import World
from tests.topics import records

_CHUNK, _PACE_SECONDS = 2_000, 0.05
_LOOK_SECONDS = 1.0
_SAY_SECONDS = 20.0


class Sender:
    """Sends records and tells the model what they say; `share` is how much of the load is sent."""

    def __init__(self, world: World, model: Model) -> None:
        self.world, self.model = world, model
        self.records = 0
        self.share = 0.0

    async def pace(self, records: Iterable[Sent], seconds: float) -> None:
        """Send records so that the last leaves after some seconds; a broker that is away is waited for."""
        world = self.world
        async with UsageProducer(world.settings.brokers(), Names(world.settings).events) as producer:
            waiting: list[Sent] = []
            for sent in records:
                waiting.append(sent)
                early = sent.at * seconds - world.seconds
                if len(waiting) >= _CHUNK or early > _PACE_SECONDS:
                    await self._deliver(producer, waiting)
                    self.share, waiting = sent.at, []
                    await asyncio.sleep(max(0.0, early))
            await self._deliver(producer, waiting)
            self.share = 1.0

    async def _deliver(self, producer: UsageProducer, sent: list[Sent]) -> None:
        await producer.send((record.key, record.value) for record in sent)
        self.records += len(sent)
        for record in sent:
            for fact in record.facts:
                self.model.take(fact)

    async def close_months(self) -> None:
        """Let time pass beyond the last month."""
        own = self.world.settings
        closing = period_end(SECOND) + (own.close_grace_hours + 1) * HOUR_MS
        async with UsageProducer(own.brokers(), Names(own).events) as producer:
            await producer.tick(own.partitions, idle_ms=time.time_ns() // 1_000_000 - closing)

    async def wait_for_books(self, closed: str, seconds: float) -> None:
        """Until all records are folded and stored and a period is closed for everybody, or a deadline."""
        bounds = LogBounds(self.world.settings.brokers())
        deadline, state, said = time.monotonic() + seconds, "starting", time.monotonic()
        try:
            while time.monotonic() < deadline:
                state = await self._missing(bounds, closed)
                if not state:
                    return
                if time.monotonic() - said > _SAY_SECONDS:
                    said = time.monotonic()
                    self.world.tell(f"waiting: {state}")
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await bounds.close()
        console.print(f"[red]not complete after {seconds:.0f} s: {state}[/]")

    async def _missing(self, bounds: LogBounds, closed: str) -> str:
        own = self.world.settings
        names = Names(own)
        try:
            with connect(own.clickhouse(), own.database) as client:
                books = Books(client)
                folded, stored, closes = books.folded(), books.stored(), books.closes(closed)
            for partition in range(own.partitions):
                end = (await bounds.of(names.events, partition)).end
                if folded.get(partition, 0) < end:
                    return f"partition {partition} folded {folded.get(partition, 0):,} of {end:,}"
                for topic in (names.events, names.hourly, names.charges, names.rejected, names.quota_events):
                    end = (await bounds.of(topic, partition)).end
                    if stored.get((topic, partition), 0) < end:
                        return f"{topic} {partition}: {stored.get((topic, partition), 0):,} of {end:,} stored"
        except (KafkaError, OSError, UserError) as error:
            return repr(error)[:100]
        except Exception as error:  # ClickHouse may be on its way back
            return str(error).splitlines()[0][:100]
        if sum(close.agrees for close in closes) < CUSTOMERS:
            return f"{sum(close.agrees for close in closes)} closes of {closed} agree"
        return ""

    async def in_kafka(self) -> int:
        """Records in the events topic, without the ticks, which have no key."""
        own = self.world.settings
        found = await records(own, Names(own).events)
        return sum(1 for record in found if record.key is not None)
