"""What is done to a running deployment; each fault says what it did and proves that it happened."""

import asyncio
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from metering.local import parts, process
from metering.quota_facts import publish
from metering.sinks.client import connect
from metering.topics import Names
from tests.chaos import quotas
from tests.chaos.fleet import SINK
from tests.chaos.world import SMALL_DISK, World

STOPPED_SECONDS = 14.0  # the session timeout of the groups is 10
BROKER_SECONDS = 6.0
DISK_SECONDS = 12.0
_BITES_SECONDS = 4.0
_CLOCK_SECONDS = 5.0
_SEEN_SECONDS = 60.0  # a rebalance waits for those who do not come back
_DAY = 86_400
# The broker refuses what is more than an hour ahead of it (message.timestamp.after.max.ms): the worker waits.
_REFUSED = "InvalidTimestampError"
_CHUNK = 1 << 20


class Fault(NamedTuple):
    """One fault: when (0 to 1 of the load's time), what, and on whom."""

    at: float
    name: str
    target: str
    work: Callable[[World, str], str]


class Skipped(Exception):
    """The fault cannot be done on this machine."""


def plan(seed: int, down_seconds: float) -> list[Fault]:
    """The seeded plan, in order of time; catalog changes come well before a period closes."""
    chance = random.Random(f"faults {seed}")

    def one(*names: str) -> str:
        return chance.choice(names)

    first, third = ("worker-1", SMALL_DISK), ("worker-1", SMALL_DISK, "worker-3")
    found = [
        Fault(0.05, "catalog: a future price", "revision 2", _publish),
        Fault(0.08, "SIGKILL worker", one(*first), _kill),
        Fault(0.14, "scale out", "worker-3", _scale_out),
        Fault(0.20, "catalog: a price of the open period", "revision 3", _publish),
        Fault(0.24, "SIGSTOP worker", one(*third), _freeze),
        Fault(0.34, "broker SIGKILL", parts.KAFKA, _kill_broker),
        Fault(0.42, "SIGTERM worker", one(*third), _terminate),
        Fault(0.46, "clock steps", one(*third), _step_clock),
        Fault(0.55, "ClickHouse down", parts.CLICKHOUSE, lambda w, _: _kill_clickhouse(w, down_seconds)),
        Fault(0.60, "disk full", SMALL_DISK, _fill_disk),
        Fault(0.70, "disk lost", one("worker-1", "worker-3"), _lose_disk),
        Fault(0.78, "a limit raised", quotas.RAISED, _raise_limit),
        Fault(0.80, "SIGKILL sink", SINK, _kill),
        Fault(0.83, "SIGKILL worker", one(*third), _kill),
        Fault(0.86, "broker SIGKILL", parts.KAFKA, _kill_broker),
        Fault(0.91, "SIGSTOP sink", SINK, _freeze),
        Fault(0.95, "scale in", "worker-3", _scale_in),
    ]
    return [fault._replace(at=fault.at + chance.uniform(0, 0.02)) for fault in found]


def _publish(world: World, target: str) -> str:
    done = world.publish(int(target.split()[1]))
    assert done.is_new, "the catalog was in force already"
    return f"in force as revision {done.revision}"


def _raise_limit(world: World, name: str) -> str:
    """Somebody sets a limit anew when all of it is used: the same month has two versions of it."""
    own = world.settings
    _wait(
        lambda: quotas.is_used_up(asyncio.run(quotas.thresholds(own))),
        f"the limit `{quotas.RISES}` of {name} was not announced as used up",
    )
    fact = quotas.raising(world.events)
    offset = asyncio.run(publish(own.brokers(), Names(own).quota_facts, fact))
    return f"to {int(fact.amount) // quotas.MICRO:,} requests, at offset {offset} of the facts"


def _kill(world: World, name: str) -> str:
    return f"process {_restarted(world, name, signal.SIGKILL)} is the next"


def _terminate(world: World, name: str) -> str:
    return f"process {_restarted(world, name, signal.SIGTERM)} is the next"


def _restarted(world: World, name: str, number: int) -> int:
    before = world.fleet.hit(name, number)
    _wait(lambda: world.fleet.pid(name) != before, f"{name}, process {before}, did not end")
    return world.fleet.pid(name)


def _freeze(world: World, name: str) -> str:
    pid = world.fleet.hit(name, signal.SIGSTOP)
    try:
        _wait(lambda: _state(pid) == "T", f"{name} was not stopped")
        time.sleep(STOPPED_SECONDS)
        assert _state(pid) == "T", f"{name} went on by itself"
    finally:
        os.kill(pid, signal.SIGCONT)
    time.sleep(2)
    fate = "went on" if _state(pid) in ("S", "R", "D") else "ended itself when it woke"
    return f"stopped for {STOPPED_SECONDS:.0f} s; it {fate}"


def _kill_broker(world: World, name: str) -> str:
    with world.fleet.held(name):
        pid = world.fleet.hit(name, signal.SIGKILL)
        port = int(world.settings.brokers().rpartition(":")[2])
        _wait(lambda: not process.is_listening(port), "the broker still listens")
        time.sleep(BROKER_SECONDS)
        parts.restart(world.local, name)
    now = world.fleet.pid(name)
    assert now != pid, "the broker was not started anew"
    return f"away for {BROKER_SECONDS:.0f} s, then process {now}"


