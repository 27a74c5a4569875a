"""What every peer is told and what it tells back; standard library only, because peers have their own.

A peer reads its orders from the file named by BENCH_ORDERS, waits at the gate (a file that appears),
consumes exactly `records` records, and reports its own CPU time as it goes: first at the gate, last when
its result is durable. Then it writes its totals: `customer|region|hour` to (quantity, events).
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

_GATE_SECONDS = 120.0
_REPORT_SECONDS = 0.2
_HOUR_MS = 3_600_000


class Orders:
    """The orders of one run."""

    def __init__(self) -> None:
        told = json.loads(Path(os.environ["BENCH_ORDERS"]).read_text())
        self.brokers: str = told["brokers"]
        self.topic: str = told["topic"]
        self.group: str = told["group"]
        self.partitions: int = told["partitions"]
        self.records: int = told["records"]
        self.commit_seconds: float = told["commit_seconds"]
        self.folder = Path(told["folder"])
        self._progress: TextIO | None = None
        self._reported = 0.0

    def wait_at_gate(self) -> None:
        """Say that everything is loaded, and wait until the measurement begins."""
        (self.folder / "ready").touch()
        deadline = time.monotonic() + _GATE_SECONDS
        while not (self.folder / "gate").exists():
            if time.monotonic() > deadline:
                raise SystemExit(f"the gate did not open within {_GATE_SECONDS} s")
            time.sleep(0.02)
        self._progress = (self.folder / "progress").open("w")
        self._write(0)

    def report(self, records: int) -> None:
        """Say how many records were taken; cheap enough to call often."""
        now = time.monotonic()
        if now - self._reported > _REPORT_SECONDS:
            self._reported = now
            self._write(records)

    def finish(self, totals: Mapping[str, tuple[int, int]]) -> None:
        """Say that everything is durable, then hand over the totals."""
        self._write(self.records)
        partial = self.folder / "totals.part"
        partial.write_text(json.dumps(totals))
        partial.rename(self.folder / "totals.json")

    def _write(self, records: int) -> None:
        assert self._progress is not None, "wait at the gate first"
        self._progress.write(f"{records} {time.process_time():.3f} {time.time():.3f}\n")
        self._progress.flush()


def place_of(customer: str, region: str, at: int) -> str:
    """The key of an hourly total."""
    return f"{customer}|{region}|{at // _HOUR_MS * 3_600}"
