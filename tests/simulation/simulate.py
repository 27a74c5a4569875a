"""One seed from the first process to the last check."""

import asyncio
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from metering.state.meter_fold import MeterFold
from tests.simulation.billing import EVERY_SECONDS, bill, settle
from tests.simulation.checks import Verdict, check, copies
from tests.simulation.faults import Faults
from tests.simulation.install import installed
from tests.simulation.model import PARTITIONS, Naive
from tests.simulation.processes import every
from tests.simulation.workload import DAY_MS, ENDS, GRACE_MS, Workload
from tests.simulation.world import World

LIMIT_SECONDS = 900.0
SETTLE_SECONDS = 120.0


class Outcome(NamedTuple):
    """What a seed came to."""

    seed: int
    verdict: Verdict
    faults: Counter[str]
    trace: list[str]
    steps: int
    digest: str  # of the trace, every log and every table


def simulate(seed: int, *, focus: frozenset[str] = frozenset(), verbose: bool = False) -> Outcome:
    """Run a seed and compare its books with the naive model; `verbose` keeps a trace and its digest."""
    world = World(seed, focus=focus, verbose=verbose)
    with installed(world):
        finished = world.loop.run(_run(world), LIMIT_SECONDS)
    if finished:
        naive = Naive()
        naive.feed(copies(world))
        verdict = check(world, naive)
    else:
        verdict = Verdict([*world.problems, *map(repr, world.loop.failures), "it never came to an end"])
    digest = _digest(world) if verbose else ""
    return Outcome(seed, verdict, world.chance.counts, world.trace, world.loop.steps, digest)


def _digest(world: World) -> str:
    found = blake2b("\n".join(world.trace).encode(), digest_size=16)
    found.update(repr(world.broker.histories()).encode())
    found.update(repr([(name, list(t.rows.values())) for name, t in world.books.tables.items()]).encode())
    return found.hexdigest()


async def _run(world: World) -> bool:
    world.publish_catalog(1)
    for number in range(world.chance.random.choice((2, 2, 3))):
        world.start(f"worker{number}")
    for number in range(world.chance.random.choice((1, 1, 2))):
        world.start(f"sink{number}")
    kernel = world.loop.kernel
    kernel.spawn(every(world, EVERY_SECONDS, lambda: bill(world)))
    world.books.tell_close = lambda: kernel.spawn(bill(world)) and None
    faults, workload = Faults(world), Workload(world)
    await workload.begin()
    await _until(world, lambda: _has_begun(world), SETTLE_SECONDS)
    faults.begin()
    await workload.run()
    await asyncio.sleep(3 * world.chance.random.random())
    faults.end()
    return await _settle(world, workload)


async def _settle(world: World, workload: Workload) -> bool:
    """Let everything arrive: the last ticks, the last closes, the last invoices."""
    await world.catalog_is_known()
    last = ENDS["2026-02"]
    world.leap_to(last + GRACE_MS + DAY_MS // 2 if workload.closes_second_month else last - 2 * DAY_MS)
    due = world.wall()
    world.workers.stir()
    world.sinks.stir()
    if not await _until(world, lambda: _lowest_watermark(world) >= due, SETTLE_SECONDS):
        world.problems.append("the partitions did not get a last tick")
        return False
    world.ticks = False
    if not await _until(world, lambda: _is_settled(world), SETTLE_SECONDS):
        world.problems.append("not everything arrived in the books")
        return False
    if not await settle(world):
        world.problems.append("not everything was billed")
    return True


async def _until(world: World, is_true: Callable[[], bool], seconds: float) -> bool:
    until = world.loop.now + seconds
    while not is_true():
        if world.loop.now > until:
            return False
        await asyncio.sleep(0.3)
    return True


def _saved(world: World, topic: str, partition: int) -> int:
    """How far a partition is durable with whoever owns it."""
    found = -1
    for _, worker in world.live_workers():
        for tp, durable in worker._owned.items():
            if tp == (topic, partition) and durable.saved_offset is not None:
                found = max(found, durable.saved_offset)
    return found


def _has_begun(world: World) -> bool:
    """Whether every partition has seen the first month begin."""
    n = world.names
    return all(_saved(world, topic, p) > 0 for topic in (n.events, n.hourly) for p in range(PARTITIONS))


def _lowest_watermark(world: World) -> int:
    marks = {
        tp.partition: durable.fold.watermark
        for _, worker in world.live_workers()
        for tp, durable in worker._owned.items()
        if isinstance(durable.fold, MeterFold)
    }
    return min(marks.values()) if len(marks) == PARTITIONS else 0


def _is_settled(world: World) -> bool:
    """Whether every fold is at the end of its log, and every result is in the database."""
    n, log = world.names, world.broker.log
    partitions = range(PARTITIONS)
    folded = all(_saved(world, t, p) == log(t, p).end for t in (n.events, n.hourly) for p in partitions)
    if not folded or not world.books.tables:
        return False
    found = world.books.answer("FROM sink_progress", {"sink": "clickhouse"})
    stored = {(topic, p): offset for topic, p, offset in found}
    results = (n.events, n.hourly, n.charges, n.rejected)
    if not all(stored.get((t, p), 0) == log(t, p).end for t in results for p in partitions):
        return False
    progress = {row["partition"]: row["next_offset"] for row in world.books.current("progress")}
    return all(progress.get(p) == log(n.events, p).end for p in partitions)
