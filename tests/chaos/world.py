"""A deployment of its own: folder, ports, Kafka, ClickHouse, topics, database; gone when it is left."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from metering.catalog.load import load_texts
from metering.catalog.publish import Published, publish
from metering.catalog.resolved import Catalog
from metering.local import parts
from metering.settings import Settings
from metering.sinks.migrate import migrate
from metering.topics import Names, apply
from tests.chaos import catalog, quotas
from tests.chaos.clock import Clocks
from tests.chaos.fleet import SINK, STRIPE, Fleet

FIRST_WORKERS = ["worker-1", "worker-2"]
SMALL_DISK = "worker-2"  # its state is on a file system of its own
_DISK = "1g"
_FOREIGN = ("METERING_", "KAFKA_", "CLICKHOUSE_", "STRIPE_")
_KEPT = ("METERING_CACHE", "METERING_LOCAL_KAFKA")


class World:
    """Everything that a chaos run needs; `tell` gets a line for what happens."""

    def __init__(
        self, home: Path, local: Settings, settings: Settings, tell: Callable[[str], None], events: int
    ) -> None:
        self.home, self.local, self.settings, self._tell = home, local, settings, tell
        self.events = events
        self.clocks = Clocks(home / "clocks")
        self.fleet = Fleet(settings, local, self.clocks, self.tell)
        self._began = time.monotonic()
        self.has_small_disk = False

    @property
    def state_folder(self) -> Path:
        """The state of the worker with the small disk."""
        return self.state_of(SMALL_DISK)

    def state_of(self, worker: str) -> Path:
        """The folder of a worker's state."""
        return self.settings.home / "state" / worker

    def begin_clock(self) -> None:
        """Seconds count from now on."""
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self._began

    def tell(self, line: str) -> None:
        """Say what happened, with its second."""
        self._tell(f"[dim]{self.seconds:6.1f} s[/]  {line}")

    def publish(self, revision: int) -> Published:
        """Put a revision of the catalog in force."""
        return asyncio.run(
            publish(self.settings.brokers(), Names(self.settings).catalog, self.catalog(revision))
        )

    def catalog(self, revision: int) -> Catalog:
        """The catalog of a revision."""
        return load_texts({"catalog.yaml": catalog.text(revision, quotas.texts(self.events))})

    def set_up(self) -> None:
        """Topics, schema, the first catalog, the small disk, and all processes."""
        asyncio.run(apply(self.settings))
        migrate(self.settings.clickhouse(), self.settings.database)
        self.publish(1)
        self._mount()
        self.fleet.begin([STRIPE, *FIRST_WORKERS, SINK])

    def _mount(self) -> None:
        self.state_folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "chaos", str(self.state_folder)]
        try:
            self.has_small_disk = subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            self.has_small_disk = False

    def take_down(self) -> None:
        """Stop what was started, by its id, and give the disk back."""
        self.fleet.end()
        parts.down(self.local)
        if self.has_small_disk:
            subprocess.run(["umount", "--lazy", str(self.state_folder)], capture_output=True, check=False)


@contextmanager
def world(tell: Callable[[str], None], events: int) -> Iterator[World]:
    """A running deployment for so many events; its folder stays until the caller removes it."""
    for variable in [v for v in os.environ if v.startswith(_FOREIGN) and v not in _KEPT]:
        del os.environ[variable]  # a developer's own deployment is not ours
    home = Path(tempfile.mkdtemp(prefix="metering-chaos-"))
    local = Settings(home=home)
    try:
        parts.up(local, lambda line: tell(f"[green]✓[/] {line}"))
        made = World(home, local, _settings(home, local), tell, events)
    except BaseException:
        parts.down(local)
        raise
    try:
        made.set_up()
        yield made
    finally:
        made.take_down()


def remove(home: Path) -> None:
    """Remove a run's folder."""
    shutil.rmtree(home, ignore_errors=True)


def _settings(home: Path, local: Settings) -> Settings:
    return local.model_copy(
        update={
            "home": home / "deployment",
            "kafka_brokers": local.brokers(),
            "kafka_simulated": local.is_simulated(),
            "clickhouse_url": local.clickhouse(),
            "database": "chaos",
            "topic_prefix": "chaos.",
            "partitions": 6,  # three for each of two workers, two for each of three: joining moves some
            "memory_ids": 20_000,  # ids go to files and come back from them
            # The months lie in the past: the run says itself when they are over.
            "tick_idle_seconds": 86_400.0,
        }
    )
