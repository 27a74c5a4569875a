"""Where a benchmark runs: a folder and ports of its own, the real Kafka, gone when it is left."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer

from bench.load import Expected, Load, Record
from metering.errors import UserError
from metering.local import parts, process
from metering.settings import Settings
from metering.sinks.migrate import migrate
from metering.topics import Names, apply

_FOREIGN = ("METERING_", "KAFKA_", "CLICKHOUSE_", "STRIPE_")
_KEPT = ("METERING_CACHE",)
_NOWHERE = "http://127.0.0.1:9"  # a row without ClickHouse must not reach one
_FLUSH_SECONDS = 120.0
_POLL_EVERY = 5_000

Tell = Callable[[str], None]


class World:
    """The parts of one benchmark run; each measurement takes a deployment of its own."""

    def __init__(self, home: Path, local: Settings, tell: Tell) -> None:
        self.home, self.local, self.tell = home, local, tell
        self.number = 0

    @property
    def brokers(self) -> str:
        """Kafka bootstrap servers."""
        return self.local.brokers()

    @property
    def broker_pid(self) -> int:
        """The broker's process id."""
        return self._pid(parts.KAFKA)

    @property
    def clickhouse_pid(self) -> int:
        """The process id of the embedded ClickHouse."""
        return self._pid(parts.CLICKHOUSE)

    def _pid(self, name: str) -> int:
        running = process.find(self.home / "local" / name / "pid")
        if running is None:
            raise UserError(f"{name} is not running any more", hint=f"see {self.home}/local/{name}")
        return running.pid

    def deployment(self, partitions: int = 4, *, database: bool = False) -> Settings:
        """A deployment with topics, folder and perhaps a database of its own."""
        self.number += 1
        name = f"b{self.number}"
        made = self.local.model_copy(
            update={
                "home": self.home / name,
                "kafka_brokers": self.brokers,
                "clickhouse_url": self.local.clickhouse() if database else _NOWHERE,
                "database": name,
                "topic_prefix": f"{name}.",
                "partitions": partitions,
                "instance": "worker-1",
                # The months lie in the past: nothing must close them while we measure.
                "tick_idle_seconds": 86_400.0,
            }
        )
        asyncio.run(apply(made))
        if database:
            migrate(made.clickhouse(), made.database)
        return made

    def fill(self, deployment: Settings, load: Load, expected: Expected) -> None:
        """Put a whole load into `usage.events`."""
        send(self.brokers, Names(deployment).events, load.records(expected), load.codec)


def send(brokers: str, topic: str, records: Iterable[Record], codec: str) -> None:
    """Produce records as an application would, with batches that fill; every one must arrive."""
    failed: list[str] = []

    def arrived(error: object, _: object) -> None:
        if error is not None:
            failed.append(str(error))

    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "compression.type": codec,
            "linger.ms": 50,
            "batch.size": 1 << 18,
            "message.max.bytes": 8 << 20,
            "queue.buffering.max.messages": 500_000,
            "enable.idempotence": True,
            "log_level": 3,  # a broker that has just started asks for patience
        }
    )
    for number, record in enumerate(records):
        while True:
            try:
                producer.produce(topic, record.value, record.key, record.partition, on_delivery=arrived)
                break
            except BufferError:
                producer.poll(0.1)
        if number % _POLL_EVERY == 0:
            producer.poll(0)
    left = producer.flush(_FLUSH_SECONDS)
    if left or failed:
        raise UserError(f"{left} records of the load did not arrive, {len(failed)} failed: {failed[:1]}")


@contextmanager
def world(tell: Tell, *, clickhouse: bool = False) -> Iterator[World]:
    """Kafka, and ClickHouse where a row needs it; stopped by their ids, the folder removed."""
    for variable in [v for v in os.environ if v.startswith(_FOREIGN) and v not in _KEPT]:
        del os.environ[variable]  # a developer's own deployment is not ours
    home = Path(tempfile.mkdtemp(prefix="metering-bench-"))
    local = Settings(home=home) if clickhouse else Settings(home=home, clickhouse_url=_NOWHERE)
    try:
        parts.up(local, lambda line: tell(f"[green]✓[/] {line}"))
        if local.is_simulated():
            raise UserError("only the simulated broker is here", hint="install Java 17 and Maven")
        yield World(home, local, tell)
    finally:
        parts.down(local)
        shutil.rmtree(home, ignore_errors=True)
