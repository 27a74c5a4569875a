"""A whole deployment in one process, run from a seed: its clock, its parts, its catalog, its processes."""

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from faust.types import TP

from metering.catalog.resolved import Catalog
from metering.settings import Settings
from metering.topics import Names
from metering.worker import Worker
from tests.simulation import billing, processes
from tests.simulation.broker import Broker
from tests.simulation.chance import Chance
from tests.simulation.clients import Network
from tests.simulation.database import Books
from tests.simulation.disk import Disk, Path
from tests.simulation.group import Group, Member
from tests.simulation.loop import Loop, Process
from tests.simulation.model import PARTITIONS, catalog
from tests.simulation.workload import DAY_MS, START

TICK_SECONDS = 3.0


@cache
def _settings() -> Settings:
    return Settings(
        kafka_brokers="simulated:9092",
        clickhouse_url="http://simulated:8123",
        partitions=PARTITIONS,
        tick_idle_seconds=TICK_SECONDS,
        sink_batch_rows=40,
        instance="-",
    )


class World:
    """One run of a seed."""

    def __init__(
        self,
        seed: int,
        *,
        focus: frozenset[str] = frozenset(),
        verbose: bool = False,
    ) -> None:
        self.seed = seed
        self.verbose = verbose
        self.trace: list[str] = []
        self.problems: list[str] = []
        self.chance = Chance(seed, focus)
        self.loop = Loop(self.chance.random)
        self.settings = _settings().model_copy(update={"home": Path("/state")})
        self.names = Names(self.settings)
        self.broker = Broker(self.loop, self.chance, self.wall, PARTITIONS)
        self.network = Network(self.broker, self.chance)
        self.books = Books(self.chance)
        self.disks: dict[str, Disk] = {}
        self.wanted: set[str] = set()  # processes that are started again when they end
        self.lives: dict[Process, Member] = {}
        self.ledger = billing.SimulatedLedger(self.chance)
        self.provider = billing.SimulatedProvider(self.chance, self.wall)
        self.ticks = True
        self.revision = 0
        self._published: list[asyncio.Future[None]] = []
        self._leapt = START + 60_000
        n = self.names
        self.workers = self._group(n.events, n.hourly)
        self.sinks = self._group(n.events, n.hourly, n.charges, n.rejected, n.progress)

    def _group(self, *topics: str) -> Group:
        tps = [TP(topic, p) for topic in topics for p in range(PARTITIONS)]
        return Group(self.loop, self.broker, self.chance, tps, self.end)

    # -- processes -------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a process; when it ends, it is started again."""
        process = Process(self.loop, name)
        self.wanted.add(name)
        self.disks.setdefault(name, Disk(self.chance))
        process.at_end.append(lambda: self._restart(process))
        main = processes.sink if name.startswith("sink") else processes.worker
        process.spawn(main(self, process))
        self.note(name, "starts")

    def _restart(self, process: Process) -> None:
        self.lives.pop(process, None)
        delay = 0.5 + 4 * self.chance.random.random()
        if process.name in self.wanted:
            self.loop.call_later(delay, self.start, process.name)

    def end(self, process: Process, error: BaseException | None) -> None:
        """End a process by an error; one that no failing part explains is a problem."""
        if not processes.is_expected(error):
            self.problems.append(f"{process.name} died of {error!r}")
        process.kill()

    def running(self, kind: str) -> list[Process]:
        """The processes of a kind that are not asleep."""
        return [p for p in self.lives if p.name.startswith(kind) and p.is_runnable]

    # -- time and trace --------------------------------------------------------------------------

    def wall(self) -> int:
        """The clock on every wall, epoch ms."""
        return self._leapt + int(self.loop.now * 1_000)

    def leap_to(self, moment: int) -> None:
        """Let days pass in which nothing happens."""
        self.broker.flush()
        self._leapt += max(0, moment - self.wall())
        self.note("world", f"leaps to day {(self.wall() - START) / DAY_MS:.3f}")

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        if self.verbose:
            self.trace.append(f"{self.loop.now:9.3f} {self.loop.steps:6} {who:8} {what}")

    # -- the catalog -----------------------------------------------------------------------------

    def publish_catalog(self, revision: int) -> None:
        """Put a revision on the catalog topic."""
        self.revision = revision
        self.note("world", f"publishes catalog {revision}")
        for waiter in self._published:
            if not waiter.done():
                waiter.set_result(None)
        self._published.clear()

    async def follow(self, *_: Any, **_every: Any) -> AsyncIterator[Catalog]:
        """As `metering.catalog.reader.follow`: each process learns a revision at its own moment."""
        known = 0
        while True:
            if known == self.revision:
                waiter = self.loop.create_future()
                self._published.append(waiter)
                await waiter
            elif known == 0 and self.revision > 1 and self.chance.hits("catalog behind"):
                known = self.chance.random.randint(1, self.revision - 1)
                yield catalog(known)
            else:
                if known and self.chance.hits("catalog late"):
                    await asyncio.sleep(8 * self.chance.random.random())
                known = self.revision
                yield catalog(known)

    async def catalog_is_known(self) -> None:
        """Wait until every worker that lives has the newest revision."""
        while self._is_catalog_late():  # noqa: ASYNC110 - nobody can tell us
            await asyncio.sleep(0.3)

    def _is_catalog_late(self) -> bool:
        known = [w.catalog.revision if w.catalog else 0 for _, w in self.live_workers()]
        return any(revision < self.revision for revision in known)

    def live_workers(self) -> list[tuple[Process, Worker]]:
        """Every worker that runs or sleeps."""
        return [(p, m.owner) for p, m in self.lives.items() if p.alive and isinstance(m.owner, Worker)]
