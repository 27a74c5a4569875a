"""More partitions for a running deployment: states move with their customers, and the epoch rises.

No worker runs meanwhile; applications go on sending. In this order, each step safe to repeat:

1. the move is recorded as begun; workers refuse to start from here on
2. the topics get their partitions, and producers get the time to notice
3. what the old partitions hold is folded to its end, under the old rules
4. each new partition's state is written to its journal: its share of the parent's; recorded as divided
5. each parent's journal is cut down to what stays; recorded as done

Usage that a producer still sends to an old partition afterwards is a dead letter (`wrong_partition`),
which `metering rejected retry` sends to the right one.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError

from metering.catalog.reader import read_latest
from metering.catalog.resolved import Catalog
from metering.epochs import Epoch, Step, latest_epoch
from metering.errors import UserError
from metering.recovery.guards import refuse_while_running
from metering.recovery.logs import read_chunks
from metering.settings import Settings
from metering.state import opening, split
from metering.state.checkpoint import DurableFold, Verdict, pieces
from metering.state.fold import Changes, Entry, Output, Saved
from metering.state.journal import Journal
from metering.state.log_bounds import LogBounds
from metering.state.publish import Publisher
from metering.state.store import Store
from metering.topics import Names, apply, specs

_ADMIN_MS = 15_000
_NONE: Mapping[str, list[int]] = {}
_GONE_AT_ONCE = 20_000  # keys in one record batch

Tell = Callable[[str], None]


class Growth(NamedTuple):
    """A deployment before and after; equal in all but epoch and partitions."""

    old: Settings
    new: Settings


async def grow(settings: Settings, partitions: int, wait_seconds: float, tell: Tell) -> Growth:
    """Move a deployment to more partitions; what to set afterwards is in `new`."""
    if settings.is_simulated():
        raise UserError("the simulated broker cannot add partitions", hint="use Kafka: `metering local up`")
    await apply(settings)
    latest = await latest_epoch(settings)
    growth = _planned(settings, partitions, latest)
    if latest is not None and latest.step == "done" and latest.partitions == partitions:
        return growth
    await refuse_while_running(settings, Names(settings).worker_group, "workers")
    work = _Work(growth, tell)
    try:
        await work.run(latest, wait_seconds)
    finally:
        await work.close()
    return growth


def _planned(settings: Settings, partitions: int, latest: Epoch | None) -> Growth:
    """What is to be done, or to be finished; UserError when it cannot be."""
    before, epoch = settings.partitions, settings.epoch + 1
    if latest is not None and (latest.step != "done" or latest.partitions == partitions):
        before, epoch = latest.before, latest.epoch
        if partitions != latest.partitions:
            raise UserError(
                f"a move to {latest.partitions} partitions was begun and is not complete",
                hint=f"finish it first: `metering topics grow --partitions {latest.partitions}`",
            )
    elif latest is not None and latest.epoch > settings.epoch:
        raise UserError(
            f"METERING_EPOCH is {settings.epoch}; this deployment is in epoch {latest.epoch}",
            hint=f"set METERING_EPOCH={latest.epoch} and METERING_PARTITIONS={latest.partitions}",
        )
    if partitions <= before or partitions % before:
        raise UserError(
            f"{partitions} is no multiple of the {before} partitions that there are",
            hint=f"choose {2 * before} or {3 * before}: only then do customers move from one partition each",
        )
    old = settings.model_copy(update={"partitions": before, "epoch": epoch - 1})
    return Growth(old, settings.model_copy(update={"partitions": partitions, "epoch": epoch}))


class _Work:
    """The steps of one move, and the connections that they need."""

    def __init__(self, growth: Growth, tell: Tell) -> None:
        self._old, self._new = growth
        self._tell = tell
        self._names = Names(self._old)
        self._publisher = Publisher(self._old.brokers())
        self._bounds = LogBounds(self._old.brokers())

    async def close(self) -> None:
        """Release the connections."""
        await self._publisher.stop()
        await self._bounds.close()

    async def run(self, latest: Epoch | None, wait_seconds: float) -> None:
        """All steps, or those that are left."""
        await self._publisher.start()
        catalog = await read_latest(self._old.brokers(), self._names.catalog)
        if catalog is None:
            raise UserError("no catalog was published", hint="nothing can have been counted: use a new topic")
        if latest is None or latest.step != "divided":
            await self._check_partitions()
            await self._record("begun")
            await self._add_partitions()
            await self._wait(wait_seconds)
            await self._fold_to_the_end(catalog)
            states = await self._divide(catalog)
            await self._record("divided", states)
        else:
            states = latest.states
        await self._cut_down(catalog)
        await self._record("done", states)

    async def _record(self, step: Step, states: Mapping[str, list[int]] = _NONE) -> None:
        now = int(time.time() * 1_000)
        epoch = Epoch(self._new.epoch, self._old.partitions, self._new.partitions, step, now, dict(states))
        await self._publisher.publish(0, [Output(self._names.epochs, None, msgspec.json.encode(epoch))])

    async def _check_partitions(self) -> None:
        found = await self._publisher.partitions(self._names.events)
        if found not in (self._old.partitions, self._new.partitions):
            raise UserError(
                f"{self._names.events} has {found} partitions, METERING_PARTITIONS is {self._old.partitions}",
                hint="set METERING_PARTITIONS to what the workers ran with",
            )

    async def _add_partitions(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._old.brokers(), request_timeout_ms=_ADMIN_MS)
        try:
            await admin.start()
            names = [spec.name for spec in specs(self._old) if spec.partitions == self._old.partitions]
            found = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics(names)}
            small = [name for name in names if found[name] < self._new.partitions]
            if small:
                await admin.create_partitions({n: NewPartitions(self._new.partitions) for n in small})
        except KafkaError as error:
            raise UserError(
                f"the topics did not get their partitions: {error!r}", hint="run the same command again"
            ) from error
        finally:
            await admin.close()
        self._tell(f"{len(names)} topics have {self._new.partitions} partitions")

    async def _wait(self, seconds: float) -> None:
        if seconds:
            self._tell(f"waiting {seconds:.0f} s: producers learn of new partitions by their metadata's age")
            await asyncio.sleep(seconds)

    # -- the old partitions, to their end --------------------------------------------------------

    async def _fold_to_the_end(self, catalog: Catalog) -> None:
        self._old.home.mkdir(parents=True, exist_ok=True)
        for topic in (self._names.events, self._names.hourly):
            count = 0
            for partition in range(self._old.partitions):
                with tempfile.TemporaryDirectory(prefix="grow-", dir=self._old.home) as folder:
                    count += await self._fold_partition(topic, partition, Path(folder), catalog)
            self._tell(f"{topic}: {count:,} records that were left are folded")

    async def _fold_partition(self, topic: str, partition: int, folder: Path, catalog: Catalog) -> int:
        durable = self._durable(topic, partition, folder)
        try:
            start = await durable.load()
            bounds = await self._bounds.of(topic, partition)
            durable.check_reachable(bounds, topic)
            durable.fold.adopt(catalog)
            start = bounds.first if start is None else start
            async for chunks in read_chunks(self._old.brokers(), topic, partition, start, bounds.end):
                for piece in pieces(chunks):
                    verdict = durable.offer(piece, catalog)
                    assert verdict is not Verdict.GAP, f"a hole in {topic}-{partition}"
                    if durable.fold.is_heavy:
                        await durable.checkpoint()
            await durable.checkpoint()
            return bounds.end - start
        finally:
            durable.close()

    def _durable(self, topic: str, partition: int, folder: Path) -> DurableFold:
        fold = opening.new_fold(self._old, topic, partition, ids_folder=folder / "ids")
        store = Store(folder / "state", opening.identity(self._old, topic, partition))
        return DurableFold(
            fold, partition, self._old.epoch, store, self._journal(topic, self._old), self._publisher
        )

    def _journal(self, topic: str, settings: Settings) -> Journal:
        return opening.journal(settings, self._publisher, topic)

    # -- dividing --------------------------------------------------------------------------------

    async def _divide(self, catalog: Catalog) -> dict[str, list[int]]:
        """Give each new partition its state; which partitions have one then, by topic."""
        states: dict[str, list[int]] = {}
        for topic in (self._names.events, self._names.hourly):
            old, new = self._journal(topic, self._old), self._journal(topic, self._new)
            for parent in range(self._old.partitions):
                found = await old.read(parent, self._old.epoch)
                if found is None:
                    continue  # nothing ever came there
                states.setdefault(topic, []).extend(self._children(parent))
                for child in self._children(parent)[1:]:
                    await new.strike_out(child)
                    await new.write_whole(
                        child, self._new.epoch, self._child(topic, found[0], catalog, child)
                    )
        self._tell(f"{self._new.partitions - self._old.partitions} new partitions have their states")
        return states

    def _children(self, parent: int) -> list[int]:
        return split.children(parent, self._old.partitions, self._new.partitions)

    def _child(self, topic: str, saved: Saved, catalog: Catalog, child: int) -> Saved:
        make = split.meter_child if topic == self._names.events else split.rate_child
        return make(saved, catalog, child, self._new.partitions)

    async def _cut_down(self, catalog: Catalog) -> None:
        for topic in (self._names.events, self._names.hourly):
            new = self._journal(topic, self._new)
            for parent in range(self._old.partitions):
                if await new.position(parent, self._new.epoch) is None:
                    await self._cut_parent(topic, parent, catalog)
        self._tell(f"epoch {self._new.epoch} begins")

    async def _cut_parent(self, topic: str, parent: int, catalog: Catalog) -> None:
        """Take out what has moved, and last of all make the state one of the new epoch."""
        old, new = self._journal(topic, self._old), self._journal(topic, self._new)
        found = await old.read(parent, self._old.epoch)
        if found is None:
            return
        saved = found[0]
        stays = {entry.key for entry in self._child(topic, saved, catalog, parent).entries}
        gone = [Entry(e.key, None, e.version) for e in saved.entries if e.key not in stays]
        for start in range(0, len(gone), _GONE_AT_ONCE):
            part = gone[start : start + _GONE_AT_ONCE]
            await old.append(parent, _changes(self._old.epoch, saved._replace(segments=()), part))
        await new.append(parent, _changes(self._new.epoch, saved, []))


def _changes(epoch: int, saved: Saved, entries: Iterable[Entry]) -> Changes:
    return Changes(epoch, saved.offset, saved.header, list(entries), list(saved.segments), 0, [])
