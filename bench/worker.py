"""The real worker as a process: started, held at its gate, measured from there to its last durable event."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from bench.machine import Usage, usage_of
from bench.progress import GroupProgress
from metering.demo.pipeline import environment
from metering.errors import UserError
from metering.local import process
from metering.settings import Settings
from metering.topics import Names

GATE = "no_catalog_published"  # the worker is up and owns its partitions, and has no prices yet
ASSIGNED = "partitions_assigned"
_LOOK_SECONDS = 0.05
_STOP_SECONDS = 30.0


class Died(UserError):
    """A process that ended by itself: what was measured is void, though nothing is lost."""


class Worker:
    """One metering worker or sink process of a deployment."""

    def __init__(self, deployment: Settings, name: str = "worker-1") -> None:
        self.deployment, self.name = deployment, name
        folder = deployment.home / "run"
        self._pid_file, self.log = folder / f"{name}.pid", folder / f"{name}.log"
        self._read_from = 0

    def start(self) -> None:
        """Start the process; what its log held before does not count any more."""
        self._read_from = self.log.stat().st_size if self.log.exists() else 0
        process.start(
            [sys.executable, "-m", "metering", self.name.partition("-")[0]],
            pid_file=self._pid_file,
            log_file=self.log,
            env={**environment(self.deployment), "METERING_INSTANCE": self.name},
        )

    def stop(self) -> None:
        """Tell it to stop, and wait."""
        process.stop(self._pid_file, seconds=_STOP_SECONDS)

    def kill(self) -> None:
        """End it at once, without a last checkpoint."""
        process.stop(self._pid_file, seconds=0.0)

    @property
    def pid(self) -> int:
        """Its process id; UserError with the end of its log when it has died."""
        running = process.find(self._pid_file)
        if running is None:
            tail = "\n".join(self._lines()[-8:])
            raise Died(f"{self.name} died:\n{tail}", hint=f"see {self.log}")
        return running.pid

    def usage(self) -> Usage:
        """What it has used so far."""
        return usage_of(self.pid)

    def _lines(self) -> list[str]:
        if not self.log.exists():
            return []
        return self.log.read_bytes()[self._read_from :].decode(errors="replace").splitlines()

    def said(self, event: str) -> float | None:
        """When its log last said something since its start; None when it has not."""
        for line in reversed(self._lines()):
            if f'"{event}"' in line:
                return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
        return None

    def wait_until_said(self, event: str, seconds: float) -> float:
        """Wait for an event of its log; when it was."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            when = self.said(event)
            if when is not None:
                return when
            _ = self.pid
            time.sleep(_LOOK_SECONDS)
        raise UserError(f"{self.name} did not say {event} within {seconds:.0f} s", hint=f"see {self.log}")


@contextmanager
def running(deployment: Settings, *names: str) -> Iterator[list[Worker]]:
    """Processes of a deployment, stopped by their ids at the end."""
    workers = [Worker(deployment, name) for name in names or ("worker-1",)]
    try:
        for one in workers:
            one.start()
        yield workers
    finally:
        for one in workers:
            one.stop()


class Durable:
    """Watches until everything in `usage.events` and what follows from it is durable."""

    def __init__(self, deployment: Settings) -> None:
        names = Names(deployment)
        self._count = deployment.partitions
        self._events, self._hourly = names.events, names.hourly
        self._group = GroupProgress(deployment.brokers(), names.worker_group)

    def __enter__(self) -> "Durable":
        self._group.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._group.__exit__(None, None, None)

    def events(self) -> int:
        """Records of `usage.events` that are folded and durable."""
        return self._group.committed(self._events, self._count)

    def end(self) -> int:
        """Records in `usage.events`."""
        return self._group.end(self._events, self._count)

    def is_whole(self) -> bool:
        """Whether all records, and all hourly totals of them, are folded and durable."""
        if self.events() < self.end():
            return False
        hourly = self._group.end(self._hourly, self._count)
        return self._group.committed(self._hourly, self._count) >= hourly

    def watch(self, workers: list[Worker], seconds: float) -> Iterator[tuple[float, int]]:
        """Time and durable records, again and again, until the whole is durable."""
        deadline, end = time.monotonic() + seconds, self.end()
        while time.monotonic() < deadline:
            events = self.events()
            yield time.time(), events
            if events >= end and self.is_whole():
                return
            for one in workers:
                _ = one.pid
            time.sleep(_LOOK_SECONDS)
        raise UserError(f"{self.events():,} of {end:,} records were durable after {seconds:.0f} s")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
