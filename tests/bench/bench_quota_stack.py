"""Quotas on the real stack: `python -m tests.bench.bench_quota_stack [EVENTS_A_SECOND]`.

One worker, one client. A reservation's round trip, and the time from sending an event until the client's view
includes it; milliseconds, the median and 99 %. With a rate, other customers' usage is sent meanwhile.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from metering.client import Metering
from metering.local import parts
from metering.producer import UsageProducer
from metering.quota.local import LocalView
from metering.settings import Settings
from metering.topics import Names
from tests.demo.world import running
from tests.state.folding import CATALOG, event

SAMPLES = 300
LIMITED = CATALOG.replace(
    "customers:\n  - {id: a,",
    "customers:\n  - {limits: [{id: l, meter: tokens, units: 1000000000, window: month}], id: a,",
)
console = Console()


def posted(view: LocalView) -> int:
    """What the client knows to be counted."""
    (gate,) = view._spots["a", "tokens"]
    state = gate.states.get(gate.start)
    return int(state.posted) if state is not None else 0


async def load(settings: Settings, rate: int) -> None:
    """Usage of another customer, in envelopes, until cancelled."""
    number = 0
    async with UsageProducer(settings.brokers(), Names(settings).events) as producer:
        while rate:
            began, now = time.monotonic(), time.time_ns() // 1_000_000
            for _ in range(max(1, rate // 5_000)):
                events = [event(number + n, "b", time=now) for n in range(500)]
                number += 500
                await producer.send([(b"b", b"[" + b",".join(events) + b"]")])
            await asyncio.sleep(max(0.0, 0.1 - (time.monotonic() - began)))


async def measure(settings: Settings, rate: int) -> None:
    """Both times, printed."""
    async with Metering(settings.brokers(), prefix=settings.topic_prefix) as metering:
        while metering.quotas.check_locally("a", "tokens", 1).reason != "ok":  # noqa: ASYNC110 - a view is silent
            await asyncio.sleep(0.05)
        busy = asyncio.create_task(load(settings, rate))
        trips, changes = [], []
        for _ in range(SAMPLES):
            began = time.monotonic()
            held = await metering.quotas.reserve("a", "tokens", 1)
            trips.append(time.monotonic() - began)
            await metering.quotas.release("a", held.lease)
        for _ in range(SAMPLES):
            before, began = posted(metering.view), time.monotonic()
            await metering.usage.emit("a", "use", {"n": 1, "kind": "x"})
            while posted(metering.view) == before:  # noqa: ASYNC110 - a view is silent
                await asyncio.sleep(0.001)
            changes.append(time.monotonic() - began)
        busy.cancel()
    for name, taken in (("reservation, round trip", trips), ("event to changed state", changes)):
        taken.sort()
        half, most = (round(taken[len(taken) * share // 100] * 1_000) for share in (50, 99))
        console.print(f"{name}: median {half} ms, 99 %: {most} ms")


def main() -> None:
    """Start parts of its own, measure, stop them."""
    rate = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with tempfile.TemporaryDirectory(prefix="bench-quota-") as folder:
        local = Settings(home=Path(folder))
        parts.up(local)
        try:
            own = local.model_copy(
                update={"kafka_brokers": local.brokers(), "clickhouse_url": local.clickhouse()}
            )
            with running(own, LIMITED):
                asyncio.run(measure(own, rate))
        finally:
            parts.down(local)


if __name__ == "__main__":
    main()
