"""Runs a peer on a load that waits in Kafka, and checks what it counted."""

import json
import time
from pathlib import Path

from bench.load import REGIONS, Expected, Load
from bench.machine import calibrate, usage_of
from bench.peers.catalog import Peer
from bench.peers.environments import kafka_streams, python_of
from bench.place import World
from bench.results import Found
from bench.verify import compare
from metering.errors import UserError
from metering.local import process
from metering.settings import Settings
from metering.topics import Names

_ROOT = Path(__file__).parents[2]
_READY_SECONDS = 120.0
_SECONDS_AN_EVENT = 5e-3
_LEAST_SECONDS = 180.0
_LOOK_SECONDS = 0.1


def prepare(peer: Peer) -> None:
    """Make a peer's environment before anything is measured."""
    if peer.name.startswith("kafka_streams"):
        kafka_streams()
    else:
        python_of(peer.name)


def run_peer(world: World, peer: Peer, deployment: Settings, load: Load, expected: Expected) -> Found:
    """One repeat of a peer; CPU is its own account from the gate to its last durable record."""
    world.number += 1
    folder = world.home / f"{peer.name}-{world.number}"
    folder.mkdir()
    before = calibrate()
    pid_file, log = folder / "pid", folder / "log"
    orders = _orders(world, peer, deployment, expected, folder)
    process.start(_command(peer, orders), pid_file=pid_file, log_file=log, env=_environment(folder, orders))
    try:
        _wait(pid_file, log, folder / "ready", _READY_SECONDS)
        broker = usage_of(world.broker_pid)
        (folder / "gate").touch()
        rss = _wait(pid_file, log, folder / "totals.json", _LEAST_SECONDS + load.events * _SECONDS_AN_EVENT)
        broker_cpu = usage_of(world.broker_pid).cpu - broker.cpu
    finally:
        process.stop(pid_file)
    found = _found(peer, load, folder, expected)
    found.rss, found.broker_cpu = rss, broker_cpu / expected.read * 1e6
    found.before, found.after = before, calibrate()
    return found


def _orders(
    world: World, peer: Peer, deployment: Settings, expected: Expected, folder: Path
) -> dict[str, object]:
    return {
        "brokers": world.brokers,
        "topic": Names(deployment).events,
        "group": f"{peer.name}-{world.number}",
        "partitions": deployment.partitions,
        "records": expected.records,
        "commit_seconds": deployment.checkpoint_seconds,
        "folder": str(folder),
    }


def _command(peer: Peer, orders: dict[str, object]) -> list[str]:
    if not peer.name.startswith("kafka_streams"):
        return [python_of(peer.name), "-m", f"bench.peers.{peer.name}"]
    java, *options = kafka_streams()
    told = {
        "guarantee": "exactly_once_v2" if peer.name.endswith("eos") else "at_least_once",
        "commit_ms": int(float(str(orders["commit_seconds"])) * 1_000),
        **orders,
    }
    return [java, *(f"-Dbench.{name}={value}" for name, value in told.items()), *options, "bench.Main"]


def _environment(folder: Path, orders: dict[str, object]) -> dict[str, str]:
    file = folder / "orders.json"
    file.write_text(json.dumps(orders))
    return {"BENCH_ORDERS": str(file), "PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def _wait(pid_file: Path, log: Path, wanted: Path, seconds: float) -> float:
    """Wait for a file that the peer writes; its peak memory so far (MiB)."""
    deadline, peak = time.monotonic() + seconds, 0.0
    while not wanted.exists():
        running = process.find(pid_file)
        if running is None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise UserError(f"{wanted.parent.name} did not write {wanted.name}; the end of its log:\n{tail}")
        peak = usage_of(running.pid).peak
        time.sleep(_LOOK_SECONDS)
    return peak


def _found(peer: Peer, load: Load, folder: Path, expected: Expected) -> Found:
    points = [tuple(map(float, line.split())) for line in (folder / "progress").read_text().splitlines()]
    records, cpu_last, at_last = points[-1]
    # From its first report behind the gate: joining a group is no part of an event's cost.
    first, cpu_first, at_first = next(p for p in points if p[0] > 0 or p is points[-2])
    first = first if first < records else 0.0
    events = expected.read * (records - first) / records
    found = Found(
        peer.title,
        expected.read,
        (at_last - at_first) * expected.read / events,
        (cpu_last - cpu_first) / events * 1e6,
        settings={**load.plain(), "peer": peer.settings},
        lacks=peer.lacks,
    )
    half = next(p for p in points if p[0] >= records / 2)
    if peer.name.startswith("kafka_streams") and records > half[0]:  # the warm-up of its runtime, apart
        found.parts["cpu_first_half"] = (half[1] - cpu_first) / max(1.0, half[0] - first) * 1e6
        found.parts["cpu_last_half"] = (cpu_last - half[1]) / (records - half[0]) * 1e6
    _judge(peer, folder, found, expected)
    return found


def _judge(peer: Peer, folder: Path, found: Found, expected: Expected) -> None:
    totals = json.loads((folder / "totals.json").read_text())
    if peer.is_limit:
        found.lost = expected.records - totals["records"][1]
        return
    places = {}
    for name, (quantity, events) in totals.items():
        customer, region, hour = name.split("|")
        assert region in REGIONS, f"{peer.name} wrote a total for {name}"
        places[customer, region, int(hour)] = (quantity, events)
    verdict = compare(places, expected)
    found.lost, found.doubled = verdict.lost, verdict.doubled
    if verdict.wrong:
        found.parts["wrong"] = len(verdict.wrong)
        found.settings["wrong"] = verdict.wrong[:5]