def _kill_clickhouse(world: World, seconds: float) -> str:
    name = parts.CLICKHOUSE
    with world.fleet.held(name):
        world.fleet.hit(name, signal.SIGKILL)
        port = int(world.settings.clickhouse().rpartition(":")[2])
        _wait(lambda: not process.is_listening(port), "ClickHouse still listens")
        sinks = world.fleet.restarts[SINK]
        time.sleep(seconds)
        assert not process.is_listening(port), "somebody else answers on ClickHouse's port"
        parts.restart(world.local, name)
    return f"away for {seconds:.0f} s; the sink was started {world.fleet.restarts[SINK] - sinks} times"


def _scale_out(world: World, name: str) -> str:
    began = _size(world.fleet.log(name))
    world.fleet.start(name)
    _wait(lambda: '"positions": {"' in _since(world.fleet.log(name), began), f"{name} got no partition")
    return "it was assigned partitions"


def _scale_in(world: World, name: str) -> str:
    began = {other: _size(world.fleet.log(other)) for other in world.fleet.workers if other != name}
    world.fleet.retire(name)
    assert not world.fleet.is_running(name), f"{name} did not stop"
    logs = world.fleet.log
    _wait(
        lambda: any("partitions_assigned" in _since(logs(o), at) for o, at in began.items()),
        "nobody took its partitions over",
    )
    return "its partitions went to the others"


def _step_clock(world: World, name: str) -> str:
    if not world.clocks.can_step:
        raise Skipped("no C compiler: the library that steps a clock was not built")
    log, began, seen = world.fleet.log(name), _size(world.fleet.log(name)), []
    try:
        for words, seconds in (("-3 d", -3 * _DAY), ("+50 min", 50 * 60), ("+2 d", 2 * _DAY)):
            world.clocks.step(name, seconds)
            taken = partial(_is_seen, world, name, seconds, began)
            _wait(taken, f"{name} kept its clock ({words})")
            seen.append(f"{words} {'refused by the broker' if _REFUSED in _since(log, began) else 'taken'}")
            time.sleep(_CLOCK_SECONDS)
    finally:
        world.clocks.step(name, 0)
    return f"its records: {', '.join(seen)}"


def _is_seen(world: World, name: str, seconds: int, began: int) -> bool:
    return _reports(world, name, seconds) or _REFUSED in _since(world.fleet.log(name), began)


def _reports(world: World, name: str, seconds: int) -> bool:
    """Whether a report with the shifted clock has reached ClickHouse."""
    with connect(world.settings.clickhouse(), world.settings.database) as client:
        query = (
            "SELECT count() FROM progress WHERE instance = {name:String}"
            " AND abs(toUnixTimestamp(reported) - {now:Int64}) < 600"
        )
        values = {"name": name, "now": int(time.time()) + seconds}
        return bool(client.query(query, parameters=values).result_rows[0][0])


def _fill_disk(world: World, name: str) -> str:
    log, began = world.fleet.log(name), _size(world.fleet.log(name))
    deaths = world.fleet.restarts[name]
    if not world.has_small_disk:
        return _limit_files(world, name)
    filler = world.state_folder / "filler"
    began_at = time.monotonic()
    try:
        _fill(filler)
        time.sleep(_BITES_SECONDS)
        if world.fleet.restarts[name] == deaths:  # what RocksDB had reserved was enough: it must open anew
            world.fleet.hit(name, signal.SIGKILL)
        # A busy machine takes its time to start a worker that finds it.
        while time.monotonic() < began_at + DISK_SECONDS or "No space left" not in _since(log, began):
            assert time.monotonic() < began_at + _SEEN_SECONDS, f"{name} did not notice the full disk"
            time.sleep(0.5)
            _fill(filler)
        assert shutil.disk_usage(world.state_folder).free < _CHUNK, "the disk was not full"
    finally:
        filler.unlink(missing_ok=True)
    seconds = time.monotonic() - began_at
    return f"full for {seconds:.0f} s; it died {world.fleet.restarts[name] - deaths} times of it"


def _fill(filler: Path) -> None:
    """Take all the space that is left."""
    for size in (_CHUNK, 1 << 12):
        try:
            with filler.open("ab", buffering=0) as file:
                while file.write(bytes(size)) == size:
                    pass
        except OSError:
            continue  # full, as wanted; try the smaller size for the rest


def _limit_files(world: World, name: str) -> str:
    """Without a file system of our own: no file of the process may grow."""
    deaths = world.fleet.restarts[name]
    pid = world.fleet.pid(name)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 12, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    _wait(lambda: world.fleet.restarts[name] > deaths, f"{name} did not notice the limit")
    return "mounting is not possible here: RLIMIT_FSIZE instead, and it died of it"


def _lose_disk(world: World, name: str) -> str:
    with world.fleet.held(name):
        pid = world.fleet.hit(name, signal.SIGKILL)
        _wait(lambda: not world.fleet.is_running(name), f"{name}, process {pid}, did not end")
        shutil.rmtree(world.state_of(name))
    _wait(lambda: world.state_of(name).exists(), f"{name} made no new state")
    return "killed, its state folder removed; a new one was made from the journal"


def _wait(done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _SEEN_SECONDS
    while not done():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _since(file: Path, began: int) -> str:
    if not file.exists():
        return ""
    with file.open("rb") as log:
        log.seek(began)
        return log.read().decode(errors="replace")
