"""Worker and sink as processes of their own: started, watched, started again when they die."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from metering.local import parts, process
from metering.settings import Settings

_STOP_SECONDS = 15.0


class Pipeline:
    """The processes of one deployment on this machine."""

    def __init__(
        self,
        settings: Settings,
        local: Settings,
        workers: int,
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._local = local
        self._tell = tell
        self.restarts: dict[str, int] = {}
        self._names = [f"worker-{n + 1}" for n in range(workers)] + ["sink-1"]

    @property
    def folder(self) -> Path:
        """Where pid files and logs are."""
        return self._settings.home / "run"

    def start(self) -> None:
        """Start every process."""
        for name in self._names:
            self._start(name)

    def _start(self, name: str) -> None:
        command = [sys.executable, "-m", "metering", name.partition("-")[0]]
        process.start(
            command,
            pid_file=self._pid_file(name),
            log_file=self.folder / f"{name}.log",
            env={**environment(self._settings), "METERING_INSTANCE": name},
        )

    def _pid_file(self, name: str) -> Path:
        return self.folder / f"{name}.pid"

    def watch(self) -> None:
        """Start again what has died; nothing was acknowledged, so a restart is exact."""
        for name in self._names:
            if process.find(self._pid_file(name)) is None:
                self._count(name)
                self._start(name)
        for part in (parts.KAFKA, parts.CLICKHOUSE):
            if not parts.is_alive(self._local, part):
                self._count(part)
                parts.restart(self._local, part)

    def _count(self, name: str) -> None:
        self.restarts[name] = self.restarts.get(name, 0) + 1
        self._tell(f"[yellow]{name} died; starting it again[/]")

    def stop(self) -> None:
        """Stop every process by its id."""
        for name in self._names:
            process.stop(self._pid_file(name), seconds=_STOP_SECONDS)

    def pids(self) -> dict[str, int]:
        """The process ids, for a reader who wants to kill one."""
        found = {name: process.find(self._pid_file(name)) for name in self._names}
        return {name: running.pid for name, running in found.items() if running}


def environment(settings: Settings) -> dict[str, str]:
    """The environment that gives a child process the same settings."""
    own = {
        "KAFKA_BROKERS": settings.kafka_brokers,
        "CLICKHOUSE_URL": settings.clickhouse_url,
        "METERING_KAFKA_SIMULATED": "1" if settings.kafka_simulated else "",
        "METERING_HOME": str(settings.home.resolve()),
        "METERING_DATABASE": settings.database,
        "METERING_TOPIC_PREFIX": settings.topic_prefix,
        "METERING_PARTITIONS": str(settings.partitions),
        "METERING_REPLICATION_FACTOR": str(settings.replication_factor),
        "METERING_EPOCH": str(settings.epoch),
        "METERING_CHECKPOINT_SECONDS": str(settings.checkpoint_seconds),
        "METERING_QUOTA_PUSH_SECONDS": str(settings.quota_push_seconds),
        "METERING_QUOTA_LAG_MS": str(settings.quota_lag_ms),
        "METERING_TICK_IDLE_SECONDS": str(settings.tick_idle_seconds),
        "METERING_CLOSE_GRACE_HOURS": str(settings.close_grace_hours),
        "METERING_MEMORY_IDS": str(settings.memory_ids),
        "METERING_COMPILED": str(settings.compiled).lower(),
        "METERING_MAX_FUTURE_SECONDS": str(settings.max_future_seconds),
        "METERING_SINK_BATCH_ROWS": str(settings.sink_batch_rows),
        "METERING_SINK_BATCH_SECONDS": str(settings.sink_batch_seconds),
        "METERING_LEDGER_URL": settings.ledger_url,
        "METERING_LOG_LEVEL": settings.log_level,
    }
    own |= {"METERING_BILLING_FILE": str(settings.billing_file)} if settings.billing_file else {}
    return {k: v for k, v in own.items() if v or k in os.environ}
