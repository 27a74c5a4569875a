"""How many charge rows a second one core rates (CPU time): numpy, plain ints, and a loop over Decimals.

Run as `python -m tests.bench.bench_rating [--json FILE]`. A row is one F of a cumulative quantity
under a graduated price of three tiers. Every way must give the same charges, or nothing is printed.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import process_time
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from metering.rating.cards import ONE, RATE_ONE, Price, Tier
from metering.rating.charge import charge
from metering.rating.vector import Ints, charges, hourly_charges

REPEATS = 5
ROWS = 1_000_000
SAMPLE = 50_000  # rows of the loops in Python
KEYS, HOURS = 1_344, 744  # about as many rows, in months of 31 days
CHECKED_KEYS = 40
MICRO = Decimal("0.000001")
DECIMAL = "Decimal loop"


def price(*unit_prices: str) -> Price:
    """Up to 1,000 units, up to 100,000, and beyond."""
    bounds = (1_000 * ONE, 100_000 * ONE, None)
    rates = [int(Decimal(text) * RATE_ONE) for text in unit_prices]
    return Price("graduated", tuple(Tier(up_to, rate) for up_to, rate in zip(bounds, rates, strict=True)))


CENTS = price("0.0100", "0.0080", "0.0050")
TINY = price("0.012345678901", "0.009876543211", "0.005432109877")
CARDS = {  # by the decimals of their prices: fewer ones cancel
    "4 decimals": CENTS,
    "12 decimals": TINY,
}


class Timing(NamedTuple):
    """CPU nanoseconds a row, over the repeats."""

    name: str
    best: float
    median: float


DecimalTier = tuple[Decimal | None, Decimal]


def decimal_tiers(of: Price) -> list[DecimalTier]:
    return [
        (None if t.up_to is None else Decimal(t.up_to) / ONE, Decimal(t.unit_price) / RATE_ONE)
        for t in of.tiers
    ]


def decimal_charge(tiers: Sequence[DecimalTier], quantity: Decimal) -> Decimal:
    """Graduated pricing as a person would write it, exact for the quantities here."""
    total = start = Decimal(0)
    for up_to, unit_price in tiers:
        if quantity <= start:
            break
        end = quantity if up_to is None else min(quantity, up_to)
        total += (end - start) * unit_price
        start = end
    return total.quantize(MICRO, ROUND_HALF_UP)


def decimal_loop(of: Price, quantities: Sequence[Decimal]) -> list[Decimal]:
    tiers = decimal_tiers(of)
    return [decimal_charge(tiers, quantity) for quantity in quantities]


def int_loop(of: Price, quantities: Sequence[int]) -> list[int]:
    return [charge(of, quantity) for quantity in quantities]


def usage() -> tuple[Ints, Ints, Ints]:
    """Cumulative whole and fractional quantities over all three tiers, and hours of key-months."""
    random = np.random.default_rng(1)
    whole = random.integers(0, 200_000, ROWS) * ONE
    fractional = random.integers(0, 200_000 * ONE, ROWS)
    return whole, fractional, random.integers(0, 500 * ONE, (KEYS, HOURS))


def decimals(quantities: Ints) -> list[Decimal]:
    return [Decimal(quantity) / ONE for quantity in quantities.tolist()]


def verify(of: Price, whole: Ints, fractional: Ints, hours: Ints) -> None:
    """Stop unless numpy, ints and Decimals agree on each charge, and so on every sum."""
    for quantities in (whole[:SAMPLE], fractional[:SAMPLE]):
        amounts = charges(of, quantities).tolist()
        by_decimal = [int(amount / MICRO) for amount in decimal_loop(of, decimals(quantities))]
        same(amounts, int_loop(of, quantities.tolist()), "plain ints")
        same(amounts, by_decimal, DECIMAL)
    for used, row in zip(hours[:CHECKED_KEYS], hourly_charges(of, hours[:CHECKED_KEYS]), strict=True):
        after = [0, *(int(a / MICRO) for a in decimal_loop(of, decimals(np.cumsum(used))))]
        same(row.tolist(), [b - a for a, b in pairwise(after)], "hours")
    totals = hours.sum(axis=1)
    same([int(hourly_charges(of, hours).sum())], [int(charges(of, totals).sum())], "sum of the hours")


def same(found: list[int], expected: list[int], name: str) -> None:
    if found != expected or sum(found) != sum(expected):
        raise SystemExit(f"{name}: other charges than numpy")


def measure(name: str, rate: Callable[[], object], rows: int) -> Timing:
    rate()
    spent = []
    for _ in range(REPEATS):
        start = process_time()
        rate()
        spent.append((process_time() - start) / rows * 1e9)
    return Timing(name, min(spent), median(spent))


def timings() -> list[Timing]:
    whole, fractional, hours = usage()
    found = []
    for label, of in CARDS.items():
        verify(of, whole, fractional, hours)
        found += [
            measure(f"numpy {label}: whole", partial(charges, of, whole), ROWS),
            measure(f"numpy {label}: fractional", partial(charges, of, fractional), ROWS),
            measure(f"numpy {label}: {HOURS} h", partial(hourly_charges, of, hours), hours.size),
        ]
    ints, exact = fractional[:SAMPLE].tolist(), decimals(fractional[:SAMPLE])
    found.append(measure("plain ints (reference)", partial(int_loop, CENTS, ints), SAMPLE))
    found.append(measure(DECIMAL, partial(decimal_loop, CENTS, exact), SAMPLE))
    return found


def environment() -> dict[str, str | int]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpus": os.cpu_count() or 0,
        "machine": platform.machine(),
    }


def report(found: Sequence[Timing]) -> list[dict[str, str | float]]:
    """One record a way, with its rate at the best repeat and its ratio to the Decimal loop."""
    slowest = next(t for t in found if t.name == DECIMAL)
    return [
        {
            "name": t.name,
            "rows_per_second": round(1e9 / t.best),
            "ns_per_row_best": round(t.best, 2),
            "ns_per_row_median": round(t.median, 2),
            "times_decimal": round(slowest.best / t.best, 2),
        }
        for t in found
    ]


def show(records: Sequence[dict[str, str | float]]) -> None:
    about = environment()
    table = Table(title="Charge rows of a graduated price, one core, ratio to Decimals")
    table.add_column("prices and quantities", no_wrap=True)
    for heading in ("rows/s", "CPU ns/row", "median", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in records:
        table.add_row(
            str(r["name"]),
            f"{r['rows_per_second']:,}",
            f"{r['ns_per_row_best']:,.1f}",
            f"{r['ns_per_row_median']:,.1f}",
            f"{r['times_decimal']:,.2f}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"Python {about['python']}, numpy {about['numpy']}, {about['cpus']} CPUs, {about['machine']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Charge rows a second, by numpy, ints and Decimals.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    records = report(timings())
    show(records)
    if options.json is not None:
        options.json.write_text(json.dumps({"environment": environment(), "rows": records}, indent=2) + "\n")


if __name__ == "__main__":
    main()
