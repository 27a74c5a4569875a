"""The simulated parts in the place of the real ones, under production code that does not notice."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from metering import event_rows, native, quota_service, sink, worker
from metering.catalog.resolved import excerpt
from metering.recovery import evidence
from metering.sinks import writer
from metering.sinks.rows import TableRow, of_catalog
from metering.state import checkpoint, closed_books, journal, log_bounds, log_reader, publish, store
from metering.state.fold import Chunk
from tests.simulation import disk, processes
from tests.simulation.clients import Consumer, Producer
from tests.simulation.database import Client
from tests.simulation.loop import PROCESS
from tests.simulation.model import catalog
from tests.simulation.world import World


@cache
def _rows(revision: int) -> list[TableRow]:
    return of_catalog(catalog(revision))


@cache
def _excerpt(revision: int, customer: str) -> bytes:
    return excerpt(catalog(revision), customer)


class Clock:
    """As the module `time`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        """Virtual seconds."""
        return self._world.loop.now

    def time_ns(self) -> int:
        """The clock on the wall, as wrong as its machine has it."""
        return (self._world.wall() + PROCESS.get().skew_ms) * 1_000_000


class Log:
    """As a structlog logger: lines of the trace."""

    def __init__(self, world: World) -> None:
        self._world = world

    def info(self, event: str, **facts: object) -> None:
        """A line."""
        if self._world.verbose:
            text = " ".join(f"{name}={value}" for name, value in facts.items())
            self._world.note(PROCESS.get().name, f"{event} {text}")

    warning = info

    def error(self, event: str, **facts: object) -> None:
        """A line; a refused row is a problem by itself."""
        self.info(event, **facts)
        if event == "row_refused":
            self._world.problems.append(f"{event}: {facts}")

    exception = info


_NO_GARBAGE = SimpleNamespace(freeze=lambda: None, disable=lambda: None, enable=lambda: None)


@contextmanager
def installed(world: World) -> Iterator[None]:
    """Everything below the folds, the checkpoint, the sink and the planner is this world's."""
    network, clock, log = world.network, Clock(world), Log(world)

    def reader(**_: Any) -> Consumer:
        return Consumer(network)

    async def connect(*_: str) -> Client:
        return Client(world.books, world.chance)

    def die(event: str, error: Exception | None = None, **facts: object) -> None:
        processes.die(world, event, facts | ({} if error is None else {"error": repr(error)}))

    async def no_epoch(*_: object) -> None:
        """Nothing was ever moved."""

    async def no_facts(*_: str) -> AsyncIterator[Any]:
        for fact in ():
            yield fact

    def open_folder(path: str, **_: Any) -> disk.Database:
        return disk.Database(world.disks[PROCESS.get().name], path)

    async def read_chunks(
        _: str, topic: str, partition: int, first: int, end: int
    ) -> AsyncIterator[list[Chunk]]:
        yield network.broker.chunks(topic, partition, first, end)

    jitter = Random(world.seed)
    # Pure functions of a catalog revision that take milliseconds.
    places: list[tuple[Any, str, Any]] = [
        (worker, "die", die),
        (worker, "latest_epoch", no_epoch),
        (sink, "die", die),
        (worker, "time", clock),
        # A run's garbage must not outlive it: what is frozen is never collected.
        (worker, "gc", _NO_GARBAGE),
        (worker, "follow", world.follow),
        (quota_service, "follow", no_facts),
        (quota_service, "time", clock),
        (sink, "time", clock),
        (sink, "follow", world.follow),
        (sink, "of_catalog", lambda c: _rows(c.revision)),
        (closed_books, "excerpt", lambda c, customer: _excerpt(c.revision, customer)),
        (writer, "time", clock),
        (writer, "random", jitter),
        (writer, "connect_async", connect),
        (publish, "random", jitter),
        (publish, "token_hex", lambda count: jitter.randbytes(count).hex()),
        (publish, "AIOKafkaProducer", lambda **_: Producer(network)),
        (journal, "time", clock),
        (journal, "MOST_ENTRY_BYTES", journal.MOST_ENTRY_BYTES if world.seed % 3 else 300),
        (journal, "SPARED_SECONDS", jitter.choice([12.0, 60.0])),
        (log_reader, "AIOKafkaConsumer", reader),
        (journal, "token_bytes", jitter.randbytes),
        (evidence, "read_chunks", read_chunks),
        (log_bounds, "AIOKafkaConsumer", reader),
        (store, "Rdict", open_folder),
        (store, "WriteBatch", disk.WriteBatch),
        (store, "ReadOptions", object),
        (store, "_options", lambda: None),
        (native, "scan", native.scan if world.seed % 2 else None),
        (event_rows, "SMALLEST_BYTES", jitter.choice([1, 600, event_rows.SMALLEST_BYTES])),
        *((module, "log", log) for module in (worker, quota_service, sink, writer, checkpoint, publish)),
    ]
    with ExitStack() as stack:
        for module, name, value in places:
            stack.enter_context(patch.object(module, name, value))
        yield
