"""What makes a fold durable: load, offer, checkpoint. One class, numbered steps, either fold.

The order of a checkpoint is the whole point. Whatever step a crash falls into, the next load
finds a state that knows its position and finishes what was begun:

1. local RocksDB: ids, entries, position and the pending outputs, in one write batch
2. journal on Kafka, awaited; another writer between our records ends us here
3. outputs on Kafka, awaited
4. the pending outputs are struck off

The caller commits the group offset after that; it is only a measure of lag.
"""

import asyncio
from collections.abc import Iterator, Sequence
from enum import Enum

import structlog

from metering.catalog.resolved import Catalog
from metering.errors import UserError
from metering.observe.families import CHECKPOINT, timed
from metering.state.fold import Chunk, Fold
from metering.state.journal import Journal
from metering.state.log_bounds import Bounds
from metering.state.meter_fold import MeterFold, Snapshot
from metering.state.publish import Publisher
from metering.state.store import DISK_HINT, Store

log = structlog.get_logger()

PIECE_BYTES = 1 << 20  # so that no checkpoint outgrows a Kafka record batch
PIECE_VALUES = 20_000


class Verdict(Enum):
    """What became of a batch that was offered."""

    FOLDED = "folded"
    COVERED = "covered"  # the state already includes it
    GAP = "gap"  # something is missing before it: seek back


