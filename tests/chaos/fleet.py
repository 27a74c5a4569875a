"""Workers, the sink and the Stripe fake as processes: started, hurt, and started again by a watch."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from metering.demo.pipeline import environment
from metering.local import parts, process
from metering.settings import Settings
from tests.chaos.clock import Clocks

SINK, STRIPE = "sink-1", "stripe"
_WATCH_SECONDS, _AGAIN_SECONDS = 0.5, 1.5
_STOP_SECONDS = 20.0


class Fleet:
    """The processes that should run; what dies unasked is started again within seconds."""

    def __init__(self, settings: Settings, local: Settings, clocks: Clocks, tell: Callable[[str], None]):
        self._settings, self._local, self._clocks, self._tell = settings, local, clocks, tell
        self.restarts: Counter[str] = Counter()
        self.stripe_port = process.free_port()
        self._wanted: set[str] = set()
        self._held: Counter[str] = Counter()
        self._started: dict[str, float] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._keep_running, daemon=True)

    @property
    def workers(self) -> list[str]:
        """The names of the workers that should run."""
        return sorted(name for name in self._wanted if name.startswith("worker"))

    def begin(self, names: list[str]) -> None:
        """Start processes and the watch over them."""
        for name in names:
            self.start(name)
        self._watch.start()

    def start(self, name: str) -> None:
        """Start a process that should run from now on."""
        with self._lock:
            self._wanted.add(name)
            self._started[name] = time.monotonic()
            process.start(
                self._command(name),
                pid_file=self._pid_file(name),
                log_file=self.log(name),
                env=self._environment(name),
            )

    def retire(self, name: str) -> None:
        """Tell a process to stop, for good."""
        with self._lock:
            self._wanted.discard(name)
        process.stop(self._pid_file(name), seconds=_STOP_SECONDS)

    def end(self) -> None:
        """Stop the watch and every process by its id."""
        self._over.set()
        if self._watch.is_alive():
            self._watch.join(30)
        for name in sorted(self._wanted, key=lambda n: n == STRIPE):
            running = process.find(self._pid_file(name))
            if running is not None:
                os.kill(running.pid, signal.SIGCONT)  # one that is stopped cannot hear us
            process.stop(self._pid_file(name), seconds=_STOP_SECONDS)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """The watch leaves this one alone meanwhile."""
        self._held[name] += 1
        try:
            yield
        finally:
            self._held[name] -= 1

    def hit(self, name: str, number: int) -> int:
        """Send a signal; the process id that it went to."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def pid(self, name: str) -> int:
        """The process id of one that runs; waits a while for a restart."""
        file = self._local.home / "local" / name / "pid"
        file = file if name in (parts.KAFKA, parts.CLICKHOUSE) else self._pid_file(name)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            running = process.find(file)
            if running is not None:
                return running.pid
            time.sleep(0.1)
        raise AssertionError(f"{name} does not run")

    def is_running(self, name: str) -> bool:
        """Whether a process of ours runs now."""
        return process.find(self._pid_file(name)) is not None

    def log(self, name: str) -> Path:
        """Where a process writes what it does."""
        return self._settings.home / "run" / f"{name}.log"

    def _pid_file(self, name: str) -> Path:
        return self._settings.home / "run" / f"{name}.pid"

    def _command(self, name: str) -> list[str]:
        if name == STRIPE:
            state = str(stripe_state(self._settings))
            module = ["billing_sync.stripe_fake", "--port", str(self.stripe_port), "--state", state]
        else:
            module = ["metering", name.partition("-")[0]]
        return [sys.executable, "-m", *module]

    def _environment(self, name: str) -> dict[str, str]:
        own = {**environment(self._settings), "METERING_INSTANCE": name}
        return own if name == STRIPE else {**own, **self._clocks.environment(name)}

    def _keep_running(self) -> None:
        while not self._over.wait(_WATCH_SECONDS):
            with self._lock:
                for name in sorted(self._wanted):
                    if not self._held[name] and not self.is_running(name):
                        self._again(name)
            for part in (parts.KAFKA, parts.CLICKHOUSE):
                if not self._held[part] and not parts.is_alive(self._local, part):
                    self.restarts[part] += 1
                    self._tell(f"{part} died unasked; starting it again")
                    parts.restart(self._local, part)

    def _again(self, name: str) -> None:
        if time.monotonic() - self._started.get(name, 0.0) > _AGAIN_SECONDS:
            self.restarts[name] += 1
            self.start(name)


def stripe_state(settings: Settings) -> Path:
    """Where the Stripe fake keeps what it holds."""
    return settings.home / "stripe" / "fake.sqlite3"
