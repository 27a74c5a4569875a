"""The guard of CI: CPU time an event of the pure meter fold, as a ratio to a loop in the same process.

They run in turn on the same seeded batches, and each counts with its fastest repeat: what slows the machine
slows all. The committed ratios stand in `guard.json`; `python -m bench check --record` writes those of now.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.load import Expected, Load, catalog_text
from metering import native
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
    """CPU µs an event, the fastest of the repeats: the loop, and the fold by its way of reading."""

    loop: float
    folds: Mapping[str, float]

    def ratio(self, way: str) -> float:
        """The fold as a multiple of the loop."""
        return self.folds[way] / self.loop


def check(*, record: bool = False) -> int:
    """Compare with the committed ratios; 1 when a fold got clearly dearer."""
    times = measure()
    if record:
        ratios = {way: round(times.ratio(way), 3) for way in times.folds}
        FILE.write_text(json.dumps({**_committed(), **ratios}) + "\n")
    return max(_judge(way, times, _committed()[way]) for way in times.folds)


def _committed() -> dict[str, float]:
    found: dict[str, float] = json.loads(FILE.read_text())
    return found


def _judge(way: str, times: Times, committed: float) -> int:
    said = (
        f"fold, {way}: {times.folds[way]:.2f} µs an event, loop {times.loop:.2f} µs:"
        f" ratio {times.ratio(way):.2f}, committed {committed:.2f}, limit {committed * MARGIN:.2f}"
    )
    if is_worse(times.ratio(way), committed):
        console.print(f"[red]✗[/] {said}")
        console.print("the fold got dearer: find out why, or record it: python -m bench check --record")
        return 1
    console.print(f"[green]✓[/] {said}")
    return 0


def is_worse(ratio: float, reference: float) -> bool:
    """Whether a ratio is beyond what noise explains."""
    return ratio > reference * MARGIN


def measure() -> Times:
    """Loop and folds in turn, the fastest repeat of each; the compiled one where it was built."""
    catalog, chunks = batches()
    events = sum(len(chunk.values) for chunk in chunks)
    ways = {"plain": False} if native.scan is None else {"plain": False, "compiled": True}
    fastest = dict.fromkeys(("loop", *ways), float("inf"))
    for _ in range(_REPEATS):
        fastest["loop"] = min(fastest["loop"], _timed(lambda: reference_loop(chunks)))
        for way, compiled in ways.items():
            took = _timed(partial(fold_all, chunks, catalog, compiled=compiled))
            fastest[way] = min(fastest[way], took)
    each = {way: seconds / events * 1e6 for way, seconds in fastest.items()}
    return Times(each.pop("loop"), each)


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


def fold_all(chunks: Sequence[Chunk], catalog: Catalog, *, compiled: bool) -> MeterFold:
    """A fresh fold over all batches, with the pure part of its checkpoints."""
    fold = MeterFold(MeterRules(0, 1, "usage.events", "usage.hourly", "usage.rejected", compiled=compiled))
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
