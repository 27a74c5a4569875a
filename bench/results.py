"""What a measurement found: one record a repeat, gathered to rows with minimum and median."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass
class Found:
    """One repeat of one row. CPU is µs an event, memory MiB, latencies seconds.

    `parts` are figures that only this row has; `before` and `after` are CPU seconds of the calibration
    loop; `lost` and `doubled` are counted against the naive model, in events.
    """

    row: str
    events: int
    seconds: float
    cpu: float
    broker_cpu: float = 0.0
    rss: float = 0.0
    lost: int = 0
    doubled: int = 0
    before: float = 0.0
    after: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    lacks: str = ""

    @property
    def rate(self) -> float:
        """Events a second of wall time."""
        return self.events / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Row:
    """All repeats of one row."""

    name: str
    repeats: Sequence[Found]

    def cpu(self) -> tuple[float, float]:
        """Minimum and median CPU µs an event."""
        found = [f.cpu for f in self.repeats]
        return min(found), median(found)

    def rate(self) -> tuple[float, float]:
        """Best and median events a second."""
        found = [f.rate for f in self.repeats]
        return max(found), median(found)

    @property
    def best(self) -> Found:
        """The repeat with the least CPU time."""
        return min(self.repeats, key=lambda f: f.cpu)


def rows(found: Iterable[Found]) -> list[Row]:
    """Repeats by row, in the order of their first one."""
    by_name: dict[str, list[Found]] = {}
    for one in found:
        by_name.setdefault(one.row, []).append(one)
    return [Row(name, repeats) for name, repeats in by_name.items()]


def write(file: Path, command: str, machine: dict[str, str], found: Sequence[Found]) -> None:
    """The results as JSON, with what they were measured on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    head = {
        "command": command,
        "at": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "machine": machine,
    }
    body = json.dumps({**head, "found": [asdict(f) for f in found]}, indent=1, default=str)
    file.write_text(body + "\n")


def read(file: Path) -> tuple[dict[str, Any], list[Found]]:
    """A results file: its head, and every repeat."""
    content = json.loads(file.read_text())
    found = [Found(**one) for one in content.pop("found")]
    return content, found
