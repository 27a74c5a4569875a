"""What a worker does for the quotas of its partitions: answers, heartbeats, time, facts. Effects only.

What is decided, the folds decide. A reply is an output of a checkpoint like any other: it is published
when the journal has what it says, and a crash in between publishes it on the next load.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from metering.catalog.resolved import Catalog
from metering.events import TICK_TYPE
from metering.quota_facts import Placed, follow
from metering.records import encode
from metering.settings import Settings
from metering.state.checkpoint import DurableFold, pieces
from metering.state.fold import Output
from metering.state.log_bounds import LogBounds
from metering.state.meter_fold import MeterFold
from metering.state.publish import Publisher
from metering.state.quota_part import QuotaPart
from metering.topics import Names
from metering.transport import Batch

log = structlog.get_logger()

TICK_SECONDS = 1.0
NO_IDLE_MS = -1  # time passes, and says nothing about what is on its way
Save = Callable[[TP, DurableFold], Awaitable[None]]


def tick_record(idle_ms: int) -> bytes:
    """The record that lets time pass in a partition; `idle_ms` before its append time."""
    event = {"id": "tick", "type": TICK_TYPE, "customer": "metering", "time": 0}
    return encode({**event, "data": {"idle_ms": idle_ms}})


class QuotaService:
    """The quotas of the partitions that a worker owns; `save` makes a partition durable."""

    def __init__(
        self,
        settings: Settings,
        owned: Mapping[TP, DurableFold],
        publisher: Publisher,
        bounds: LogBounds,
        save: Save,
    ) -> None:
        self._settings = settings
        self._names = Names(settings)
        self._owned = owned
        self._publisher = publisher
        self._bounds = bounds
        self._save = save
        self._facts: list[Placed] = []
        self._last_tick: dict[TP, float] = {}

    def _parts(self) -> Iterator[tuple[TP, DurableFold, QuotaPart]]:
        for tp, durable in list(self._owned.items()):
            quotas = quotas_of(durable)
            if quotas is not None and tp in self._owned:
                yield tp, durable, quotas

    def _owner(self, requests: TP) -> tuple[TP, DurableFold, QuotaPart] | None:
        """Who answers a partition of `quota.checks`: the owner of the customers' usage."""
        tp = TP(self._names.events, requests.partition)
        durable = self._owned.get(tp)
        quotas = quotas_of(durable) if durable is not None else None
        return (tp, durable, quotas) if durable is not None and quotas is not None else None

    # -- requests --------------------------------------------------------------------------------

    async def start_of(self, tp: TP) -> int | None:
        """Where a partition of `quota.checks` continues; what the broker deleted, nobody waits for."""
        found = self._owner(tp)
        if found is None:
            return None
        first, end = await self._bounds.of(*tp)
        position = found[2].requests
        if position is None or position < first or position > end:
            found[2].requests = position = first
        return position

    async def answer(self, batch: Batch, catalog: Catalog) -> int | None:
        """Answer requests, durably; the offset to seek back to when some are missing."""
        for piece in pieces(batch.chunks()):
            found = self._owner(batch.tp)
            if found is None:
                return None  # revoked meanwhile: the new owner answers
            tp, durable, quotas = found
            if not quotas.ask(piece, catalog, durable.fold.offset or 0):
                return quotas.requests
            for one in quotas.take_unreadable():
                log.warning(
                    "request_unreadable",
                    topic=batch.tp.topic,
                    partition=batch.tp.partition,
                    offset=one.offset,
                    error=one.problem,
                )
            await self._save(tp, durable)
        return None

    # -- timers ----------------------------------------------------------------------------------

    async def push(self) -> None:
        """Publish what has changed since the last time; let time pass where something waits for it."""
        for tp, durable, quotas in self._parts():
            if quotas.is_dirty:
                await self._save(tp, durable)
        await self._pass_time()

    async def _pass_time(self) -> None:
        now, here = time.time_ns() // 1_000_000, time.monotonic()
        for tp, _, quotas in self._parts():
            if quotas.needs_time(now) and here - self._last_tick.get(tp, -TICK_SECONDS) >= TICK_SECONDS:
                self._last_tick[tp] = here
                tick = Output(tp.topic, None, tick_record(NO_IDLE_MS))
                await self._publisher.publish(tp.partition, [tick])

    async def beat(self) -> None:
        """Publish each partition's heartbeat: clients tell "quiet" from "dead" by it.

        Fresh is what includes all that stands in the log; a fold that is behind says how far it has come.
        """
        for tp, durable, quotas in self._parts():
            try:
                end = (await self._bounds.of(*tp)).end
            except (KafkaError, OSError) as error:
                log.warning("broker_unreachable", error=repr(error), note="no heartbeat until it is back")
                return
            now, offset = time.time_ns() // 1_000_000, durable.saved_offset
            await durable.beat(now if offset is not None and offset >= end else min(now, quotas.clock))

    # -- facts -----------------------------------------------------------------------------------

    def teach(self, durable: DurableFold) -> None:
        """Let a partition learn all facts; it knows which are new to it."""
        quotas = quotas_of(durable)
        if quotas is not None:
            for offset, fact in self._facts:
                quotas.learn(offset, fact)

    async def follow_facts(self) -> None:
        """Take each new fact while running."""
        async for offset, fact in follow(self._settings.brokers(), self._names.quota_facts):
            self._facts.append((offset, fact))
            for _, _, quotas in self._parts():
                quotas.learn(offset, fact)


def quotas_of(durable: DurableFold) -> QuotaPart | None:
    """The quotas of a durable fold; only a meter fold has some."""
    return durable.fold.quotas if isinstance(durable.fold, MeterFold) else None
