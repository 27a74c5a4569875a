"""How long a worker takes until it folds again: with its state on disk, and from the journal alone."""

import shutil
import time
from collections.abc import Iterator
from itertools import islice

from bench.load import Expected
from bench.machine import calibrate
from bench.measuring import follow, judge, put_in_force
from bench.options import Options
from bench.place import World, send
from bench.results import Found
from bench.verify import verify
from bench.worker import ASSIGNED, GATE, Worker, running
from metering.settings import Settings
from metering.topics import Names

_START_SECONDS, _LOAD_SECONDS = 60.0, 600.0
_AGAIN = 1_000  # events sent once more after each restart: their ids must still be known


def restart(world: World, options: Options) -> Iterator[Found]:
    """Kill a worker that has folded everything, start it again; then once more without its folder."""
    load = options.loaded()
    deployment, expected = world.deployment(load.partitions), Expected()
    with running(deployment) as (worker,):
        world.fill(deployment, load, expected)
        worker.wait_until_said(GATE, _START_SECONDS)
        put_in_force(deployment, load.customers)
        follow(deployment, [worker], expected.records)
        keys = len(expected.totals)
        for name in ("disk", "journal"):
            worker.kill()
            if name == "journal":
                shutil.rmtree(deployment.home / "state")
            found = _timed(worker, f"restart from the {name}", expected.read)
            found.parts["hourly_totals"] = keys
            found.settings = load.plain()
            # The first events of the load once more: what is restored must know their ids.
            first = islice(load.records(Expected()), _AGAIN)
            send(world.brokers, Names(deployment).events, first, load.codec)
            _settle(deployment, worker, expected)
            yield judge(found, verify(deployment, expected))


def _timed(worker: Worker, row: str, events: int) -> Found:
    before, began = calibrate(), time.time()
    worker.start()
    ready = worker.wait_until_said(ASSIGNED, _LOAD_SECONDS)
    usage = worker.usage()
    return Found(
        row,
        events,
        ready - began,
        usage.cpu / events * 1e6,
        rss=usage.rss,
        before=before,
        after=calibrate(),
    )


def _settle(deployment: Settings, worker: Worker, expected: Expected) -> None:
    expected.read += _AGAIN
    expected.duplicates += _AGAIN
    expected.records += _AGAIN
    follow(deployment, [worker], expected.records)
    time.sleep(2.0)  # its counters are reported each second
