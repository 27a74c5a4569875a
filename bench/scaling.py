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

_UNKNOWN = "not measured"
_PAGE = ROOT / "docs" / "scaling.md"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
EVENTS_A_METER = 10.0  # events a second of one active customer-meter: a second publishes its total once
HORIZON_SECONDS, RETENTION_SECONDS = 35 * 86_400, 40 * 86_400
CORES, MEMORY, DISK, NETWORK = 16, 64 * 2**30, 8 * 10**12, 1.25e9  # of a machine; the network in bytes/s
LOAD = 0.6  # of a machine: the rest is for catching up
REPLICAS = 3
MEMORY_IDS, PARTITIONS_A_WORKER = 1_000_000, 4
OPEN_HOURS = 24 * 31  # hours of totals that a month keeps open
ROW_BYTES = 31  # an archived event in ClickHouse, compressed: 5.7 GiB for 200 million

_HEAD = """# Scaling

Made by `python -m bench model` from the result files in `docs/bench/`. The model multiplies costs that were
measured on one core; the last table compares it with every measured point.

Assumed: a machine has {cores} cores, {memory} GiB, {disk:.0f} TB of disk and {network:.1f}
GB/s of network, and is used to {load:.0%}, so that it can catch up. An active customer-meter
sends {each:.0f} events a second. Kafka keeps {replicas} copies, events for {retention} days,
ids for {horizon} days. The archive keeps a month in ClickHouse, {row} bytes an event.

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
    _PAGE.write_text(made_of(chosen))
    console.print(f"{_PAGE.relative_to(ROOT)} written")
    return 0


def made_of(files: Sequence[Path]) -> str:
    """The page of result files."""
    everything = {row.name: row for file in files for row in rows(read(file)[1])}
    known = fit(everything)
    return _head() + _costs(known) + _sizes(known) + _check(points(everything, known))


def needs(rate: float, known: Coefficients) -> list[Need]:
    """Every resource at a rate of events a second."""
    totals = rate / EVENTS_A_METER
    worker = rate * known.event_cpu + totals * known.total_cpu
    broker = (rate * known.broker_event_cpu + totals * known.broker_total_cpu) * REPLICAS
    rows_a_second = rate + 2 * totals
    stored = known.event_bytes * RETENTION_SECONDS + known.journal_bytes * HORIZON_SECONDS
    written = rate * (known.event_bytes + known.journal_bytes)
    written += totals * (known.total_bytes + known.journal_total_bytes)
    return [
        _cores("worker CPU", worker),
        _bytes("worker memory", _memory(rate, known), MEMORY),
        _bytes("ids on the workers' disks", rate * HORIZON_SECONDS * known.state_bytes, DISK),
        _cores("broker CPU", broker),
        _bytes("Kafka's disks", rate * stored * REPLICAS, DISK),
        _bytes("Kafka's network, a second", written * (REPLICAS + 2), NETWORK * LOAD),
        _cores("sink CPU", rows_a_second * known.sink_cpu),
        _cores("ClickHouse CPU", rows_a_second * known.clickhouse_cpu),
        _bytes("ClickHouse's disks", rate * ROW_BYTES * 31 * 86_400, DISK),
    ]


def _cores(name: str, cores: float) -> Need:
    return Need(name, f"{cores:,.1f} cores" if cores else _UNKNOWN, cores / (CORES * LOAD))


def _bytes(name: str, count: float, of_machine: float) -> Need:
    return Need(name, _size(count) if count else _UNKNOWN, count / of_machine)


def _memory(rate: float, known: Coefficients) -> float:
    """Bytes of all workers: processes, ids in memory, totals of the open month."""
    if not known.id_memory or not known.total_memory:
        return 0.0
    processes = workers(rate, known)
    ids = min(rate * HORIZON_SECONDS, processes * PARTITIONS_A_WORKER * MEMORY_IDS)
    totals = rate / EVENTS_A_METER * OPEN_HOURS
    return processes * known.process_memory + ids * known.id_memory + totals * known.total_memory


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
        shown = shown if value else _UNKNOWN
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
