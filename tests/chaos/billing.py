"""Billing sync beside the run: rounds in a process of their own, some killed, some without an answer."""

import json
import os
import random
import signal
import sys
import threading
import time
import urllib.request

from metering.demo.pipeline import environment
from metering.local import process
from tests.chaos.world import World

_COMMAND = [sys.executable, "-c", "from billing_sync.cli import main; main()", "run", "--once"]
_ROUND_SECONDS = 120.0
_PAUSE_SECONDS = 4.0
_LONGEST_LIFE = 3.5  # seconds after which a round is killed, at most


class Billing:
    """Rounds of billing; counts those that were killed and the answers that were lost."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._chance = random.Random(f"billing {seed}")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._rounds, daemon=True)
        self.rounds = self.killed = self.dropped = 0

    def begin(self) -> None:
        """Bill again and again in the background."""
        self._thread.start()

    def end(self) -> None:
        """Stop the background rounds."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_ROUND_SECONDS)

    def _rounds(self) -> None:
        while not self._over.wait(_PAUSE_SECONDS):
            self.hurt()

    def hurt(self) -> None:
        """One round that loses answers and may be killed in the middle."""
        self.lose_answers()
        self.round(self._chance.uniform(0.8, _LONGEST_LIFE) if self._chance.random() < 0.7 else None)

    def lose_answers(self) -> None:
        """The fake drops connections, before or after it has done what was asked."""
        fault = {"kind": "drop", "when": self._chance.choice(("before", "after"))}
        body = json.dumps({**fault, "skip": self._chance.randrange(6), "count": 1}).encode()
        request = urllib.request.Request(f"{self._base}/admin/faults", body, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10):
                self.dropped += 1
        except OSError as error:
            self._world.tell(f"the Stripe fake does not answer: {error}")

    def round(self, kill_after: float | None = None) -> None:
        """One round, killed after some seconds if it still runs."""
        self.rounds += 1
        own = self._world.settings
        pid_file = own.home / "run" / "billing.pid"
        running = process.start(
            _COMMAND,
            pid_file=pid_file,
            log_file=own.home / "run" / "billing.log",
            env={**environment(own), "STRIPE_API_BASE": self._base},
        )
        deadline = time.monotonic() + (kill_after or _ROUND_SECONDS)
        while running.is_alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        if running.is_alive():
            os.kill(running.pid, signal.SIGKILL)
            self.killed += 1
            while running.is_alive():
                time.sleep(0.05)

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self._world.fleet.stripe_port}"
