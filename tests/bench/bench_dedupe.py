"""Deduplication deep in state: `python -m tests.bench.bench_dedupe --ids 10000000`.

Fills 35 days of id files, then asks for new ids in batches, as a fold does, beside the same questions to
an empty state. Prints bytes an id on disk, microseconds an event, and the memory of the process.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from metering.state.dedupe import DAY_MS, HORIZON_DAYS, SeenIds
from metering.state.id_file import Ids, write_ids

BATCH = 1_000
ROUNDS = 300


def fill(folder: Path, count: int) -> int:
    """35 days of ids at random; bytes on disk."""
    chance = np.random.default_rng(7)
    for day in range(HORIZON_DAYS):
        size = count // HORIZON_DAYS
        high, low = (chance.integers(0, 2**64, size, np.uint64) for _ in range(2))
        write_ids(folder / f"{day:06d}-{day + 1:020d}.ids", day, day + 1, Ids(high, low))
    return sum(file.stat().st_size for file in folder.glob("*.ids"))


def ask(seen: SeenIds, rounds: int) -> float:
    """CPU microseconds an event for looking up ids that are not there and adding them."""
    chance = np.random.default_rng(rounds)
    packed = [chance.bytes(12 * BATCH) for _ in range(rounds)]
    began = time.process_time()
    for raw in packed:
        names = [raw[place : place + 12] for place in range(0, len(raw), 12)]
        known = seen.among(names)
        for name in names:
            if name not in known and seen.content(name) is None:
                seen.add(name, 1, HORIZON_DAYS * DAY_MS)
    return (time.process_time() - began) / (rounds * BATCH) * 1e6


def main() -> int:
    """Run it and print one table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--ids", type=int, default=10_000_000)
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        size = fill(folder, chosen.ids)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        empty, deep = SeenIds(), SeenIds(folder)
        deep._newest_day = HORIZON_DAYS
        deep._files = [file for day in deep._usable_files(10**9).values() for file in day]
        assert len(deep) >= chosen.ids - HORIZON_DAYS
        ask(deep, 20)  # the system's cache
        table = Table("What", "Value", title=f"{chosen.ids:,} ids in {HORIZON_DAYS} files")
        table.add_row("bytes an id on disk", f"{size / chosen.ids:.1f}")
        flat = min(ask(SeenIds(), ROUNDS) for _ in range(3))
        found = min(ask(deep, ROUNDS) for _ in range(3))
        table.add_row("µs an event, no files", f"{flat:.2f}")
        table.add_row("µs an event, all files", f"{found:.2f}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        table.add_row("memory before / at the end", f"{before / 1024:,.0f} / {peak / 1024:,.0f} MiB")
        table.add_row("10,000 events a second for 35 days", f"{size / chosen.ids * 30.24:,.0f} GB in all")
        Console().print(table)
        assert not empty.among([b"x" * 12])
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
