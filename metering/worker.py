"""The metering worker: which partitions it owns, their states, and when they are made durable.

Everything here is effects: Kafka, disk, timers. What is counted and charged is decided by the folds.
"""

import asyncio
import gc
import time
from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from metering.catalog.reader import follow
from metering.catalog.resolved import Catalog
from metering.ending import die
from metering.epochs import Epoch, latest_epoch, refuse_lost_state, refuse_other_epoch
from metering.quota_service import QuotaService, quotas_of, tick_record
from metering.records import Progress, encode, key
from metering.recovery.evidence import refuse_other_revisions
from metering.settings import Settings
from metering.state import opening
from metering.state.accounts import Accounts
from metering.state.checkpoint import DurableFold, Verdict, pieces
from metering.state.fold import Output
from metering.state.log_bounds import LogBounds
from metering.state.meter_fold import MeterFold
from metering.state.publish import FOR_US, Publisher
from metering.state.store import Store
from metering.topics import Names
from metering.transport import Batch

log = structlog.get_logger()

RELEASE_SECONDS = 10.0  # a revoked partition is saved within this time, or not at all
FROZEN_SECONDS = 8.0  # below the session timeout: a process that slept longer may be replaced
CATALOG_SECONDS = 5.0
_RETURN_SHARE = 0.25  # of the time between checkpoints: totals go to Kafka and come back
SEEK_BACK_SECONDS = 1.0
MEND_SECONDS = 600.0  # far below the lag of compaction


