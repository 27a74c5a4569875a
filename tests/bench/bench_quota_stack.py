"""Quotas on the real stack: a reservation's round trip, and how soon a client knows of usage.

One worker and one client; a process of its own sends other customers' usage meanwhile, one of them with a
limit, by which the load is measured. `python -m tests.bench.bench_quota_stack BROKERS TOPIC RATE` is that
process.
"""

import asyncio
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.worker import running
from metering.client import Metering
from metering.local import parts
from metering.producer import UsageProducer
from metering.quota.local import LocalView
from metering.settings import Settings
from metering.topics import Names
from tests.demo.world import set_up
from tests.state.folding import CATALOG

SAMPLES = 300
OTHERS, ENVELOPE, TURN_SECONDS = 8, 500, 0.1
_SETTLE_SECONDS = 5.0
LIMIT = "limits: [{id: l, meter: tokens, units: 1000000000000, window: month}]"
LIMITED = CATALOG.replace("customers:\n  - {id: a,", f"customers:\n  - {{{LIMIT}, id: a,") + "".join(
    f"  - {{id: b{n}, name: B, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z"
    f"{f', {LIMIT}' if n == 0 else ''}}}\n"
    for n in range(OTHERS)
)
EVENT = b'{"id":"%d","customer":"%b","type":"use","time":%d,"data":{"n":1,"kind":"x"}}'
Row = tuple[str, str]


# -- the load -------------------------------------------------------------------------------------


async def load(brokers: str, topic: str, rate: int) -> None:
    """Usage of other customers in envelopes, at a rate, until killed; never faster to catch up."""
    numbers, names = itertools.count(), itertools.cycle(b"b%d" % n for n in range(OTHERS))
    envelopes = round(rate * TURN_SECONDS / ENVELOPE)
    async with UsageProducer(brokers, topic) as producer:
        while True:
            began, now = time.monotonic(), time.time_ns() // 1_000_000
            made = [(name, _envelope(numbers, name, now)) for name in itertools.islice(names, envelopes)]
            await producer.send(made)
            await asyncio.sleep(max(0.0, TURN_SECONDS - (time.monotonic() - began)))


def _envelope(numbers: "itertools.count[int]", name: bytes, now: int) -> bytes:
    chosen = itertools.islice(numbers, ENVELOPE)
    return b"[" + b",".join(EVENT % (number, name, now) for number in chosen) + b"]"


# -- what is measured -----------------------------------------------------------------------------


def posted(view: LocalView, customer: str = "a") -> int:
    """What the client knows to be counted, in units."""
    (gate,) = view._spots[customer, "tokens"]
    if not gate.states:
        return 0
    return int(gate.states[max(gate.states)].posted) // 1_000_000  # of the newest window


def counted(view: LocalView) -> int:
    """What is counted for the others: each has as many events, and an event is a unit."""
    return OTHERS * posted(view, "b0")


async def measure(settings: Settings) -> list[Row]:
    """Both times and the rate of the load meanwhile, as the folded states say."""
    async with Metering(settings.brokers(), prefix=settings.topic_prefix) as metering:
        async with asyncio.timeout(120):
            while any((name, "tokens") not in metering.view._spots for name in ("a", "b0")):  # noqa: ASYNC110 - a view is silent
                await asyncio.sleep(0.05)
        await asyncio.sleep(_SETTLE_SECONDS)
        before, began = counted(metering.view), time.monotonic()
        trips = [await _trip(metering) for _ in range(SAMPLES)]
        changes = [await _change(metering) for _ in range(SAMPLES)]
        rate = (counted(metering.view) - before) / (time.monotonic() - began)
    return [
        ("load meanwhile, folded", f"{rate:,.0f} events a second"),
        ("reservation, round trip", _spread(trips)),
        ("event to changed state at the client", _spread(changes)),
    ]


async def _trip(metering: Metering) -> float:
    began = time.monotonic()
    held = await metering.quotas.reserve("a", "tokens", 1)
    taken = time.monotonic() - began
    await metering.quotas.release("a", held.lease)
    return taken


async def _change(metering: Metering) -> float:
    before, began = posted(metering.view), time.monotonic()
    await metering.usage.emit("a", "use", {"n": 1, "kind": "x"})
    async with asyncio.timeout(120):
        while posted(metering.view) == before:  # noqa: ASYNC110 - a view is silent
            await asyncio.sleep(0.001)
    return time.monotonic() - began


def _spread(taken: list[float]) -> str:
    taken.sort()
    half, most = (taken[len(taken) * share // 100] * 1_000 for share in (50, 99))
    return f"median {half:.0f} ms, 99 %: {most:.0f} ms"


def run(rate: int) -> list[Row]:
    """Start parts of its own and a load, measure, stop them."""
    with tempfile.TemporaryDirectory(prefix="bench-quota-") as folder:
        local = Settings(home=Path(folder))
        try:
            parts.up(local)
            place = {"kafka_brokers": local.brokers(), "clickhouse_url": local.clickhouse()}
            own = local.model_copy(update=place)
            set_up(own, LIMITED)
            with running(own):
                return _under_load(own, rate)
        finally:
            parts.down(local)


def _under_load(own: Settings, rate: int) -> list[Row]:
    command = [sys.executable, "-m", "tests.bench.bench_quota_stack", own.brokers(), Names(own).events]
    busy = subprocess.Popen([*command, str(rate)])
    try:
        return asyncio.run(measure(own))
    finally:
        busy.kill()
        busy.wait()


if __name__ == "__main__":
    asyncio.run(load(sys.argv[1], sys.argv[2], int(sys.argv[3])))
