"""The scaling model's coefficients, fitted to measured rows: what an event and an hourly total cost."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.results import Found, Row
from metering.errors import UserError

MICRO = 1e-6
_MIB = 2**20


class Coefficients(NamedTuple):
    """CPU seconds and bytes of each unit of work, measured on one core of the machine; 0: not measured."""

    event_cpu: float  # worker, an event
    total_cpu: float  # worker, an hourly total that is published once and rated
    broker_event_cpu: float
    broker_total_cpu: float
    event_bytes: float  # on Kafka, as sent
    total_bytes: float  # results on Kafka, a total published once
    journal_bytes: float  # an event
    journal_total_bytes: float
    state_bytes: float  # on the worker's disk, an id
    state_total_bytes: float
    id_memory: float  # bytes of an id that is in memory
    total_memory: float  # bytes of an hourly total that is open
    process_memory: float
    sink_cpu: float  # a row
    clickhouse_cpu: float  # a row


class Point(NamedTuple):
    """One measured row beside what the model says of it."""

    row: str
    quantity: str
    measured: float
    predicted: float


def folded(rows: Mapping[str, Row]) -> list[Found]:
    """The rows of the worker that the model is fitted to: whole runs from an empty state."""
    return [row.best for row in rows.values() if "total_records" in row.best.parts]


def fit(rows: Mapping[str, Row]) -> Coefficients:
    """Least squares over the worker's rows; the rest are quotients of single rows."""
    found = folded(rows)
    if len(found) < 2:
        raise UserError(
            "the model needs rows of the worker with different numbers of totals",
            hint="python -m bench run durable memory sink",
        )
    event_cpu, total_cpu = _two(found, [f.cpu * MICRO * f.events for f in found])
    broker_event, broker_total = _two(found, [f.broker_cpu * MICRO * f.events for f in found])
    journal, journal_total = _two(found, [f.parts["journal_bytes"] * f.events for f in found])
    state, state_total = _two(found, [f.parts["state_bytes"] * f.events for f in found])
    deep = [row.best.parts for row in rows.values() if "state_bytes_an_id" in row.best.parts]
    if deep:  # ids of earlier days are files as well
        state = max(deep, key=lambda parts: parts["ids"])["state_bytes_an_id"]
    records = sum(f.parts["total_records"] for f in found)
    sink = next((row.best for name, row in rows.items() if name.startswith("sink")), None)
    return Coefficients(
        event_cpu,
        total_cpu,
        broker_event,
        broker_total,
        sum(f.parts["events_bytes"] * f.events for f in found) / sum(f.events for f in found),
        sum(f.parts["results_bytes"] * f.events for f in found) / records,
        journal,
        journal_total,
        state,
        state_total,
        _part(found, "mib_a_million_ids") * _MIB / 1e6,
        _part(found, "bytes_an_hourly_total"),
        min(f.parts["started_rss"] for f in found) * _MIB,
        sink.cpu * MICRO if sink else 0.0,
        sink.parts["clickhouse_cpu"] * MICRO if sink else 0.0,
    )


def _two(found: Sequence[Found], spent: Sequence[float]) -> tuple[float, float]:
    """What an event and a total cost, none less than nothing; each run weighs the same."""
    work = np.array([[f.events, f.parts["total_records"]] for f in found])
    share = np.array([[f.events] for f in found])
    solved, *_ = np.linalg.lstsq(work / share, np.array(spent) / share[:, 0], rcond=None)
    event, total = (float(value) for value in solved)
    if event > 0 and total > 0:
        return event, total
    return sum(spent) / float(work[:, 0].sum()), 0.0


def _part(found: Sequence[Found], name: str) -> float:
    return next((f.parts[name] for f in found if name in f.parts), 0.0)


def points(rows: Mapping[str, Row], known: Coefficients) -> list[Point]:
    """Every measured point that the model can be asked about."""
    made = []
    for f in folded(rows):
        per_event = f.parts["total_records"] / f.events
        cpu = (known.event_cpu + known.total_cpu * per_event) / MICRO
        broker = (known.broker_event_cpu + known.broker_total_cpu * per_event) / MICRO
        journal_and_events = known.event_bytes + known.journal_bytes
        journal_and_events += known.journal_total_bytes * per_event
        measured = f.parts["events_bytes"] + f.parts["journal_bytes"]
        memory = (
            known.process_memory
            + known.id_memory * min(f.events, _ids_in_memory(f))
            + known.total_memory * f.parts["hourly_totals"]
        )
        made.append(Point(f.row, "worker CPU, µs an event", f.cpu, cpu))
        made.append(Point(f.row, "broker CPU, µs an event", f.broker_cpu, broker))
        made.append(Point(f.row, "Kafka without results, bytes an event", measured, journal_and_events))
        if f.settings.get("workers", 1) == 1:
            made.append(Point(f.row, "memory, MiB", f.rss, memory / _MIB))
    return made


def _ids_in_memory(found: Found) -> int:
    return int(found.settings["memory_ids"]) * int(found.settings["partitions"])