class Worker:
    """The partitions of one worker process; `consumer` is set once Faust has made it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = Names(settings)
        self.publisher = Publisher(settings.brokers())
        self._journal_publisher = Publisher(settings.brokers(), compression=FOR_US)
        self.bounds = LogBounds(settings.brokers())
        self.catalog: Catalog | None = None
        self.consumer: Any = None
        self._owned: dict[TP, DurableFold] = {}
        self._released: dict[TP, DurableFold] = {}
        self._last_batch: dict[TP, float] = {}
        self._usage_at: dict[TP, int] = {}  # append time of the newest usage
        self._last_seek: dict[TP, float] = {}
        self._awake = self._mended = time.monotonic()
        self._loading = 0  # a large state takes its time; that is no freeze
        self._epoch: Epoch | None = None
        self._catalog_known = asyncio.Event()
        self._recurring: tuple[Catalog, set[int]] | None = None  # partitions with fees without usage
        self._following: asyncio.Task[None] | None = None
        self._quotas = QuotaService(settings, self._owned, self.publisher, self.bounds, self.save)
        self._facts: asyncio.Task[None] | None = None
        self._journals = {
            topic: opening.journal(settings, self._journal_publisher, topic)
            for topic in (self.names.events, self.names.hourly)
        }

    @property
    def owned(self) -> Mapping[TP, DurableFold]:
        """The states of the partitions that are loaded here."""
        return self._owned

    @property
    def usage_at(self) -> Mapping[TP, int]:
        """Append time of the newest usage of each partition, epoch ms."""
        return self._usage_at

    @property
    def is_loading(self) -> bool:
        """Whether states are on their way."""
        return self._loading > 0

    async def start(self) -> None:
        """Connect the producers and begin to follow the catalog."""
        await self.publisher.start()
        await self._journal_publisher.start()
        self._following = asyncio.create_task(self._follow_catalog())
        self._facts = asyncio.create_task(self._quotas.follow_facts())

    # -- partitions come and go ------------------------------------------------------------------

    async def load(self, tps: set[TP]) -> Mapping[TP, int]:
        """Load the states of the assigned partitions; see `transport.Positions`."""
        self._loading += 1
        try:
            self._epoch = await latest_epoch(self.settings)
            refuse_other_epoch(self.settings, self._epoch)
            await opening.check_partitions(self.settings, self.publisher)
            await self._wait_for_catalog()
            for tp in self._released.keys() - tps:
                self._released.pop(tp).close()
            for tp in self._owned.keys() - tps:  # loaded when it was on its way to somebody else
                self._owned.pop(tp).close()
            gc.disable()  # a state is millions of objects and no garbage
            for tp in (tp for tp in tps - self._owned.keys() if tp.topic in self._journals):
                durable = await self._take_over(tp)
                catalog = await self._wait_for_catalog(durable.revision)
                durable.fold.adopt(catalog)  # it may be newer than what the state was rated with
                self._quotas.teach(durable)
                self._owned[tp] = durable
                self._last_batch[tp] = time.monotonic()
            starts = [(tp, await self._start_of(tp)) for tp in tps]
        except Exception as error:
            die("state_not_loaded", error)
        finally:
            self._loading -= 1
            gc.enable()
        gc.freeze()  # the states stay: looking through them for garbage is wasted time
        self._awake = time.monotonic()
        offsets = {tp: offset for tp, offset in starts if offset is not None}
        log.info(
            "partitions_assigned",
            positions={f"{t.topic}-{t.partition}": o for t, o in offsets.items()},
        )
        return offsets

    async def _start_of(self, tp: TP) -> int | None:
        if tp.topic == self.names.quota_checks:
            return await self._quotas.start_of(tp)
        durable = self._owned.get(tp)
        if durable is None:
            return None  # given away meanwhile
        offset = durable.fold.offset
        return (await self.bounds.of(*tp)).first if offset is None else offset

    async def _take_over(self, tp: TP) -> DurableFold:
        kept = self._released.pop(tp, None)
        if kept is not None:
            if await kept.is_current():
                return kept
            kept.close()
        durable = self._open(tp)
        try:
            if await durable.load() is None and self.catalog is not None:
                refuse_lost_state(self.settings, self._epoch, *tp)
                await refuse_other_revisions(self.settings, self.bounds, tp, self.catalog.revision)
            log_now = await self.bounds.of(*tp)
            durable.check_reachable(log_now, tp.topic)
            if isinstance(durable.fold, MeterFold) and durable.fold.offset is None:
                durable.fold.begin(log_now.first)
        except BaseException:  # also when it is given up: the folder is opened again at once
            durable.close()
            raise
        return durable

    def _open(self, tp: TP) -> DurableFold:
        settings = self.settings
        fold = opening.new_fold(settings, *tp, ids_folder=opening.ids_folder(settings, *tp))
        store = Store(opening.state_folder(settings, *tp), opening.identity(settings, *tp))
        journal = self._journals[tp.topic]
        return DurableFold(fold, tp.partition, settings.epoch, store, journal, self.publisher)

    async def release(self, tps: set[TP]) -> None:
        """Save revoked partitions within a deadline; what is not saved is folded again elsewhere."""
        mine = {tp: self._owned.pop(tp) for tp in tps & self._owned.keys()}
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                for durable in mine.values():
                    await durable.checkpoint()
            self._released.update(mine)
        except TimeoutError:
            die("partitions_not_saved_in_time", seconds=RELEASE_SECONDS)
        except Exception as error:
            die("partitions_not_saved", error)

    # -- batches ---------------------------------------------------------------------------------

    async def take(self, batch: Batch) -> None:
        """Fold one batch; anything unexpected ends the process."""
        try:
            await self._take(batch)
        except Exception as error:
            place = {"topic": batch.tp.topic, "partition": batch.tp.partition, "first_offset": batch.first}
            die("batch_failed", error, **place)

    async def _take(self, batch: Batch) -> None:
        for piece in pieces(batch.chunks()):
            durable = self._owned.get(batch.tp)
            if durable is None or self.catalog is None:
                return  # revoked meanwhile: the new owner folds it
            usage = durable.usage
            if durable.offer(piece, self.catalog) is Verdict.GAP:
                await self._seek_back(batch.tp, durable)
                return
            if durable.usage != usage:  # not only ticks
                self._usage_at[batch.tp] = piece[-1].appended
                self._last_batch[batch.tp] = time.monotonic()
            if durable.fold.is_heavy or self._is_urgent(durable):
                await self.save(batch.tp, durable)
            await asyncio.sleep(0)  # a huge batch on a busy machine is no freeze, and others have their turn

    def _is_urgent(self, durable: DurableFold) -> bool:
        quotas = quotas_of(durable)
        return quotas is not None and quotas.is_urgent

    async def answer(self, batch: Batch) -> None:
        """Answer one batch of requests; anything unexpected ends the process."""
        try:
            seek_to = await self._quotas.answer(batch, await self._wait_for_catalog())
            if seek_to is not None:
                await self.consumer.seek_batches({batch.tp: seek_to})
        except Exception as error:
            die("requests_failed", error, partition=batch.tp.partition, first_offset=batch.first)

    async def _seek_back(self, tp: TP, durable: DurableFold) -> None:
        """Something before this batch was dropped on the way: fetch again from our position."""
        now = time.monotonic()
        if now - self._last_seek.get(tp, 0.0) < SEEK_BACK_SECONDS:
            return  # batches that were under way already
        self._last_seek[tp] = now
        offset = durable.fold.offset
        assert offset is not None
        durable.check_reachable(await self.bounds.of(*tp), tp.topic)
        log.warning("gap_seek_back", topic=tp.topic, partition=tp.partition, offset=offset)
        await self.consumer.seek_batches({tp: offset})

    # -- timers ----------------------------------------------------------------------------------

    async def save(self, tp: TP, durable: DurableFold) -> None:
        """Checkpoint one partition, then report its position and progress."""
        if time.monotonic() - self._awake > FROZEN_SECONDS and not self._loading:
            die("process_was_frozen", seconds=round(time.monotonic() - self._awake, 1))
        before = durable.saved_offset
        offset = await durable.checkpoint()
        if offset is None or offset == before:
            return
        await self.consumer.commit_positions({tp: offset})

    async def checkpoint_all(self) -> None:
        """One round of checkpoints; failures end the process.

        Charges follow totals: these get a moment to come back before the rate folds are saved.
        """
        try:
            if await self._checkpoint(self.names.events):
                await asyncio.sleep(self.settings.checkpoint_seconds * _RETURN_SHARE)
            await self._checkpoint(self.names.hourly)
            if time.monotonic() - self._mended >= MEND_SECONDS:
                self._mended = time.monotonic()
                for durable in list(self._owned.values()):
                    await durable.mend()
        except Exception as error:
            die("checkpoint_failed", error)

    async def _checkpoint(self, topic: str) -> bool:
        """Checkpoint the partitions of a topic; whether one had something new."""
        has_saved = False
        for tp in [tp for tp in self._owned if tp.topic == topic]:
            durable = self._owned.get(tp)
            if durable is not None:
                before = durable.saved_offset
                await self.save(tp, durable)
                has_saved |= durable.saved_offset != before
        return has_saved

    async def push_quotas(self) -> None:
        """One round of publishing quotas; failures end the process."""
        try:
            await self._quotas.push()
        except Exception as error:
            die("quotas_not_published", error)

    def stay_awake(self) -> None:
        """Called by a short timer; a long pause between calls means that the process was frozen."""
        now = time.monotonic()
        if now - self._awake > FROZEN_SECONDS and self._owned and not self._loading:
            die("process_was_frozen", seconds=round(now - self._awake, 1))
        self._awake = now

    async def report_progress(self) -> None:
        """Publish what each partition has done: a quiet worker reports, a dead one does not."""
        await self._quotas.beat()
        for tp, durable in list(self._owned.items()):
            saved = durable.saved
            if saved is None:
                continue
            record = Progress(
                fold="meter",
                partition=tp.partition,
                epoch=self.settings.epoch,
                offset=saved.offset,
                watermark=saved.watermark,
                read=saved.counters.read,
                accepted=saved.counters.accepted,
                duplicates=saved.counters.duplicates,
                rejected=saved.counters.rejected,
                late=saved.counters.late,
                catalog_revision=self.catalog.revision if self.catalog else 0,
                instance=self.settings.instance,
                at=time.time_ns() // 1_000_000,
                usage_at=self._usage_at.get(tp, 0),
            )
            place = key("meter", tp.partition)
            await self.publisher.publish(tp.partition, [Output(self.names.progress, place, encode(record))])

    async def tick_idle(self) -> None:
        """Append a tick to each partition that is at its end, quiet, and has something to close."""
        try:
            await self._tick_idle(self.settings.tick_idle_seconds)
        except KafkaError as error:
            log.warning("broker_unreachable", error=repr(error), note="ticks wait until it is back")

    async def _tick_idle(self, limit: float) -> None:
        for tp, durable in list(self._owned.items()):
            fold = durable.fold
            if not isinstance(fold, MeterFold) or not self._waits_for_time(fold):
                continue
            quiet = time.monotonic() - self._last_batch.get(tp, 0.0)
            if quiet >= limit and (await self.bounds.of(*tp)).end == fold.offset:
                self._last_batch[tp] = time.monotonic()
                tick = Output(self.names.events, None, tick_record(int(limit * 1_000)))
                await self.publisher.publish(tp.partition, [tick])

    def _waits_for_time(self, fold: MeterFold) -> bool:
        """Whether a period has yet to close, with usage or with fees that need none."""
        if fold.has_open_periods or self.catalog is None:
            return fold.has_open_periods
        if self._recurring is None or self._recurring[0] is not self.catalog:
            settings, catalog = self.settings, self.catalog
            partitions = range(settings.partitions)
            found = {p for p in partitions if Accounts(catalog, p, settings.partitions).recurring}
            self._recurring = (catalog, found)
        return fold.rules.partition in self._recurring[1]

    # -- the catalog -----------------------------------------------------------------------------

    async def _follow_catalog(self) -> None:
        """Take each new catalog revision while running."""
        async for catalog in follow(self.settings.brokers(), self.names.catalog, 0):
            self.catalog = catalog
            for durable in self._owned.values():
                durable.fold.adopt(catalog)
            self._catalog_known.set()
            log.info("catalog_adopted", revision=catalog.revision, version=catalog.version[:12])

    async def _wait_for_catalog(self, revision: int = 0) -> Catalog:
        """The catalog in force, once it is as new as `revision`: no state goes on with older prices."""
        while self.catalog is None or self.catalog.revision < revision:
            self._catalog_known.clear()
            try:
                async with asyncio.timeout(CATALOG_SECONDS):
                    await self._catalog_known.wait()
            except TimeoutError:
                if self.catalog is None:
                    log.warning("no_catalog_published", hint="run `metering catalog publish DIR`")
                else:
                    found = self.catalog.revision
                    log.warning("catalog_older_than_state", revision=found, state_revision=revision)
        return self.catalog
