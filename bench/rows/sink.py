"""The sink on everything that a worker made: rows a second into ClickHouse, archive and results."""

import time
from collections.abc import Iterator

from bench.load import Expected
from bench.machine import calibrate, usage_of
from bench.measuring import follow, put_in_force
from bench.options import Options
from bench.place import World
from bench.progress import GroupProgress
from bench.results import Found
from bench.worker import ASSIGNED, GATE, Worker, running
from metering.errors import UserError
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.queries import Books
from metering.topics import Names

_START_SECONDS, _LEAST_SECONDS, _SECONDS_A_ROW = 60.0, 120.0, 2e-4
_LOOK_SECONDS = 0.5
_SHARE = 5  # of the events: rows go to ClickHouse an order of magnitude slower than the worker folds


def sink(world: World, options: Options) -> Iterator[Found]:
    """A worker first, then a sink alone on all its topics."""
    for _ in range(options.repeats):
        yield _once(world, options)


def _once(world: World, options: Options) -> Found:
    load = options.loaded(events=max(20_000, options.events // _SHARE))
    deployment, expected = world.deployment(load.partitions, database=True), Expected()
    with running(deployment) as (worker,):
        world.fill(deployment, load, expected)
        worker.wait_until_said(GATE, _START_SECONDS)
        put_in_force(deployment, load.customers)
        follow(deployment, [worker], expected.records)
    ends = _ends(deployment)
    before, clickhouse, broker = calibrate(), usage_of(world.clickhouse_pid), usage_of(world.broker_pid)
    with running(deployment, "sink-1") as (process,):
        began = process.wait_until_said(ASSIGNED, _START_SECONDS)
        ended = _wait_until_stored(deployment, process, ends)
        used = process.usage()
    rows = sum(ends.values())
    found = Found(
        "sink: archive and results into ClickHouse",
        rows,
        ended - began,
        used.cpu / rows * 1e6,
        (usage_of(world.broker_pid).cpu - broker.cpu) / rows * 1e6,
        rss=used.peak,
        before=before,
        after=calibrate(),
        settings=load.plain(),
    )
    found.parts["clickhouse_cpu"] = (usage_of(world.clickhouse_pid).cpu - clickhouse.cpu) / rows * 1e6
    with connect(deployment.clickhouse(), deployment.database) as client:
        copies, distinct = Books(client).archived()
    found.lost, found.doubled = max(0, expected.accepted - distinct), max(0, copies - expected.records)
    return found


def _ends(deployment: Settings) -> dict[tuple[str, int], int]:
    names = Names(deployment)
    with GroupProgress(deployment.brokers(), names.sink_group) as group:
        topics = (names.events, names.hourly, names.charges, names.rejected)
        return {(t, p): group.end_of(t, p) for t in topics for p in range(deployment.partitions)}


def _wait_until_stored(deployment: Settings, sink: Worker, ends: dict[tuple[str, int], int]) -> float:
    deadline = time.monotonic() + _LEAST_SECONDS + sum(ends.values()) * _SECONDS_A_ROW
    while time.monotonic() < deadline:
        with connect(deployment.clickhouse(), deployment.database) as client:
            stored = Books(client).stored()
        if all(stored.get(place, 0) >= end for place, end in ends.items()):
            return time.time()
        _ = sink.pid
        time.sleep(_LOOK_SECONDS)
    raise UserError("the sink did not store everything in time", hint=f"see {sink.log}")
