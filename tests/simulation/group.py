"""A consumer group and its members: who owns which partition, and what is fetched for whom.

A member stands for Faust and its transport: it revokes, loads, seeks, fetches and hands batches to
agents. It loses, repeats and reorders what it can.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from faust.types import TP

from metering.transport import Batch
from tests.simulation.broker import Broker
from tests.simulation.chance import Chance
from tests.simulation.clients import hop
from tests.simulation.loop import Loop, Process

SESSION_SECONDS = 10.0
REBALANCE_SECONDS = 30.0
BUFFERED = 32  # batches


class Partitions(set[TP]):
    """A set in an order that does not depend on hashes: a run can be repeated."""

    def __iter__(self) -> Iterator[TP]:
        return iter(sorted(super().__iter__()))

    def __sub__(self, other: AbstractSet[Any]) -> "Partitions":
        return Partitions(tp for tp in self if tp not in other)

    def __and__(self, other: AbstractSet[object]) -> "Partitions":
        return Partitions(tp for tp in self if tp in other)


class Owner(Protocol):
    """The worker or the sink, as the transport sees it."""

    async def load(self, tps: set[TP]) -> Mapping[TP, int]: ...

    async def release(self, tps: set[TP]) -> None: ...

    async def take(self, batch: Batch) -> None: ...


class Member:
    """One process in a group; it is also the `consumer` of its owner."""

    def __init__(self, group: "Group", process: Process, owner: Owner, agents: Sequence[set[str]]) -> None:
        self.group = group
        self.process = process
        self.owner = owner
        self.tps = Partitions()
        self.positions: dict[TP, int] = {}
        self.generation = -1
        self.has_joined = False
        self._flows = False
        self._callbacks = asyncio.Lock()
        self._queues: list[tuple[set[str], deque[Batch]]] = [(topics, deque()) for topics in agents]
        self._waiters: list[asyncio.Future[None]] = []
        group.broker.watchers.append(self._appended)
        process.at_end.append(lambda: group.broker.watchers.remove(self._appended))
        process.spawn(self._fetch())
        for _, queue in self._queues:
            process.spawn(self._agent(queue))

    # -- what the coordinator asks for -----------------------------------------------------------

    async def revoke(self, generation: int) -> None:
        """Give every partition back before a new generation."""
        async with self._callbacks:
            if generation > self.generation:
                await self._give_back()

    async def assign(self, tps: Partitions, generation: int) -> None:
        """Take partitions over and go on from the positions of their states."""
        async with self._callbacks:
            if generation != self.group.generation:
                return  # the group has gone on meanwhile
            if self.tps:
                await self._give_back()
            self.generation, self.tps = generation, tps
            self.positions = dict(await self.owner.load(tps))
            self._flows = True
            self._wake()

    async def notice(self) -> None:
        """Learn from a heartbeat that the group went on without us, and join again."""
        await hop(self.group.chance)
        async with self._callbacks:
            await self._give_back()
        self.group.join(self)

    async def leave(self) -> None:
        """Give every partition back and go, as a worker that is told to stop."""
        async with self._callbacks:
            await self._give_back()
        self.group.leave(self)

    async def _give_back(self) -> None:
        self._flows = False
        mine, self.tps = self.tps, Partitions()
        if self.group.chance.hits("queue cleared"):
            for _, queue in self._queues:
                queue.clear()
        await self.owner.release(mine)

    # -- what the owner asks for -----------------------------------------------------------------

    async def seek_batches(self, offsets: Mapping[TP, int]) -> None:
        """Fetch from here on; what is under way still comes."""
        await hop(self.group.chance)
        self.positions.update({tp: o for tp, o in offsets.items() if tp in self.positions})
        self._wake()

    async def commit_positions(self, offsets: Mapping[TP, int]) -> None:
        """Tell the group; it does not listen to members of an old generation."""
        await hop(self.group.chance)
        if self.generation == self.group.generation:
            self.group.committed.update(offsets)

    # -- fetching --------------------------------------------------------------------------------

    def _appended(self, topic: str, partition: int) -> None:
        if self._waiters and (topic, partition) in self.positions:
            self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _readable(self) -> list[TP]:
        log = self.group.broker.log
        full = sum(len(queue) for _, queue in self._queues) >= BUFFERED
        if not self._flows or full:
            return []
        return [tp for tp, at in self.positions.items() if log(*tp).end > at]

    async def _fetch(self) -> None:
        chance = self.group.chance
        while True:
            found = self._readable()
            if not found:
                await self._wait()
                continue
            tp = chance.random.choice(found)
            at, generation = self.positions[tp], self.generation
            chunks = self.group.broker.chunks(*tp, at, 1 + int(chance.random.expovariate(0.2)))
            await hop(chance)
            if not self._flows or generation != self.generation or not chunks:
                continue
            if self.positions[tp] == at or chance.hits("seek raced"):
                self._hand_over(tp, Batch(tp, chunks, None))

    def _hand_over(self, tp: TP, batch: Batch) -> None:
        chance = self.group.chance
        queue = next(queue for topics, queue in self._queues if tp.topic in topics)
        self.positions[tp] = batch.next
        if chance.hits("batch dropped"):
            return
        queue.append(batch)
        if chance.hits("batch again"):
            self.positions[tp] = chance.random.randint(self.group.broker.log(*tp).first, batch.next)
        if len(queue) > 1 and chance.hits("batches swapped"):
            queue[-1], queue[-2] = queue[-2], queue[-1]
        self._wake()

    async def _agent(self, queue: deque[Batch]) -> None:
        while True:
            if not queue:
                await self._wait()
                continue
            batch = queue.popleft()
            self._wake()
            await hop(self.group.chance)
            await self.owner.take(batch)


class Group:
    """The coordinator of one group, on the broker's side."""

    def __init__(
        self,
        loop: Loop,
        broker: Broker,
        chance: Chance,
        tps: Iterable[TP],
        ended: Callable[[Process, Exception], None],
    ) -> None:
        self.broker = broker
        self._ended = ended
        self.chance = chance
        self.tps = Partitions(tps)
        self.generation = 0
        self.committed: dict[TP, int] = {}
        self.members: list[Member] = []
        self._loop = loop
        self._wanted = asyncio.Event()
        loop.kernel.spawn(self._coordinate())

    def join(self, member: Member) -> None:
        """A member is there, again or for the first time."""
        if member not in self.members and member.process.alive:
            self.members.append(member)
            member.has_joined = True
            member.process.at_end.append(lambda: self._loop.call_later(SESSION_SECONDS, self.leave, member))
        self.stir()

    def leave(self, member: Member) -> None:
        """A member is not there any more."""
        if member in self.members:
            self.members.remove(member)
            self.stir()

    def stir(self) -> None:
        """Deal the partitions anew."""
        self._wanted.set()

    async def _coordinate(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await asyncio.sleep(0.05 + self.chance.random.random())
            self.generation += 1
            await self._revoke(self.generation)
            self._deal()

    async def _revoke(self, generation: int) -> None:
        asked = [(m, self._ask(m, lambda m=m: m.revoke(generation))) for m in self.members]
        for member, answer in asked:
            await self._answer(member, answer)

    def _ask(self, member: Member, work: Callable[[], Awaitable[None]]) -> "asyncio.Future[None]":
        answer = self._loop.create_future()

        def tell() -> None:
            if not answer.done():
                answer.set_result(None)

        async def act() -> None:
            try:
                await work()
            except Exception as error:  # Faust ends an app whose callback fails
                self._ended(member.process, error)
            tell()

        if member.process.alive:
            member.process.at_end.append(tell)
            member.process.spawn(act())
        else:
            tell()
        return answer

    async def _answer(self, member: Member, answer: "asyncio.Future[None]") -> None:
        """Wait for a member; who sleeps longer than a session is left behind."""
        until = self._loop.now + REBALANCE_SECONDS
        while not answer.done() and self._loop.now < until:
            slept = member.process.frozen_at
            if slept is not None and self._loop.now - slept >= SESSION_SECONDS:
                break
            await asyncio.wait([answer], timeout=0.5)
        if not answer.done() or not member.process.alive:
            self.leave(member)

    def _deal(self) -> None:
        if not self.members:
            return
        hands: list[list[TP]] = [[] for _ in self.members]
        tps = list(self.tps)
        self.chance.random.shuffle(tps)
        for number, tp in enumerate(tps):
            hands[number % len(hands)].append(tp)
        for member, hand in zip(self.members, hands, strict=True):
            mine, generation = Partitions(hand), self.generation
            self._ask(member, lambda m=member, p=mine, g=generation: m.assign(p, g))