class DurableFold:
    """One partition of one fold, with its local store and its journal."""

    def __init__(
        self,
        fold: Fold,
        partition: int,
        epoch: int,
        store: Store,
        journal: Journal,
        publisher: Publisher,
    ) -> None:
        self.fold = fold
        self.partition = partition
        self.saved_offset: int | None = None
        self.saved: Snapshot | None = None  # of a meter fold, as of `saved_offset`
        self._sequence = 0
        self._epoch = epoch
        self._store = store
        self._journal = journal
        self._publisher = publisher
        self._lock = asyncio.Lock()

    async def load(self) -> int | None:
        """Bring the state back; the offset to continue from, None for the log's beginning."""
        self._publisher.renew()
        # 1. which durable copy is ahead?
        local = self._store.place()
        remote = await self._journal.place(self.partition, self._epoch)
        if remote is not None and (local is None or local < remote):
            await self._rebuild()
        elif remote is None:
            await self._begin_journal(local)
        # 2. finish a checkpoint that a crash interrupted
        pending = self._store.pending()
        if pending is not None:
            log.info("checkpoint_resumed", partition=self.partition, offset=pending.offset)
            await self._journal.append(self.partition, pending)
            await self._journal.refuse_others(self.partition)
            await self._publisher.publish_results(self.partition, pending.outputs)
            self._store.settle(pending)
        # 3. into memory
        saved = self._store.load()
        if saved is not None:
            self.fold.restore(saved)
        place = self._store.place()
        self.saved_offset, self._sequence = self.fold.offset, place[1] if place else 0
        self.saved = self._snapshot()
        return self.fold.offset

    def _snapshot(self) -> Snapshot | None:
        return self.fold.snapshot() if isinstance(self.fold, MeterFold) else None

    async def _rebuild(self) -> None:
        found = await self._journal.read(self.partition, self._epoch)
        assert found is not None, "a position without a state"
        saved, outputs = found
        log.info("state_rebuilt_from_journal", partition=self.partition, offset=saved.offset)
        # Before the state is ours: once it is on this disk, nobody asks the journal again.
        await self._publisher.publish_results(self.partition, outputs)
        self._store.replace(saved)

    async def _begin_journal(self, local: tuple[int, int] | None) -> None:
        """The journal is new, was lost, or is of another epoch: only a whole state may stand in it."""
        await self._journal.strike_out(self.partition)
        saved = self._store.load() if local is not None else None
        if saved is not None:
            log.warning("journal_restored_from_disk", partition=self.partition, offset=saved.offset)
            await self._journal.write_whole(self.partition, self._epoch, saved)

    @property
    def usage(self) -> int:
        """Events that a meter fold has read so far; ticks are none."""
        return self.fold.counters.read if isinstance(self.fold, MeterFold) else 0

    def offer(self, chunks: Sequence[Chunk], catalog: Catalog) -> Verdict:
        """Fold what continues the position. Never awaits: a batch is folded whole or not at all."""
        offset = self.fold.offset
        if offset is None:
            self.fold.fold(chunks, catalog)
            return Verdict.FOLDED
        fresh = [chunk.after(offset) for chunk in chunks if chunk.next > offset]
        if not fresh:
            return Verdict.COVERED
        if fresh[0].first > offset:
            return Verdict.GAP
        self.fold.fold(fresh, catalog)
        return Verdict.FOLDED

    @timed(CHECKPOINT)
    async def checkpoint(self) -> int | None:
        """Make everything folded so far durable; the position that is safe now.

        The agent may go on folding meanwhile: the changes were taken as a whole.
        """
        async with self._lock:
            changes = self.fold.changes()
            if changes is None:
                return self.saved_offset
            snapshot = self._snapshot()
            self._store.write(changes)
            if isinstance(self.fold, MeterFold):
                self._spill(self.fold)  # what it moves to disk was just written
            await self._journal.append(self.partition, changes)
            await self._journal.refuse_others(self.partition)
            await self._publisher.publish_results(self.partition, changes.outputs)
            self._store.settle(changes)
            self.saved_offset, self.saved = changes.offset, snapshot
            self._sequence = changes.sequence
            return changes.offset

    def _spill(self, fold: MeterFold) -> None:
        try:
            fold.spill()
        except OSError as error:
            raise UserError(f"the ids of partition {self.partition}: {error}", hint=DISK_HINT) from error

    async def is_current(self) -> bool:
        """Whether nobody else has moved this partition on since our last checkpoint."""
        found = await self._journal.place(self.partition, self._epoch)
        place = None if self.saved_offset is None else (self.saved_offset, self._sequence)
        return found == place and self.revision == self.fold.revision

    @property
    def revision(self) -> int:
        """The newest catalog revision that this partition was rated under, by us or by another owner."""
        return max(self.fold.revision, self._journal.revision(self.partition))

    async def beat(self, now_ms: int) -> None:
        """Publish the heartbeat of the partition's quotas, behind all that was published before."""
        async with self._lock:
            quotas = self.fold.quotas if isinstance(self.fold, MeterFold) else None
            heart = quotas.heartbeat(now_ms) if quotas is not None else None
            if heart is not None:
                await self._publisher.publish(self.partition, [heart])

    def check_reachable(self, log_now: Bounds, topic: str) -> None:
        """Refuse to go on when the log no longer holds what the state needs next."""
        offset = self.fold.offset
        if offset is None:
            return
        if offset < log_now.first:
            raise UserError(
                f"{topic}, partition {self.partition}: records {offset} to {log_now.first - 1}"
                " were deleted by the broker before they were counted",
                hint="put the archived events into new topics: docs/recovery.md, `When Kafka is lost`",
            )
        if offset > log_now.end:
            raise UserError(
                f"{topic}, partition {self.partition}: the state is at {offset}, the log ends at"
                f" {log_now.end}: the topic was created anew",
                hint="raise METERING_EPOCH, or remove the state folder and the journal topics",
            )

    def close(self) -> None:
        """Release the local store."""
        self._store.close()


def pieces(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Cut large fetches, so that memory and checkpoints stay bounded whatever is sent."""
    for chunk in chunks:
        start, size = 0, 0
        for index, value in enumerate(chunk.values):
            size += len(value or b"")
            is_full = index + 1 - start >= PIECE_VALUES or size >= PIECE_BYTES
            if is_full and index + 1 < len(chunk.values):
                yield [_part(chunk, start, index + 1)]
                start, size = index + 1, 0
        yield [_part(chunk, start, len(chunk.values))]


def _part(chunk: Chunk, start: int, stop: int) -> Chunk:
    whole = len(chunk.values)
    return Chunk(
        chunk.first if start == 0 else chunk.offsets[start],
        chunk.next if stop == whole else chunk.offsets[stop],
        chunk.offsets[start:stop],
        chunk.values[start:stop],
        chunk.appended,
    )
