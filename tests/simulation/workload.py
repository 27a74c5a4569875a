"""What happens outside: two months of usage, late and repeated and broken events, catalog revisions."""

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from metering.state.calendar import period
from metering.state.partitioning import partition_of
from tests.simulation.model import CUSTOMERS, HOUR_MS, PARTITIONS

if TYPE_CHECKING:
    from tests.simulation.world import World

DAY_MS = 24 * HOUR_MS
START = period("2026-01").starts * 1_000
ENDS = {month: period(month).ends * 1_000 for month in ("2026-01", "2026-02")}
GRACE_MS = DAY_MS
LATEST_MS = 25 * DAY_MS  # an event arrives at most so much later than it happened
AGAIN_MS = 33 * DAY_MS  # a copy comes at most so much later than the first one, within the horizon
BROKEN = (
    b"noise",
    b"",
    b'{"id": "x1", "customer": "nobody", "type": "use", "time": 1768000000000, "data": {"n": 1}}',
    b'{"id": "x2", "customer": "acme", "type": "use", "time": 1768000000000, "data": {"n": -1}}',
    b'{"id": "x3", "customer": "acme", "type": "use", "time": 1768000000000, "data": {}}',
)


class Sent(NamedTuple):
    """An event that was sent, and when for the first time (epoch ms)."""

    partition: int
    value: bytes
    at: int


class Workload:
    """The applications that send usage, and the people who publish catalogs."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.random = Random(world.seed ^ 0x5EED)
        self.sent: list[Sent] = []
        self.closes_second_month = self.random.random() < 0.6
        self.busy = [ENDS["2026-01"] - HOUR_MS, ENDS["2026-01"]]
        self.busy += [START + self.random.randrange(59 * 24) * HOUR_MS for _ in range(5)]
        self._number = 0
        self._amended: dict[str, Any] = {}  # event id → the data it was given last

    def moments(self) -> list[int]:
        """Instants at which something is sent, closer together where a month closes."""
        end = ENDS["2026-02"] + (GRACE_MS if self.closes_second_month else -5 * DAY_MS)
        found = [self.random.randint(START + HOUR_MS, end - HOUR_MS) for _ in range(8)]
        for month in ENDS:
            close = ENDS[month] + GRACE_MS
            found += [
                m for m in (close - HOUR_MS, close + 2_000, close + 60_000, close + 3 * HOUR_MS) if m < end
            ]
        return sorted(found)

    async def begin(self) -> None:
        """The first usage in each partition."""
        for customer in CUSTOMERS[:PARTITIONS]:
            value = self._body(customer, self.world.wall())
            await self._send(partition_of(customer, PARTITIONS), [value])

    async def run(self) -> None:
        """Send everything; each send is repeated until it is acknowledged."""
        world = self.world
        revisions = {2: START + 20 * DAY_MS, 3: ENDS["2026-01"] + self.random.randint(0, 20) * DAY_MS}
        for moment in self.moments():
            for revision, due in revisions.items():
                if due <= moment and world.revision < revision:
                    world.publish_catalog(revision)
            if moment > ENDS["2026-02"] - DAY_MS:
                await world.catalog_is_known()
            world.leap_to(moment)
            await self._send_some()
            await asyncio.sleep(self.random.choice((0.0, 0.5, 2.0)) * self.random.random())
        if world.revision < max(revisions):
            world.publish_catalog(max(revisions))

    async def _send_some(self) -> None:
        waiting = [self._send(*self._draw()) for _ in range(self.random.randint(0, 5))]
        for work in waiting:
            if self.random.random() < 0.5:
                await asyncio.sleep(0.2 * self.random.random())
            await work

    async def _send(self, partition: int, values: list[bytes]) -> None:
        world = self.world
        records = [(None, value) for value in values]
        while True:
            try:
                await world.broker.produce(world.names.events, partition, records)
                return
            except RuntimeError:  # what the broker's errors are
                await asyncio.sleep(0.2)

    def _draw(self) -> tuple[int, list[bytes]]:
        """One record batch: new events, copies of earlier ones, broken ones."""
        kind = self.random.random()
        now = self.world.wall()
        if kind < 0.08:
            return self.random.randrange(PARTITIONS), [self.random.choice(BROKEN)]
        known = [s for s in self.sent if now - s.at < AGAIN_MS]
        if kind < 0.25 and known:
            return self._copy(self.random.choice(known))
        if kind < 0.33 and known:
            return self._correction(self.random.choice(known), now)
        customer = self.random.choice(CUSTOMERS)
        events = new = [self._event(customer, now) for _ in range(self.random.choice((1, 1, 1, 2, 3)))]
        partition = partition_of(customer, PARTITIONS)
        if len(events) > 1 and self.random.random() < 0.5:
            events = [b"[" + b",".join(events) + b"]"]
        self.sent += [Sent(partition, event, now) for event in new]
        return partition, events

    def _copy(self, sent: Sent) -> tuple[int, list[bytes]]:
        """The same again; sometimes in another partition, or with other content."""
        kind = self.random.random()
        if kind < 0.1:  # a producer with another partitioner
            return 1 - sent.partition, [sent.value]
        if kind < 0.25:
            body = json.loads(sent.value)
            body["data"]["n"] = 61
            return sent.partition, [json.dumps(body).encode()]
        return sent.partition, [sent.value]

    def _correction(self, sent: Sent, now: int) -> tuple[int, list[bytes]]:
        """An event is taken back or amended; one that was voided before is refused."""
        event = json.loads(sent.value)
        if event["type"] != "use" or now - event["time"] > AGAIN_MS:
            return self._copy(sent)
        event["data"] = self._amended.get(event["id"], event["data"])
        data: dict[str, Any] = {"actor": "support", "reason": "wrong number", "event": event}
        kind = "metering.void"
        if self.random.random() < 0.6:
            kind, data["instead"] = "metering.amend", {"n": self.random.randint(0, 60)}
            self._amended[event["id"]] = data["instead"]
        self._number += 1
        body = {"id": f"c{self._number}", "customer": event["customer"], "type": kind, "time": now}
        value = json.dumps({**body, "data": data}).encode()
        self.sent.append(Sent(sent.partition, value, now))
        return sent.partition, [value]

    def _event(self, customer: str, now: int) -> bytes:
        """Half of all usage is in a few hours, so that the same totals change again and again."""
        first = max(START, now - LATEST_MS)
        busy = [hour for hour in self.busy if first <= hour < now]
        kind = self.random.random()
        if kind < 0.5 and busy:
            at = min(now, self.random.choice(busy) + self.random.randrange(HOUR_MS))
        elif kind < 0.7:
            at = self.random.randint(first, now)
        else:
            at = max(first, now - self.random.randint(0, 2 * HOUR_MS))
        return self._body(customer, at)

    def _body(self, customer: str, at: int) -> bytes:
        self._number += 1
        body = {"id": f"e{self._number}", "customer": customer, "type": "use", "time": at}
        return json.dumps({**body, "data": {"n": self.random.randint(0, 60)}}).encode()
