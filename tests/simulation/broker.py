"""A broker in memory: partitioned logs of record batches, compaction, retention, and a bad network."""

import asyncio
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from aiokafka.errors import KafkaConnectionError, RequestTimedOutError

from metering.state.fold import Chunk
from tests.simulation.chance import Chance
from tests.simulation.loop import Loop

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
Keyed = tuple[bytes | None, bytes | None]
Request = tuple[str, int, Sequence[Keyed]]  # topic, partition, records


class Record(NamedTuple):
    """One record at its offset."""

    offset: int
    key: bytes | None
    value: bytes | None


class LogBatch(NamedTuple):
    """One record batch: it covers `first` to `next - 1`, whatever compaction left of it."""

    first: int
    next: int
    records: tuple[Record, ...]
    appended: int


class PartitionLog:
    """One partition of one topic."""

    def __init__(self) -> None:
        self.first = self.end = 0
        self.batches: list[LogBatch] = []
        self.history: list[Keyed] = []  # every record that ever stood here

    def append(self, records: Sequence[Keyed], appended: int) -> None:
        """Append a batch, whole."""
        numbered = tuple(Record(self.end + n, k, v) for n, (k, v) in enumerate(records))
        self.batches.append(LogBatch(self.end, self.end + len(records), numbered, appended))
        self.end += len(records)
        self.history += records

    def read(self, offset: int, most: int) -> list[LogBatch]:
        """Up to `most` batches that reach behind an offset."""
        place = bisect_right(self.batches, offset, key=lambda b: b.next)
        return self.batches[place : place + most]

    def compact(self, now: int) -> None:
        """Keep the last record of each key among those older than the lag; the last batch stays."""
        old = [b for b in self.batches[:-1] if b.appended <= now - HOUR_MS]
        last = {r.key: r.offset for b in old for r in b.records}
        kept = []
        for b in old:
            gone = b.appended <= now - HOUR_MS - DAY_MS  # tombstones, after a day more
            left = tuple(r for r in b.records if last[r.key] == r.offset and not (r.value is None and gone))
            if left:
                kept.append(b._replace(records=left))
        self.batches = kept + self.batches[len(old) :]

    def expire(self, before: int) -> None:
        """Delete whole batches appended before a time."""
        while len(self.batches) > 1 and self.batches[0].appended < before:
            self.first = self.batches.pop(0).next


class Placed(NamedTuple):
    """Where a batch stands."""

    offset: int


class Broker:
    """All topics; produce requests reach it through a network that loses, delays and repeats."""

    def __init__(self, loop: Loop, chance: Chance, wall: Callable[[], int], partitions: int) -> None:
        self.partitions = partitions
        self.away_until = 0.0
        self.watchers: list[Callable[[str, int], None]] = []
        self._loop = loop
        self._chance = chance
        self._wall = wall
        self._late: list[Request] = []
        self._logs: defaultdict[tuple[str, int], PartitionLog] = defaultdict(PartitionLog)

    def log(self, topic: str, partition: int) -> PartitionLog:
        """One partition's log."""
        return self._logs[topic, partition]

    def histories(self) -> list[tuple[tuple[str, int], list[Keyed]]]:
        """Every record of every log, also those that compaction took."""
        return sorted((place, log.history) for place, log in self._logs.items())

    def check(self) -> None:
        """Fail as a client does that cannot reach the broker."""
        if self._loop.now < self.away_until:
            raise KafkaConnectionError("the simulated broker is away")

    def produce(self, topic: str, partition: int, records: Sequence[Keyed]) -> "asyncio.Future[Any]":
        """Send a batch; what is on the wire arrives even when its sender is gone."""
        answer, chance = self._loop.create_future(), self._chance
        after = partial(self._loop.call_later, context=self._loop.outside)
        there, back = chance.latency(), chance.latency()
        request = (topic, partition, records)
        if self._loop.now < self.away_until or chance.hits("request lost"):
            after(there + back, _fail, answer)
            return answer
        if chance.hits("request late"):
            self._late.append(request)
            after(there, _fail, answer)
            after(there + 6 * chance.random.random(), self._arrive, request)
            return answer
        placed: list[int] = []
        after(there, self._append, request, placed)
        if chance.hits("request doubled"):
            after(there, self._append, request)
        if chance.hits("answer lost"):
            after(there + back, _fail, answer)
        else:
            after(there + back, _succeed, answer, placed)
        return answer

    def _arrive(self, request: Request) -> None:
        if any(request is waiting for waiting in self._late):
            self._late = [waiting for waiting in self._late if waiting is not request]
            self._append(request)

    def flush(self) -> None:
        """Let everything arrive that is on its way: no network keeps a request for days."""
        for request in self._late:
            self._arrive(request)

    def _append(self, request: Request, placed: list[int] | None = None) -> None:
        topic, partition, records = request
        if placed is not None:
            placed.append(self.log(topic, partition).end)
        self.log(topic, partition).append(records, self._wall())
        for tell in self.watchers:
            tell(topic, partition)

    def chunks(self, topic: str, partition: int, offset: int, most: int) -> list[Chunk]:
        """A fetch: chunks that cover the log from an offset on without a hole, as the transport cuts them."""
        found, at = [], offset
        for batch in self.log(topic, partition).read(offset, most):
            left = [r for r in batch.records if r.offset >= at]
            offsets, values = [r.offset for r in left], [r.value for r in left]
            found.append(Chunk(at, batch.next, offsets, values, batch.appended))
            at = batch.next
        return found

    def compact(self, topics: Iterable[str]) -> None:
        """Compact topics, as a real broker does now and then."""
        for (topic, _), log in self._logs.items():
            if topic in topics:
                log.compact(self._wall())

    def expire(self, topic: str, retention_ms: int) -> None:
        """Delete what is older than the retention of a topic."""
        for partition in range(self.partitions):
            self.log(topic, partition).expire(self._wall() - retention_ms)


def _succeed(answer: "asyncio.Future[Any]", placed: list[int]) -> None:
    if not answer.done():
        answer.set_result(Placed(placed[0]))


def _fail(answer: "asyncio.Future[Any]") -> None:
    if not answer.done():
        answer.set_exception(RequestTimedOutError())
