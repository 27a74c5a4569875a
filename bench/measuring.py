"""One measurement of the real worker: a filled topic, the gate opens, the clock runs until all is durable."""

import asyncio
import time
from dataclasses import dataclass

from bench.load import Expected, Load, catalog_text
from bench.machine import Usage, calibrate, usage_of
from bench.place import World
from bench.progress import GroupProgress
from bench.results import Found
from bench.verify import Verdict, verify
from bench.worker import ASSIGNED, GATE, Died, Durable, Worker, folder_bytes, running
from metering import native
from metering.catalog.load import load_texts
from metering.catalog.publish import publish
from metering.settings import Settings
from metering.topics import Names

_START_SECONDS = 60.0
_SECONDS_AN_EVENT = 1e-4  # a deadline, generous for a shared machine
_LEAST_SECONDS = 120.0
_REPORT_SECONDS = 2.0  # counters are reported each second
_TRIES = 3
_SERIES = 200  # points kept of a curve


@dataclass
class Curve:
    """Durable records and memory (MiB, without mapped files) over time (epoch s)."""

    times: list[float]
    records: list[int]
    rss: list[float]


def put_in_force(deployment: Settings, customers: int, extra: str = "") -> None:
    """Publish the catalog of a load."""
    catalog = load_texts({"catalog.yaml": catalog_text(customers, extra)})
    asyncio.run(publish(deployment.brokers(), Names(deployment).catalog, catalog))


def durable(world: World, row: str, load: Load, workers: int = 1, *, compiled: bool = True) -> Found:
    """Fold a load that waits in Kafka with new workers; everything is verified at the end.

    A worker that was frozen for long ends by itself: on an overloaded machine the row begins anew.
    """
    for _ in range(_TRIES - 1):
        try:
            return _durable(world, row, load, workers, compiled=compiled)
        except Died as died:
            world.tell(f"[yellow]{row} begins anew:[/] {str(died).splitlines()[-1]}")
    return _durable(world, row, load, workers, compiled=compiled)


def _durable(world: World, row: str, load: Load, workers: int, *, compiled: bool) -> Found:
    deployment, expected = world.deployment(load.partitions), Expected()
    deployment = deployment.model_copy(update={"compiled": compiled})
    names = [f"worker-{n + 1}" for n in range(workers)]
    with running(deployment, *names) as processes:
        world.fill(deployment, load, expected)
        for one in processes:
            one.wait_until_said(GATE, _START_SECONDS)
        found = _measure(world, row, load, deployment, processes, expected)
        time.sleep(_REPORT_SECONDS)
    found.parts["state_bytes"] = folder_bytes(deployment.home / "state") / load.events
    found.parts |= _kafka_cost(world, deployment, load)
    return judge(found, verify(deployment, expected))


def _measure(
    world: World,
    row: str,
    load: Load,
    deployment: Settings,
    processes: list[Worker],
    expected: Expected,
) -> Found:
    before = calibrate()
    began, broker_began = [one.usage() for one in processes], usage_of(world.broker_pid)
    put_in_force(deployment, load.customers)
    curve = follow(deployment, processes, expected.records)
    assigned = min(one.wait_until_said(ASSIGNED, _START_SECONDS) for one in processes)
    ended, broker_ended = [one.usage() for one in processes], usage_of(world.broker_pid)
    last = next(at for at, count in zip(curve.times, curve.records, strict=True) if count >= expected.records)
    found = Found(
        row,
        expected.read,
        last - assigned,
        spent(began, ended) / expected.read * 1e6,
        (broker_ended.cpu - broker_began.cpu) / expected.read * 1e6,
        rss=max(usage.peak for usage in ended),
        before=before,
        settings={**load.plain(), "workers": len(processes), **worker_settings(deployment)},
    )
    found.parts["hourly_totals"] = len(expected.totals)
    found.parts["started_rss"] = began[0].rss
    found.series = thinned(curve, assigned)
    found.after = calibrate()
    return found


def _kafka_cost(world: World, deployment: Settings, load: Load) -> dict[str, float]:
    """Bytes an event of the events, of what follows from them, and of the journal; records of totals."""
    names = Names(deployment)
    data = world.home / "local" / "kafka" / "data"
    journal = (names.meter_segments, names.meter_state, names.rate_state)
    kinds = {"events": (names.events,), "results": (names.hourly, names.charges), "journal": journal}
    found = {
        f"{kind}_bytes": sum(f.stat().st_size for t in topics for f in data.glob(f"{t}-*/*.log"))
        / load.events
        for kind, topics in kinds.items()
    }
    with GroupProgress(deployment.brokers(), "sizes") as group:
        found["total_records"] = group.end(names.hourly, deployment.partitions)
    return found


def follow(deployment: Settings, processes: list[Worker], records: int) -> Curve:
    """Watch until everything is durable."""
    curve = Curve([], [], [])
    seconds = max(_LEAST_SECONDS, records * _SECONDS_AN_EVENT)
    with Durable(deployment) as watch:
        for at, count in watch.watch(processes, seconds):
            curve.times.append(at)
            curve.records.append(count)
            curve.rss.append(sum(one.usage().own for one in processes))
    return curve


def spent(began: list[Usage], ended: list[Usage]) -> float:
    """CPU seconds between two looks at the same processes."""
    return sum(b.cpu - a.cpu for a, b in zip(began, ended, strict=True))


def thinned(curve: Curve, start: float) -> dict[str, list[float]]:
    """A curve of few points, seconds from `start`."""
    step = max(1, len(curve.times) // _SERIES)
    return {
        "seconds": [round(at - start, 2) for at in curve.times[::step]],
        "records": [float(count) for count in curve.records[::step]],
        "rss": [round(size, 1) for size in curve.rss[::step]],
    }


def judge(found: Found, verdict: Verdict) -> Found:
    """Add what the comparison with the model says; whatever is wrong is a loss or a double count."""
    found.lost, found.doubled = verdict.lost, verdict.doubled
    if verdict.wrong:
        found.parts["wrong"] = len(verdict.wrong)
        found.settings["wrong"] = verdict.wrong[:5]
    return found


def worker_settings(deployment: Settings) -> dict[str, object]:
    """The settings of the worker that decide what it costs."""
    return {
        "checkpoint_seconds": deployment.checkpoint_seconds,
        "memory_ids": deployment.memory_ids,
        "compiled": deployment.compiled and native.scan is not None,
    }
