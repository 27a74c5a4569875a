"""How far clients pass a hard limit on the real stack, beside the published bounds.

`python -m tests.client.overshoot` starts parts of its own and prints a table; `make bench-overshoot-stack`.
Each mode is a customer of its own that several client processes serve at a known rate until they are refused.
The bound is that of the simulation (`tests/quota/overshoot.py`), with the longest lag that was measured: from
a decision until the view of the client that decided includes its usage.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from metering.client import Metering, Reservation
from metering.local import parts
from metering.producer import UsageProducer
from metering.settings import Settings
from metering.topics import Names
from tests.demo.world import running
from tests.quota.overshoot import MODES, Case, Mode
from tests.state.folding import CATALOG

CLIENTS, RATE, LIMIT = 4, 20, 800  # requests a second of each client
LAG_MS = 1_500  # what the deployment states; strict zones are as wide as that
BLOCK = 25
_REFUSED_SECONDS, _LONGEST_SECONDS = 5.0, 60.0
_READ_SECONDS = 60.0
_LOOK_SECONDS = 0.005

LIMITED = CATALOG + "".join(
    f"  - {{id: {mode.replace(' ', '-')}, name: M, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z,"
    f" limits: [{{id: l, meter: calls, requests: {LIMIT}, window: month}}]}}\n"
    for mode in MODES
)


class Said(NamedTuple):
    """What one client did in a mode."""

    served: int
    lag_ms: int


class Row(NamedTuple):
    """What all clients did in a mode, in requests."""

    mode: Mode
    served: int
    lag_ms: int
    bound: int
    overshoot: int


# -- a client process -----------------------------------------------------------------------------


class Client:
    """Serves one customer at a rate, as its mode decides."""

    def __init__(self, metering: Metering, producer: UsageProducer, mode: Mode) -> None:
        self.metering, self.producer, self.mode = metering, producer, mode
        self.customer = mode.replace(" ", "-")
        self.served = self.lag_ms = 0
        self.lease = Reservation(False, "none")
        self.rest = 0
        self.sent: deque[tuple[float, int, int]] = deque()  # when it was decided, partition, offset

    async def work(self) -> Said:
        """Serve until nothing is admitted for some seconds."""
        watching = asyncio.create_task(self._watch())
        began = last = time.monotonic()
        serve: Callable[[], Awaitable[bool]] = getattr(self, f"_{self.mode.replace(' ', '_')}")
        while time.monotonic() < min(last + _REFUSED_SECONDS, began + _LONGEST_SECONDS):
            if await serve():
                self.served += 1
                last = time.monotonic()
            await asyncio.sleep(1 / RATE)  # never faster than the rate, also not to catch up
        await self._settle(watching)
        watching.cancel()
        return Said(self.served, self.lag_ms)

    async def _cached(self) -> bool:
        """From the view alone; what this client has sent is not subtracted."""
        decided = time.monotonic()
        if self.metering.quotas.check_locally(self.customer, "calls").verdict == "deny":
            return False
        ((partition, offset),) = await self.producer.deliver([(self.customer.encode(), self._event())])
        self.sent.append((decided, partition, offset))
        return True

    async def _overlay(self) -> bool:
        """From the view, less what this client has sent."""
        if self.metering.quotas.check_locally(self.customer, "calls").verdict == "deny":
            return False
        return await self._emit()

    async def _strict_zone(self) -> bool:
        """As applications do: from memory, near the limit by reservation."""
        decision = await self.metering.quotas.check(self.customer, "calls")
        return bool(decision) and await self._emit(decision)

    async def _leases(self) -> bool:
        """Reserve blocks, whatever the view says."""
        if not self.rest:
            self.lease = await self.metering.quotas.reserve(self.customer, "calls", 0, requests=BLOCK)
            self.rest = self.lease.requests if self.lease else 0
        if not self.rest:
            return False
        self.rest -= 1
        return await self._emit(lease=self.lease.lease)

    async def _emit(self, decision: Any = None, lease: str = "") -> bool:
        decided = time.monotonic()
        data = {"n": 1, "kind": "x"}
        sent = await self.metering.usage.emit(self.customer, "use", data, decision, lease=lease)
        self.sent.append((decided, sent.partition, sent.offset))
        return True

    def _event(self) -> bytes:
        name = f"{self.metering.client}-{self.served}"
        event = {"id": name, "customer": self.customer, "type": "use", "time": time.time_ns() // 1_000_000}
        return json.dumps({**event, "data": {"n": 1, "kind": "x"}}).encode()

    async def _watch(self) -> None:
        """How long it takes until the view includes what was sent; stops never by itself."""
        while True:
            while self.sent and self._includes(*self.sent[0][1:]):
                self.lag_ms = max(self.lag_ms, int((time.monotonic() - self.sent.popleft()[0]) * 1_000))
            await asyncio.sleep(_LOOK_SECONDS)

    def _includes(self, partition: int, offset: int) -> bool:
        (gate,) = self.metering.view._spots[self.customer, "calls"]
        seen = [state.as_of.get(str(partition), 0) for state in gate.states.values() if state is not None]
        return max(seen, default=0) > offset

    async def _settle(self, watching: "asyncio.Task[None]") -> None:
        """The last of what was sent is included."""
        async with asyncio.timeout(_LONGEST_SECONDS):
            while self.sent and not watching.done():  # noqa: ASYNC110 - a view tells nobody
                await asyncio.sleep(_LOOK_SECONDS)
        assert not self.sent, "nobody looked when the view includes it"


async def client(brokers: str, prefix: str, topic: str) -> None:
    """Serve each mode when a line comes in, and print what came of it."""
    async with (
        Metering(brokers, prefix=prefix, start_seconds=_READ_SECONDS, timeout_seconds=15) as metering,
        UsageProducer(brokers, topic) as producer,
    ):
        await _know(metering)
        print("ready", flush=True)  # noqa: T201 - its result
        for mode in MODES:
            await asyncio.to_thread(sys.stdin.readline)
            said = await Client(metering, producer, mode).work()
            print(json.dumps(said), flush=True)  # noqa: T201 - its result


async def _know(metering: Metering) -> None:
    """Wait for the limits: before a worker knows the time, nothing is limited."""
    customers = [mode.replace(" ", "-") for mode in MODES]
    async with asyncio.timeout(_READ_SECONDS):
        while any((name, "calls") not in metering.view._spots for name in customers):  # noqa: ASYNC110 - a view is silent
            await asyncio.sleep(0.05)


# -- all of them ----------------------------------------------------------------------------------


def measure(settings: Settings) -> list[Row]:
    """Each mode after the other, under a running worker."""
    place = [settings.brokers(), settings.topic_prefix, Names(settings).events]
    command = [sys.executable, "-m", "tests.client.overshoot", *place]
    pipe = subprocess.PIPE
    clients = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(CLIENTS)]
    try:
        for one in clients:
            assert _line(one) == "ready\n", "a client did not start"
        return [_together(clients, mode) for mode in MODES]
    finally:
        for one in clients:
            one.kill()
            one.wait()


def _together(clients: "list[subprocess.Popen[str]]", mode: Mode) -> Row:
    for one in clients:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [Said(*json.loads(_line(one))) for one in clients]
    served, lag_ms = sum(one.served for one in said), max(one.lag_ms for one in said)
    row = Row(mode, served, lag_ms, Case(CLIENTS, RATE, lag_ms).bound(mode), max(0, served - LIMIT))
    print(row, flush=True)  # noqa: T201 - measured on the way
    return row


def _line(one: "subprocess.Popen[str]") -> str:
    assert one.stdout is not None
    return one.stdout.readline()


def table(rows: list[Row]) -> Table:
    """The rows beside their bounds."""
    title = f"{CLIENTS} clients, {RATE} requests a second each, a limit of {LIMIT}"
    made = Table("mode", "longest lag ms", "bound", "overshoot", "served", title=title)
    for row in rows:
        made.add_row(row.mode, *map(str, (row.lag_ms, row.bound, row.overshoot, row.served)))
    return made


def own(settings: Settings) -> Settings:
    """The deployment that is measured."""
    return settings.model_copy(update={"partitions": 2, "quota_lag_ms": LAG_MS})


def main() -> int:
    """Start parts of its own, measure, stop them; the exit code is 0 within the bounds."""
    with tempfile.TemporaryDirectory(prefix="bench-overshoot-") as folder:
        local = Settings(home=Path(folder))
        try:
            parts.up(local)
            place = {"kafka_brokers": local.brokers(), "clickhouse_url": local.clickhouse()}
            settings = own(local.model_copy(update=place))
            with running(settings, LIMITED):
                rows = measure(settings)
        finally:
            parts.down(local)
    Console().print(table(rows))
    return int(any(row.overshoot > row.bound for row in rows))


if __name__ == "__main__":
    sys.exit(asyncio.run(client(*sys.argv[1:])) if len(sys.argv) > 1 else main())
