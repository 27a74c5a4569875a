"""How far clients pass a hard limit, by what they decide with: `python -m tests.quota.overshoot`.

A seeded simulation of N clients at one limit. The owner is the real fold part, the clients are real
local views; only Kafka is a delay with jitter. Requests are lost and repeated, clients die with a lease in
hand. Prints the bound beside the highest and the mean overshoot of all seeds, in requests, what was
left of the limit at the end, and the reservations for a request.
"""

import heapq
import itertools
import random
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, Literal

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from metering.quota.held import Asked, answered
from metering.quota.limits import ONE
from metering.quota.local import LocalView
from metering.quota.quotas import Quotas
from metering.quota.wire import Reply, Reserve
from tests.quota.world import START, catalog, quotas

Mode = Literal["cached", "overlay", "strict zone", "leases"]
MODES: tuple[Mode, ...] = ("cached", "overlay", "strict zone", "leases")
STEP_MS = 10  # how often the owner folds
BLOCK = 100


@dataclass(frozen=True)
class Case:
    """`clients` at `rate` requests a second each; `lag_ms` from a request to its effect elsewhere."""

    clients: int
    rate: int
    lag_ms: int
    seconds: int = 6  # until the limit is reached
    faults: bool = True
    starved_ms: int = 0  # how much later records come to every second client, from the middle on

    @property
    def limit(self) -> int:
        return self.clients * self.rate * self.seconds

    def bound(self, mode: Mode) -> int:
        """Of the notes: N·r·L, less the own share with an overlay, nothing where a hold decides.

        Arrivals are random: the bound has four standard deviations on top.
        """
        others = {"cached": self.clients, "overlay": self.clients - 1}.get(mode, 0)
        expected = others * self.rate * self.lag_ms // 1_000
        return expected + 4 * int(expected**0.5) + (1 if mode == "cached" else 0)


@dataclass
class Client:
    view: LocalView
    name: str
    waiting: int = 0
    asked: int = 0
    open: Asked | None = None
    is_dead: bool = False


@dataclass
class Result:
    overshoot: int
    served: int
    left: int
    asked: int


