"""What makes a fold durable: load, offer, checkpoint. One class, numbered steps, either fold.

The order of a checkpoint is the whole point. Whatever step a crash falls into, the next load
finds a state that knows its position and finishes what was begun:

1. local RocksDB: ids, entries, position and the pending outputs, in one write batch
2. journal on Kafka, awaited; a successor's record between ours ends us here
3. outputs on Kafka, awaited
4. the pending outputs are struck off

The caller commits the group offset after that; it is only a measure of lag.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

import msgspec
import structlog

from metering.catalog.resolved import Catalog
from metering.errors import UserError
from metering.observe.families import CHECKPOINT, timed
from metering.state.fold import Changes, Chunk, Entry, Fold, Output, Saved
from metering.state.journal import Journal, Replaced
from metering.state.log_bounds import Bounds
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import Snapshot
from metering.state.publish import Publisher
from metering.state.store import DISK_HINT, Known, Store

log = structlog.get_logger()

PIECE_BYTES = 1 << 20  # so that no checkpoint outgrows a Kafka record batch
PIECE_VALUES = 20_000
_TRIES = 5


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
        self._epoch = epoch
        self._store = store
        self._journal = journal
        self._publisher = publisher
        self._lock = asyncio.Lock()

    async def load(self) -> int | None:
        """Bring the state back; the offset to continue from, None for the log's beginning."""
        self._publisher.renew()
        for _ in range(_TRIES):
            try:
                await self._take_over()
                break
            except Replaced as error:  # its owner of before wrote once more after we had read
                log.info("journal_read_again", partition=self.partition, reason=str(error))
        else:
            raise Replaced(f"another worker goes on writing partition {self.partition}")
        saved = self._store.load()
        if saved is not None:
            self.fold.restore(saved)
        self.saved_offset, self.saved = self.fold.offset, self._snapshot()
        return self.fold.offset

    async def _take_over(self) -> None:
        # 1. which durable copy is ahead?
        await self._compare()
        # 2. finish a checkpoint that a crash interrupted; say that what follows is ours
        pending = self._store.pending()
        if pending is not None:
            log.info("checkpoint_resumed", partition=self.partition, offset=pending.offset)
        saved = self._store.load()
        if saved is None:
            return
        changes = pending or _changes(self._epoch, saved)
        again = self._entries_again(self._journal.take_overlaid(self.partition))
        await self._append(msgspec.structs.replace(changes, entries=[*changes.entries, *again]))
        await self._publisher.publish_results(self.partition, changes.outputs)
        self._store.settle(changes, self._journal.known(self.partition))

    async def _compare(self) -> None:
        saved, known = self._store.load(), self._store.known()
        if saved is not None and known.end == await self._journal.end(self.partition):
            self._journal.go_on(self.partition, known)
            return
        found = await self._journal.read(self.partition, self._epoch)
        if found is None:
            await self._begin_journal(saved)
        elif saved is None or self._is_behind(saved, found[0], known):
            await self._rebuild(*found)

    def _is_behind(self, ours: Saved, found: Saved, known: Known) -> bool:
        """Whether somebody went on from what we knew; then what we wrote since was never published."""
        return ours.state != found.state and self._journal.is_newer(self.partition, known)

    async def _append(self, changes: Changes) -> None:
        """Make a checkpoint durable on Kafka; Replaced when somebody else has taken the partition over."""
        await self._journal.append(self.partition, changes)
        while (keys := await self._journal.overlaid(self.partition)) is not None:
            log.warning("journal_written_again", partition=self.partition, entries=len(keys))
            again = self._entries_again(keys)
            await self._journal.append(
                self.partition, msgspec.structs.replace(changes, entries=again, segments=[])
            )

    def _entries_again(self, keys: Iterable[bytes]) -> list[Entry]:
        """Entries as they are on this disk; taken back first, because what lies over them may be newer."""
        found = [self._store.entry(key) for key in sorted(keys)]
        gone = [Entry(one.key, None, one.version) for one in found]
        return gone + [one for one in found if one.value is not None]

    def _snapshot(self) -> Snapshot | None:
        return self.fold.snapshot() if isinstance(self.fold, MeterFold) else None

    async def _rebuild(self, saved: Saved, outputs: Sequence[Output]) -> None:
        log.info("state_rebuilt_from_journal", partition=self.partition, offset=saved.offset)
        # Before the state is ours: once it is on this disk, nobody asks the journal again.
        await self._publisher.publish_results(self.partition, outputs)
        self._store.replace(saved)

    async def _begin_journal(self, saved: Saved | None) -> None:
        """The journal is new, was lost, or is of another epoch: only a whole state may stand in it."""
        await self._journal.strike_out(self.partition)
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
            await self._append(changes)
            await self._publisher.publish_results(self.partition, changes.outputs)
            self._store.settle(changes, self._journal.known(self.partition))
            self.saved_offset, self.saved = changes.offset, snapshot
            return changes.offset

    def _spill(self, fold: MeterFold) -> None:
        try:
            fold.spill()
        except OSError as error:
            raise UserError(f"the ids of partition {self.partition}: {error}", hint=DISK_HINT) from error

    async def is_current(self) -> bool:
        """Whether nobody else has written to the journal since our last checkpoint."""
        end = await self._journal.end(self.partition)
        return end == self._journal.known(self.partition).end and self.revision == self.fold.revision

    async def mend(self) -> None:
        """Write again what somebody else's late record lies over, while nothing of ours does."""
        async with self._lock:
            saved, known = self._store.load(), self._journal.known(self.partition)
            if saved is None or known.end == await self._journal.end(self.partition):
                return
            await self._append(_changes(self._epoch, saved))
            self._store.settle(_changes(self._epoch, saved), self._journal.known(self.partition))

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


def pieces(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Cut large fetches, so that memory and checkpoints stay bounded whatever is sent."""
    for chunk in chunks:
        if len(chunk.values) <= PIECE_VALUES and sum(map(len, filter(None, chunk.values))) < PIECE_BYTES:
            yield [chunk]
            continue
        start, size = 0, 0
        for index, value in enumerate(chunk.values):
            size += len(value or b"")
            is_full = index + 1 - start >= PIECE_VALUES or size >= PIECE_BYTES
            if is_full and index + 1 < len(chunk.values):
                yield [_part(chunk, start, index + 1)]
                start, size = index + 1, 0
        yield [_part(chunk, start, len(chunk.values))]


def _changes(epoch: int, saved: Saved) -> Changes:
    """A checkpoint that says what is there already."""
    rated = saved.revision, saved.sequence
    return Changes(epoch, saved.offset, saved.header, [], [], 0, [], *rated)


def _part(chunk: Chunk, start: int, stop: int) -> Chunk:
    whole = len(chunk.values)
    return Chunk(
        chunk.first if start == 0 else chunk.offsets[start],
        chunk.next if stop == whole else chunk.offsets[stop],
        chunk.offsets[start:stop],
        chunk.values[start:stop],
        chunk.appended,
    )
