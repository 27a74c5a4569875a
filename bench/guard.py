"""The guard of CI: CPU time an event of the pure meter fold, as a ratio to a loop in the same process.

Both run in turn on the same seeded batches, and each counts with its fastest repeat: what slows the
machine slows both. The committed ratio stands in `guard.json`; `python -m bench check --record` writes
the one of now.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.load import Expected, Load, catalog_text
from metering.catalog.load import load_texts
from metering.catalog.resolved import Catalog
from metering.console import console
from metering.state.fold import Chunk
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules

FILE = Path(__file__).with_name("guard.json")
MARGIN = 1.35  # repeats of one ratio on a busy machine differ by less
LOAD = Load(events=40_000, customers=200, partitions=1, copies=0.01)
_BATCH, _CHECKPOINT = 500, 20_000  # events, as a fetch and a second hold them
_REPEATS = 7
_APPENDED = 1_767_700_000_000


class Times(NamedTuple):
    """CPU µs an event, the fastest of the repeats."""

    fold: float
    loop: float

    @property
    def ratio(self) -> float:
        """The fold as a multiple of the loop."""
        return self.fold / self.loop


def check(*, record: bool = False) -> int:
    """Compare with the committed ratio; 1 when the fold got clearly dearer."""
    times = measure()
    if record:
        FILE.write_text(json.dumps({"ratio": round(times.ratio, 3)}) + "\n")
    reference = float(json.loads(FILE.read_text())["ratio"])
    said = (
        f"fold {times.fold:.2f} µs an event, loop {times.loop:.2f} µs:"
        f" ratio {times.ratio:.2f}, committed {reference:.2f}, limit {reference * MARGIN:.2f}"
    )
    if is_worse(times.ratio, reference):
        console.print(f"[red]✗[/] {said}")
        console.print("the fold got dearer: find out why, or record it: python -m bench check --record")
        return 1
    console.print(f"[green]✓[/] {said}")
    return 0


def is_worse(ratio: float, reference: float) -> bool:
    """Whether a ratio is beyond what noise explains."""
    return ratio > reference * MARGIN


def measure() -> Times:
    """Fold and loop in turn, the fastest repeat of each."""
    catalog, chunks = batches()
    fold, loop = [], []
    for _ in range(_REPEATS):
        loop.append(_timed(lambda: reference_loop(chunks)))
        fold.append(_timed(lambda: fold_all(chunks, catalog)))
    events = sum(len(chunk.values) for chunk in chunks)
    return Times(min(fold) / events * 1e6, min(loop) / events * 1e6)


def batches() -> tuple[Catalog, list[Chunk]]:
    """The recorded batches: made from a seed, so that nobody has to keep them."""
    catalog = load_texts({"catalog.yaml": catalog_text(LOAD.customers)})
    values = [record.value for record in LOAD.records(Expected())]
    chunks = []
    for first in range(0, len(values), _BATCH):
        part = values[first : first + _BATCH]
        stop = first + len(part)
        chunks.append(Chunk(first, stop, range(first, stop), part, _APPENDED))
    return catalog, chunks


def fold_all(chunks: Sequence[Chunk], catalog: Catalog) -> MeterFold:
    """A fresh fold over all batches, with the pure part of its checkpoints."""
    fold = MeterFold(MeterRules(0, 1, "usage.events", "usage.hourly", "usage.rejected"))
    for chunk in chunks:
        fold.fold([chunk], catalog)
        if chunk.next % _CHECKPOINT == 0:
            fold.changes()
    fold.changes()
    return fold


def reference_loop(chunks: Sequence[Chunk]) -> dict[tuple[str, str, int], int]:
    """What a script would do: the standard library's decoder, a set, a dictionary."""
    seen: set[tuple[str, str]] = set()
    totals: dict[tuple[str, str, int], int] = {}
    for chunk in chunks:
        for value in chunk.values:
            event = json.loads(value or b"")
            identity = (event["customer"], event["id"])
            if identity not in seen:
                seen.add(identity)
                place = (event["customer"], event["data"]["region"], event["time"] // 3_600_000)
                totals[place] = totals.get(place, 0) + event["data"]["n"]
    return totals


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