@dataclass
class World:
    """One run."""

    case: Case
    mode: Mode
    seed: int
    owner: Quotas = field(init=False)
    now: int = START
    queue: list[tuple[int, int, str, Any]] = field(default_factory=list)
    served: int = 0
    asked: int = 0
    offset: int = 0

    def __post_init__(self) -> None:
        limit = {"id": "l", "meter": "calls", "units": self.case.limit, "window": "month"}
        self.owner = quotas(catalog({"limits": [limit]}), lag_ms=self.case.lag_ms)
        self.random = random.Random(self.seed)
        self.order = itertools.count()
        self.clients = [Client(LocalView(), f"c{n}") for n in range(self.case.clients)]
        self.log: list[tuple[str, Any]] = []
        self.last_take = 0
        # A lag has three parts: into the log, until states are taken, out to every client.
        self.pause = max(STEP_MS, self.case.lag_ms // 10)
        self.way = (self.case.lag_ms - self.pause - STEP_MS) // 2

    def at(self, delay: int, what: str, load: Any) -> None:
        heapq.heappush(self.queue, (self.now + delay, next(self.order), what, load))

    def jittered(self, delay: int) -> int:
        return max(1, int(delay * self.random.uniform(0.8, 1.0)))

    def run(self) -> Result:
        self.publish()
        for client in self.clients:
            client.view.is_ready = True
            self.at(self.way + self.arrival(), "request", client)
        self.at(STEP_MS, "fold", None)
        end = START + (self.case.seconds + 3) * 1_000 + 6 * self.case.lag_ms
        while self.queue and self.queue[0][0] < end:
            self.now, _, what, load = heapq.heappop(self.queue)
            getattr(self, f"do_{what}")(load)
        for what, load in self.log:
            self.fold(what, load)
        quota = next(iter(self.owner._accounts["a"].quotas.values()))
        counter = next(iter(quota.counters.values()))
        over = counter.posted // ONE - self.case.limit
        return Result(max(0, over), self.served, max(0, -over), self.asked)

    def arrival(self) -> int:
        return max(1, int(self.random.expovariate(self.case.rate) * 1_000))

    # -- clients ----------------------------------------------------------------------------------

    def do_request(self, client: Client) -> None:
        if self.case.faults and self.case.clients >= 10 and self.random.random() < 0.00005:
            client.is_dead = True  # whatever it holds is held until it expires
        if client.is_dead:
            return
        self.at(self.arrival(), "request", client)
        if self.mode == "leases":
            answer = client.view._leases.fitting(("a", "calls"), ONE, 1, self.now)
            if answer:
                self.serve(client, answer)
            else:
                self.ask(client)
            return
        found = client.view.check("a", "calls", ONE, self.now)
        if found.verdict == "deny":
            return
        if found.verdict == "reserve" and self.mode == "strict zone":
            self.ask(client)
        else:
            self.serve(client, found.lease)

    def serve(self, client: Client, lease: str = "") -> None:
        self.served += 1
        own = None
        if lease or self.mode != "cached":
            own = client.view.begin("a", "calls", ONE, lease=lease)
        self.at(self.jittered(self.way), "append", ("use", (client, lease, own)))

    def ask(self, client: Client) -> None:
        client.waiting += 1
        if client.open is not None:
            return
        client.asked += 1
        self.asked += 1
        name = f"{client.name}-{client.asked}"
        request = Reserve(
            name, client.name, "a", "calls", str(BLOCK * ONE), requests=BLOCK, validity_ms=600_000
        )
        client.open = client.view.ask(request)
        self.send(client, replace(request, unseen=client.open.unseen))

    def send(self, client: Client, request: Reserve) -> None:
        if not (self.case.faults and self.random.random() < 0.05):
            self.at(self.jittered(self.way), "append", ("ask", (client, request)))
        self.at(6 * self.case.lag_ms, "retry", (client, request))

    def do_retry(self, load: tuple[Client, Reserve]) -> None:
        client, request = load
        if client.open is not None and request.request == f"{client.name}-{client.asked}":
            self.send(client, request)

    def do_reply(self, load: tuple[Client, Reply]) -> None:
        client, reply = load
        if client.open is None or reply.request != f"{client.name}-{client.asked}":
            return  # a reply that was repeated
        answered(client.open, reply)
        client.open = None
        waiting, client.waiting = client.waiting, 0
        client.view.take_reply("a", "calls", reply, self.now)
        for _ in range(waiting):
            lease = client.view._leases.fitting(("a", "calls"), ONE, 1, self.now)
            if lease:
                self.serve(client, lease)

    # -- the owner --------------------------------------------------------------------------------

    def do_append(self, load: tuple[str, Any]) -> None:
        what, body = load
        if what == "use" and body[2] is not None:
            body[0].view.delivered(body[2], self.offset)
        self.offset += what == "use"
        self.log.append((what, body))

    def do_fold(self, _: None) -> None:
        self.owner.advance(self.now)
        log, self.log = self.log, []
        for what, load in log:
            self.fold(what, load)
        if self.owner.is_urgent or self.now - self.last_take >= self.pause:
            self.publish()
        self.at(STEP_MS, "fold", None)

    def fold(self, what: str, load: Any) -> None:
        if what == "use":
            self.owner.post("a", "calls", (), self.now, ONE, lease=load[1])
            return
        client, request = load
        reply = self.owner.ask(request)
        if not (self.case.faults and self.random.random() < 0.05):
            self.at(self.jittered(self.way), "reply", (client, reply))

    def publish(self) -> None:
        self.last_take = self.now
        records = [*self.owner.take(self.offset).states, self.owner.heartbeat(self.now)]
        is_starving = self.now - START > self.case.seconds * 500
        for place, client in enumerate(self.clients):
            late = self.case.starved_ms if place % 2 and is_starving else 0
            self.at(self.jittered(self.way) + late, "records", (client, records))

    def do_records(self, load: tuple[Client, list[tuple[bytes, bytes | None]]]) -> None:
        client, records = load
        for key, value in records:
            client.view.apply(key, value, 0, self.now)


def simulate(case: Case, mode: Mode, seed: int) -> Result:
    """One run of one case."""
    return World(case, mode, seed).run()


CASES = (Case(1, 500, 1_000), Case(2, 500, 1_000), Case(10, 100, 1_000), Case(10, 100, 50), Case(40, 25, 500))


def main() -> int:
    """Run all cases and print the table."""
    table = Table("clients", "each/s", "lag ms", "mode", "bound", "highest", "mean", "left", "trips/unit")
    for case in CASES:
        for mode in MODES:
            runs = [simulate(case, mode, seed) for seed in range(5)]
            table.add_row(
                *map(str, (case.clients, case.rate, case.lag_ms, mode, case.bound(mode))),
                str(max(run.overshoot for run in runs)),
                f"{mean(run.overshoot for run in runs):.0f}",
                f"{mean(run.left for run in runs):.0f}",
                f"{mean(run.asked / run.served for run in runs):.3f}",
            )
    Console(width=110).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
