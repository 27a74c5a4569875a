"""The durable path with many ids of earlier days in its state, beside the same path with few."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.load import Expected, Load
from bench.machine import calibrate, usage_of
from bench.measuring import follow, judge, put_in_force, spent
from bench.options import Options
from bench.place import World
from bench.results import Found
from bench.verify import verify
from bench.worker import ASSIGNED, GATE, Worker, folder_bytes, running
from metering.errors import UserError
from metering.settings import Settings
from metering.state import opening
from metering.state.dedupe import HORIZON_DAYS
from metering.state.fold import Changes, Segment, place_in_log
from metering.state.id_file import ID_BYTES, columns, write_ids
from metering.state.store import Identity, Store
from metering.topics import Names

_START_SECONDS, _LOAD_SECONDS = 60.0, 900.0
_LOCK_SECONDS, _LOCK_PAUSE = 30.0, 0.2
_DAYS = HORIZON_DAYS - 1  # today's ids are the worker's own


def deep(world: World, options: Options) -> Iterator[Found]:
    """Fold a load; a second one on that state; a third with ids of 34 earlier days put into the state."""
    load = options.loaded(first=0)
    deployment, expected = world.deployment(load.partitions), Expected()
    with running(deployment) as (worker,):
        world.fill(deployment, load, expected)
        worker.wait_until_said(GATE, _START_SECONDS)
        put_in_force(deployment, load.customers)
        follow(deployment, [worker], expected.records)
        for turn, ids in enumerate((0, options.ids), start=1):
            depth = turn * load.events + ids
            worker.stop()
            _deepen(deployment, ids)
            size = folder_bytes(deployment.home / "state")
            more = options.loaded(first=turn * load.events)
            world.fill(deployment, more, expected)
            found = _continued(world, worker, f"durable path, {depth:,} ids deep", more, expected)
            found.parts["ids"], found.parts["state_bytes_an_id"] = depth, size / depth
            yield judge(found, verify(deployment, expected))


def _continued(world: World, worker: Worker, row: str, load: Load, expected: Expected) -> Found:
    before = calibrate()
    worker.start()
    ready = worker.wait_until_said(ASSIGNED, _LOAD_SECONDS)
    began, broker = worker.usage(), usage_of(world.broker_pid)
    curve = follow(worker.deployment, [worker], expected.records)
    ended = worker.usage()
    last = next(at for at, count in zip(curve.times, curve.records, strict=True) if count >= expected.records)
    return Found(
        row,
        load.events,
        last - ready,
        spent([began], [ended]) / load.events * 1e6,
        (usage_of(world.broker_pid).cpu - broker.cpu) / load.events * 1e6,
        rss=ended.rss,
        before=before,
        after=calibrate(),
        settings=load.plain(),
    )


def _deepen(deployment: Settings, ids: int) -> None:
    """Put ids of earlier days into the local state, as if they had been folded before anything else."""
    if not ids:
        return
    chance = np.random.default_rng(7)
    topic = Names(deployment).events
    for partition in range(deployment.partitions):
        folder = opening.ids_folder(deployment, topic, partition)
        folder.mkdir(parents=True, exist_ok=True)
        place = opening.state_folder(deployment, topic, partition)
        store = _opened(place, opening.identity(deployment, topic, partition))
        saved = store.load()
        assert saved is not None, "the worker has folded nothing"
        start, until = (place_in_log(deployment.epoch, offset) for offset in (0, saved.offset))
        today = max(segment.day for segment in saved.segments)
        for day in range(today - _DAYS, today):
            packed = chance.bytes(ids // deployment.partitions // _DAYS * ID_BYTES)
            write_ids(folder / f"{day:06d}-{until:020d}.ids", day, until, columns(packed))
            segments = [Segment(day, start, until, packed)]
            rated = saved.revision, saved.sequence
            changes = Changes(deployment.epoch, saved.offset, saved.header, [], segments, 0, [], *rated)
            store.write(changes)
            store.settle(changes, store.known())
        store.close()


def _opened(folder: Path, identity: Identity) -> Store:
    """A store whose worker was told to stop: its threads can hold the lock a moment longer."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return Store(folder, identity)
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOCK_PAUSE)
