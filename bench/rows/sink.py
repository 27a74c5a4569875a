"""The sink on everything that a worker made: rows a second into ClickHouse, archive and results."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from bench.load import Expected
from bench.machine import Usage, calibrate, usage_of
from bench.measuring import follow, put_in_force
from bench.options import Options
from bench.place import World
from bench.progress import GroupProgress
from bench.results import Found
from bench.worker import GATE, Worker, running
from metering.errors import UserError
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.queries import Books
from metering.topics import Names

_START_SECONDS, _LEAST_SECONDS, _SECONDS_A_ROW = 60.0, 120.0, 2e-4
_LOOK_SECONDS = 0.2
_SHARE = 2  # of the events: rows go to ClickHouse an order of magnitude slower than the worker folds


class Look(NamedTuple):
    """How many rows were stored, and what the processes had used by then."""

    rows: int
    sink: Usage
    clickhouse: Usage
    broker: Usage


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
    before = calibrate()
    with running(deployment, "sink-1") as (process,):
        looks = _follow(world, deployment, process, ends)
    first, last = looks
    rows = last.rows - first.rows
    found = Found(
        "sink: archive and results into ClickHouse",
        rows,
        last.sink.at - first.sink.at,
        (last.sink.cpu - first.sink.cpu) / rows * 1e6,
        (last.broker.cpu - first.broker.cpu) / rows * 1e6,
        rss=last.sink.peak,
        before=before,
        after=calibrate(),
        settings=load.plain(),
    )
    found.parts["clickhouse_cpu"] = (last.clickhouse.cpu - first.clickhouse.cpu) / rows * 1e6
    with connect(deployment.clickhouse(), deployment.database) as client:
        copies, distinct = Books(client).archived()
    found.lost, found.doubled = max(0, expected.accepted - distinct), max(0, copies - expected.records)
    return found


def _ends(deployment: Settings) -> dict[tuple[str, int], int]:
    names = Names(deployment)
    with GroupProgress(deployment.brokers(), names.sink_group) as group:
        topics = (names.events, names.hourly, names.charges, names.rejected)
        return {(t, p): group.end_of(t, p) for t in topics for p in range(deployment.partitions)}


def _follow(
    world: World, deployment: Settings, sink: Worker, ends: dict[tuple[str, int], int]
) -> tuple[Look, Look]:
    """From the first rows that are stored, so that start-up does not count, to the last."""
    deadline = time.monotonic() + _LEAST_SECONDS + sum(ends.values()) * _SECONDS_A_ROW
    first: Look | None = None
    while time.monotonic() < deadline:
        with connect(deployment.clickhouse(), deployment.database) as client:
            stored = Books(client).stored()
        rows = sum(min(stored.get(place, 0), end) for place, end in ends.items())
        broker, clickhouse = usage_of(world.broker_pid), usage_of(world.clickhouse_pid)
        look = Look(rows, sink.usage(), clickhouse, broker)
        if first is not None and rows == sum(ends.values()):
            return first, look
        first = look if first is None and rows else first
        time.sleep(_LOOK_SECONDS)
    raise UserError("the sink did not store everything in time", hint=f"see {sink.log}")
