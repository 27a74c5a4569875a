"""Many seeds on all cores, or one with its trace: `make simulate SEEDS=10000`, `make simulate SEED=1234`."""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from tests.simulation.safeguards import BROKEN
from tests.simulation.simulate import Outcome, simulate

MOST_SHOWN = 5
CHUNK = 5
PROGRESS_SECONDS = 30.0
console = Console(width=120)


def _run_one(seed: int) -> Outcome:
    return simulate(seed)


def outcomes(first: int, count: int) -> Iterator[Outcome]:
    """Runs of some seeds on all cores, in no order."""
    with multiprocessing.get_context("forkserver").Pool(os.cpu_count()) as pool:
        yield from pool.imap_unordered(_run_one, range(first, first + count), CHUNK)


class Sums:
    """What all runs came to."""

    def __init__(self) -> None:
        self.figures: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.failed: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Take in one run."""
        found = outcome.verdict
        self.faults += outcome.faults
        self.figures.update(
            seeds=1,
            events=found.events,
            steps=outcome.steps,
            lost=found.lost,
            twice=found.twice,
            charges=found.charges,
            invoices=found.invoices,
        )
        if found.problems:
            self.failed.append(outcome)

    def table(self) -> Table:
        """One line."""
        names = ("Seeds", "Events", "Faults", "Lost", "Counted twice", "Charges wrong", "Invoices wrong")
        made = Table(*names, "Runs failed", box=box.HEAVY_HEAD)
        f = self.figures
        cells = (f["seeds"], f["events"], self.faults.total(), f["lost"], f["twice"])
        cells += (f["charges"], f["invoices"], len(self.failed))
        made.add_row(*(f"{cell:,}" for cell in cells))
        return made


def _many(first: int, count: int) -> int:
    sums, told = Sums(), time.monotonic()
    for outcome in outcomes(first, count):
        sums.add(outcome)
        if outcome.verdict.problems and len(sums.failed) <= MOST_SHOWN:
            _tell(outcome)
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            console.print(f"{sums.figures['seeds']:,} of {count:,} seeds, {len(sums.failed)} failed")
    console.print(sums.table())
    console.print("Faults: " + ", ".join(f"{n:,} {kind}" for kind, n in sums.faults.most_common()))
    return 1 if sums.failed else 0


def _tell(outcome: Outcome) -> None:
    console.print(f"[red]seed {outcome.seed} failed[/]; again: make simulate SEED={outcome.seed}")
    for problem in outcome.verdict.problems[:MOST_SHOWN]:
        console.print(f"  {problem}", markup=False)


def _single(seed: int, *, trace: bool) -> int:
    outcome = simulate(seed, verbose=True)
    if trace:
        sys.stdout.writelines(f"{line}\n" for line in outcome.trace)
    console.print(f"seed {seed}: {outcome.verdict.events} events, {outcome.steps} steps, {outcome.digest}")
    console.print(f"faults: {dict(outcome.faults.most_common())}")
    for problem in outcome.verdict.problems:
        console.print(problem, markup=False)
    return 1 if outcome.verdict.problems else 0


def _safeguards() -> int:
    """How long each broken safeguard stays hidden."""
    table = Table("Broken", "Seeds until the books are wrong", "What is wrong first", box=box.SIMPLE_HEAD)
    for broken in BROKEN:
        with broken.patched():
            seed = broken.first_wrong()
            problems = [] if seed is None else simulate(seed, focus=broken.focus).verdict.problems
        told = [p for p in problems if not p.startswith("counters")] + [*problems, ""]
        table.add_row(broken.name, "none is" if seed is None else str(seed + 1), told[0][:70])
    console.print(table)
    return 0


def main() -> int:
    """Run what was asked for; the exit code is 1 when a run failed."""
    parser = argparse.ArgumentParser(description="Deterministic simulation of the whole engine")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: every line of its trace")
    parser.add_argument("--safeguards", action="store_true", help="break each, and see how soon it shows")
    chosen = parser.parse_args()
    if chosen.safeguards:
        return _safeguards()
    if chosen.seed is not None:
        return _single(chosen.seed, trace=chosen.trace)
    return _many(chosen.first, chosen.seeds)


if __name__ == "__main__":
    raise SystemExit(main())
