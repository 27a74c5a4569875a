"""The scaling model: machines, memory, Kafka and ClickHouse at sizes that no machine here can run.

It multiplies measured costs; it knows nothing of networks between machines, nor of replication lag.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.fit import Coefficients, Point, fit, points
from bench.page import RESULTS, ROOT, line
from bench.results import read, rows
from metering.console import console
from metering.errors import UserError

_PAGE = ROOT / "docs" / "scaling.md"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
EVENTS_A_METER = 10.0  # events a second of one active customer-meter: a second publishes its total once
HORIZON_SECONDS, RETENTION_SECONDS = 35 * 86_400, 40 * 86_400
CORES, MEMORY, DISK, NETWORK = 16, 64 * 2**30, 8 * 10**12, 1.25e9  # of a machine; the network in bytes/s
LOAD = 0.6  # of a machine: the rest is for catching up
REPLICAS = 3
MEMORY_IDS = 1_000_000  # of a partition
OPEN_HOURS = 24 * 31  # hours of totals that a month keeps open
ROW_BYTES = 31  # an archived event in ClickHouse, compressed: 5.7 GiB for 200 million

_HEAD = """# Scaling

Made by `python -m bench model` from the result files in `docs/bench/`. The model multiplies costs that were
measured on one core; the last table compares it with every measured point.

Assumed: a machine has {cores} cores, {memory} GiB, {disk:.0f} TB of disk and {network:.1f} GB/s of
network, and is used to {load:.0%}, so that it can catch up. An active customer-meter sends {each:.0f}
events a second. Kafka keeps {replicas} copies, events for {retention} days, ids for {horizon} days. The
archive keeps a month in ClickHouse, {row} bytes an event.

"""


class Need(NamedTuple):
    """One resource at one size: how much, in words, and how many machines it would fill."""

    name: str
    text: str
    machines: float


def main(files: Sequence[Path]) -> int:
    """Write the page; without files, from all results that are committed."""
    chosen = list(files) or sorted(RESULTS.glob("*.json"))
    if not chosen:
        raise UserError(f"no results in {RESULTS}", hint="copy the JSON of `make bench` there")
    everything = {row.name: row for file in chosen for row in rows(read(file)[1])}
    known = fit(everything)
    _PAGE.write_text(_head() + _costs(known) + _sizes(known) + _check(points(everything, known)))
    console.print(f"{_PAGE.relative_to(ROOT)} written")
    return 0


def needs(rate: float, known: Coefficients) -> list[Need]:
    """Every resource at a rate of events a second."""
    totals = rate / EVENTS_A_METER
    worker = rate * known.event_cpu + totals * known.total_cpu
    broker = (rate * known.broker_event_cpu + totals * known.broker_total_cpu) * REPLICAS
    rows_a_second = rate + 2 * totals
    stored = known.event_bytes * RETENTION_SECONDS + known.journal_bytes * HORIZON_SECONDS
    written = rate * (known.event_bytes + known.journal_bytes)
    written += totals * (known.total_bytes + known.journal_total_bytes)
    partitions = workers(rate, known) * 4
    ids = min(rate * HORIZON_SECONDS, partitions * MEMORY_IDS)
    memory = workers(rate, known) * known.process_memory + ids * known.id_memory
    memory += totals * OPEN_HOURS * known.total_memory
    clickhouse = rows_a_second * known.clickhouse_cpu
    archive = rate * ROW_BYTES * 31 * 86_400
    return [
        Need("worker CPU", f"{worker:,.1f} cores", worker / (CORES * LOAD)),
        Need("worker memory", f"{memory / 2**30:,.0f} GiB", memory / MEMORY),
        Need("ids on the workers' disks", _size(rate * HORIZON_SECONDS * known.state_bytes),
             rate * HORIZON_SECONDS * known.state_bytes / DISK),
        Need("broker CPU", f"{broker:,.1f} cores", broker / (CORES * LOAD)),
        Need("Kafka's disks", _size(rate * stored * REPLICAS), rate * stored * REPLICAS / DISK),
        Need("Kafka's network", f"{_size(written * (REPLICAS + 2))}/s",
             written * (REPLICAS + 2) / (NETWORK * LOAD)),
        Need("sink CPU", f"{rows_a_second * known.sink_cpu:,.1f} cores",
             rows_a_second * known.sink_cpu / (CORES * LOAD)),
        Need("ClickHouse CPU", f"{clickhouse:,.1f} cores for {rows_a_second:,.0f} rows/s",
             clickhouse / (CORES * LOAD)),
        Need("ClickHouse's disks", _size(archive), archive / DISK),
    ]  # fmt: skip


def workers(rate: float, known: Coefficients) -> int:
    """Worker processes, one to a core."""
    cpu = rate * known.event_cpu + rate / EVENTS_A_METER * known.total_cpu
    return math.ceil(cpu / LOAD)


def bottleneck(found: Sequence[Need]) -> Need:
    """The resource that asks for the most machines first."""
    return max(found, key=lambda need: need.machines)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1_000:
            return f"{count:,.1f} {unit}"
        count /= 1_000
    return f"{count:,.1f} PB"


def _head() -> str:
    return _HEAD.format(
        cores=CORES,
        memory=MEMORY // 2**30,
        disk=DISK / 1e12,
        network=NETWORK / 1e9,
        load=LOAD,
        row=ROW_BYTES,
        each=EVENTS_A_METER,
        replicas=REPLICAS,
        retention=RETENTION_SECONDS // 86_400,
        horizon=HORIZON_SECONDS // 86_400,
    )


def _costs(known: Coefficients) -> str:
    text = "## What one unit costs\n\n" + line(("unit", "value")) + line(("---", "--:"))
    for name, value in known._asdict().items():
        is_cpu = name.endswith("cpu")
        shown = f"{value * 1e6:,.2f} µs" if is_cpu else f"{value:,.1f} bytes"
        text += line((name.replace("_", " "), shown))
    one = 1 / (known.event_cpu + known.total_cpu / EVENTS_A_METER)
    return (
        f"{text}\nOne partition is folded by one core: {one:,.0f} events/s is the most for one customer.\n\n"
    )


def _sizes(known: Coefficients) -> str:
    found = {rate: needs(rate, known) for rate in SIZES}
    text = "## Four sizes\n\n" + line(("", *(f"{rate:,} events/s" for rate in SIZES)))
    text += line(["---", *["--:"] * len(SIZES)])
    text += line(("worker processes", *(f"{workers(rate, known):,}" for rate in SIZES)))
    for number, need in enumerate(found[SIZES[0]]):
        text += line((need.name, *(found[rate][number].text for rate in SIZES)))
        machines = (f"{math.ceil(found[rate][number].machines):,}" for rate in SIZES)
        text += line(("… machines that fills", *machines))
    firsts = (f"**{bottleneck(found[rate]).name}**" for rate in SIZES)
    return text + line(("first bottleneck", *firsts)) + "\n"


def _check(found: Sequence[Point]) -> str:
    text = "## The model beside what was measured\n\n"
    text += line(("row", "quantity", "measured", "model", "model ÷ measured"))
    text += line(["---", "---", "--:", "--:", "--:"])
    for point in found:
        ratio = f"{point.predicted / point.measured:.2f}" if point.measured else ""
        text += line((point.row, point.quantity, f"{point.measured:,.1f}", f"{point.predicted:,.1f}", ratio))
    return text
