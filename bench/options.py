"""What a run of the benchmarks can be told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.load import Load


@dataclass(frozen=True)
class Options:
    """Sizes, repeats and the shape of the load; every row says what it takes of it."""

    events: int = 1_000_000
    repeats: int = 3
    ids: int = 10_000_000  # of earlier days, for the deep row
    rate: int = 20_000  # events a second while latency is measured
    seconds: int = 60
    file: Path = Path(".metering/bench/results.json")
    load: dict[str, Any] = field(default_factory=dict)  # overrides of the load's fields
    peers: tuple[str, ...] = ()

    def loaded(self, **defaults: Any) -> Load:
        """The load of a row: its own defaults, then what the caller asked for."""
        return Load(**{"events": self.events, **defaults, **self.load})
