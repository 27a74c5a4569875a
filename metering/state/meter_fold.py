"""Usage events of one partition to hourly totals: refuse, deduplicate, add up.

The concept: `read = accepted + duplicates + rejected`, at every offset. The invariant: the state is
a function of the log prefix and the catalog revision, however the log was cut into batches.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from metering.catalog.resolved import Catalog
from metering.event_rows import is_worth_columns
from metering.events import TICK_TYPE, Item, Refusal, UsageEvent, decode_values
from metering.quota.saved import is_entry
from metering.records import version
from metering.state.admission import Admission, conflict
from metering.state.amending import Amending
from metering.state.amendments import BACKFILL, CORRECTIONS, RESERVED, read_amendment, unusable_manifest
from metering.state.calendar import HOUR_SECONDS, hour_of, is_closed, period_of
from metering.state.closing import Closing
from metering.state.dead_letters import DeadLetters
from metering.state.dedupe import MEMORY_IDS, SeenIds, content_of, digest_of, identity_of
from metering.state.fold import Changes, Chunk, Saved, place_in_log
from metering.state.hourly_table import HourlyTable
from metering.state.late import APPROVE, Held, read_approval
from metering.state.measure import Measure, measure, refuse
from metering.state.meter_rules import Counters, MeterHeader, MeterRules, Snapshot
from metering.state.quota_part import QuotaPart
from metering.state.row_batch import RowBatch
from metering.state.row_facts import facts_of
from metering.state.row_groups import RowGroups

MOST_RUNS = 20  # of a chunk; behind that, what is left of it is folded event by event
HEAVY_TOTALS = 20_000


@dataclass
class MeterFold:
    """The state of one partition of `usage.events`."""

    rules: MeterRules
    offset: int | None = None
    watermark: int = 0
    counters: Counters = field(default_factory=Counters)
    ids_folder: Path | None = None
    memory_ids: int = MEMORY_IDS

    def __post_init__(self) -> None:
        self._table = HourlyTable()
        self._seen = SeenIds(self.ids_folder, self.memory_ids)
        rules = self.rules
        self.quotas = (
            QuotaPart(rules.quotas, rules.partition, rules.partitions, rules.epoch, self._table)
            if rules.quotas is not None
            else None
        )
        self._post = self.quotas.post if self.quotas is not None else None
        self._amending = Amending(self._table, self._seen, self._post)
        self._held = Held()
        self._closing = Closing(rules, self._table)
        self._known_before: dict[bytes, int] = {}  # of the chunk in hand: ids accepted before it
        self._groups: RowGroups | None = None
        self._letters = DeadLetters(rules)
        self._admission = Admission(rules, self._seen)
        self._first_unsaved = 0
        self._revision = 0
        self._dirty = False

    def fold(self, chunks: Sequence[Chunk], catalog: Catalog) -> None:
        """Fold chunks that continue the position without a gap; see `Fold`."""
        for chunk in chunks:
            if self.offset is None:
                self.offset = self._first_unsaved = chunk.first
            assert chunk.first == self.offset, f"gap: at {self.offset}, chunk from {chunk.first}"
            self._revision = catalog.revision
            if self._groups is not None and self._groups.catalog is not catalog:
                self._table.settle()
            self._seen.advance(chunk.appended)
            if self.quotas is not None:
                self.quotas.advance(chunk.appended, catalog)
            if is_worth_columns(chunk.values):
                self._fold_rows(chunk, catalog)
            else:
                self._fold_items(chunk, catalog)
            self.offset = chunk.next
            self._dirty = True

    def _fold_items(self, chunk: Chunk, catalog: Catalog) -> None:
        """Fold a chunk event by event: the rule, which `_fold_rows` follows for many at once."""
        items = list(decode_values(chunk.values))
        identities = [identity_of(item.event) for item in items]
        self._known_before = self._seen.among([i for i in identities if i])
        behind = chunk.first
        for item, identity in zip(items, identities, strict=True):
            if chunk.offsets[item.value] >= behind:
                self._end_record(behind)
                behind = chunk.offsets[item.value] + 1
            self._fold_item(item, identity, chunk, catalog)
        self._end_record(behind)

    def _fold_rows(self, chunk: Chunk, catalog: Catalog) -> None:
        """Fold a chunk in runs of rows; what is special in it event by event, each record as a whole."""
        self._groups = self._groups_under(catalog)
        facts = facts_of(chunk.values, self._groups)
        batch = RowBatch(facts, self._groups, self._table, chunk.appended + self.rules.max_future_ms)
        batch.look_at_others(lambda event: self._admission.misplaced(event, chunk.appended, catalog))
        batch.identify(self._seen)
        self._known_before = batch.known
        start = 0
        for run in range(MOST_RUNS):
            oldest = max(self._closing.open_from, self._seen.forgotten_before + self.rules.max_future_ms)
            first, behind = batch.next_special(start, oldest, self._closing.closes_at)
            self._fold_run(batch, start, first, chunk)
            start = behind if run < MOST_RUNS - 1 else len(batch)
            self._fold_singly(batch, first, start, chunk, catalog)
            if start == len(batch):
                return

    def _groups_under(self, catalog: Catalog) -> RowGroups:
        """The groups of before, if they are still right."""
        quotas, groups = self.quotas, self._groups
        renewed = quotas.renewed if quotas is not None else 0
        if groups is not None and groups.is_for(catalog, renewed):
            return groups
        self._table.settle()
        is_watched = quotas.is_watched if quotas is not None else None
        ours, compiled = self._admission.is_ours, self.rules.compiled
        return RowGroups(self._table, catalog, ours, is_watched, renewed, compiled=compiled)

    def _fold_run(self, batch: RowBatch, start: int, stop: int, chunk: Chunk) -> None:
        tally = batch.tally(start, stop, self.watermark)
        self.counters.read += stop - start
        self.counters.accepted += len(tally.accepted)
        self.counters.duplicates += tally.duplicates
        self.counters.late += int(tally.late.sum())
        self.watermark = tally.watermark
        self._seen.add_packed(batch.packed(tally), chunk.appended)
        batch.count(tally, self._post)
        for row, refusal in batch.refused(start, stop, tally.conflicts):
            self._reject(batch.rows.item(row), refusal or conflict(batch.rows.event(row)), chunk)

    def _fold_singly(self, batch: RowBatch, start: int, stop: int, chunk: Chunk, catalog: Catalog) -> None:
        value_of = batch.rows.value_of
        if start < stop:
            self._seen.settle()  # a correction may be of a row of this chunk
        for row in range(start, stop):
            self._fold_item(batch.rows.item(row), batch.identity(row), chunk, catalog)
            if row + 1 == len(value_of) or value_of[row + 1] != value_of[row]:
                self._end_record(chunk.offsets[value_of[row]] + 1)
        batch.learn(self._seen.added_singly)

    def adopt(self, catalog: Catalog) -> None:
        """Totals do not depend on prices; a new revision counts from the next record on. Quotas do."""
        if self.quotas is not None:
            self.quotas.adopt(catalog)

    def begin(self, offset: int) -> None:
        """Start a fresh fold at the first offset of its log, so that it has a position before a record."""
        assert self.offset is None, "it has begun"
        self.offset = self._first_unsaved = offset

    def spill(self) -> None:
        """Move ids out of memory; only right behind a local write of all that was taken."""
        assert self.offset is not None, "nothing was folded"
        self._seen.spill(place_in_log(self.rules.epoch, self._first_unsaved))

    def _fold_item(self, item: Item, identity: bytes, chunk: Chunk, catalog: Catalog) -> None:
        event = item.event
        if isinstance(event, UsageEvent) and event.type == TICK_TYPE:
            self._tick(event, chunk.appended)
            return
        self.counters.read += 1
        refusal = event if isinstance(event, Refusal) else self._count(event, identity, chunk, catalog)
        if refusal is not None:
            if self.quotas is not None:
                self.quotas.advance(chunk.appended, catalog)
            self._reject(item, refusal, chunk)

    def _reject(self, item: Item, refusal: Refusal, chunk: Chunk) -> None:
        self.counters.rejected += 1
        self._letters.add(item, refusal, chunk, self._revision)

    def _end_record(self, behind: int) -> None:
        self._closing.end_record(behind, self.watermark, self._revision)

    def _tick(self, event: UsageEvent, appended: int) -> None:
        """Let time pass in a quiet partition: nothing older than `idle_ms` is on its way."""
        idle = event.data.get("idle_ms", 0) if event.data else 0
        if isinstance(idle, int) and idle >= 0:
            self.watermark = max(self.watermark, appended - idle)

    def _count(self, event: UsageEvent, identity: bytes, chunk: Chunk, catalog: Catalog) -> Refusal | None:
        if event.type.startswith(RESERVED):
            return self._correct(event, identity, chunk, catalog)
        measures = measure(event, catalog)
        if isinstance(measures, Refusal):
            return measures
        refusal = self._admission.misplaced(event, chunk.appended, catalog)
        if refusal is not None:
            return refusal
        content, known = content_of(event), self._known(identity)
        if known is not None:
            return self._second_copy(event, known == content)
        refusal = self._admission.too_late(event, self.watermark) or self._table.uncountable(
            event, measures, hour_of(event.at)
        )
        if refusal is None and event.at < self._closing.open_from:
            refusal = self._held.hold(event, identity, measures)
        if refusal is not None:
            return refusal
        self._seen.add(identity, content, chunk.appended)
        self._accept(event, measures, digest_of(identity))
        return None

    def _known(self, identity: bytes) -> int | None:
        """The content of an accepted event, of this chunk or of before."""
        held = self._seen.content(identity)
        return self._known_before.get(identity) if held is None else held

    # -- corrections of single events -------------------------------------------------------------

    def _correct(self, event: UsageEvent, identity: bytes, chunk: Chunk, catalog: Catalog) -> Refusal | None:
        refusal = self._admission.misplaced(event, chunk.appended, catalog)
        if refusal is not None:
            return refusal
        known = self._known(identity)
        if known is not None:
            return self._second_copy(event, known == content_of(event))
        if event.type == APPROVE:
            return self._approve(event, identity, chunk, catalog)
        refusal = self._apply(event, chunk, catalog)
        if refusal is None:
            self._seen.add(identity, content_of(event), chunk.appended)
            self.counters.accepted += 1
        return refusal

    def _approve(self, event: UsageEvent, identity: bytes, chunk: Chunk, catalog: Catalog) -> Refusal | None:
        """Count late usage that waited; as a restatement, its closed period is charged again."""
        found = read_approval(event)
        if isinstance(found, Refusal):
            return found
        original = found.original
        refusal = self._admission.closed_long_ago(event, original.at, self.watermark)
        refusal = refusal or self._held.missing(event, original)
        if refusal is not None:
            return refusal
        measures = measure(original, catalog)
        refusal = (
            measures
            if isinstance(measures, Refusal)
            else self._table.uncountable(original, measures, hour_of(original.at))
        )
        if refusal is not None:
            return refuse(event, "bad_approval", f"The event would be refused now: {refusal.detail}")
        assert not isinstance(measures, Refusal)
        for one, said in ((identity, event), (identity_of(original), original)):
            self._seen.add(one, content_of(said), chunk.appended)
        self._accept(original, measures, digest_of(identity_of(original)))
        self._held.release(original)
        if found.restates:
            self._closing.restate(original.customer, period_of(hour_of(original.at)), found.approved)
        return None

    def _apply(self, event: UsageEvent, chunk: Chunk, catalog: Catalog) -> Refusal | None:
        if event.type == BACKFILL:
            return unusable_manifest(event)
        if event.type not in CORRECTIONS:
            return refuse(event, "unknown_type", f"`{event.type}` is no correction that is known.")
        found = read_amendment(event)
        if isinstance(found, Refusal):
            return found
        return self._admission.too_late(found.original, self.watermark) or self._amending.apply(
            event, found, catalog, chunk.appended
        )

    # -- what is refused --------------------------------------------------------------------------

    def _second_copy(self, event: UsageEvent, is_same: bool) -> Refusal | None:
        """A plain duplicate is counted; one with other content is a conflict, and the first copy stays."""
        if is_same:
            self.counters.duplicates += 1
            return None
        return conflict(event)

    def _accept(self, event: UsageEvent, measures: Sequence[Measure], digest: int) -> None:
        late = (hour_of(event.at) + HOUR_SECONDS) * 1_000 <= self.watermark
        self.counters.accepted += 1
        self.counters.late += late
        self.watermark = max(self.watermark, event.at)
        if self._post is not None:
            self._post(event, measures)
        self._table.add(event, measures, digest, late=late)

    @property
    def revision(self) -> int:
        """None: a new revision counts from the next record on, whichever that is; see `Fold`."""
        return 0

    @property
    def is_heavy(self) -> bool:
        """Whether so much has changed that it should be made durable before more is folded."""
        return self._table.has_changed(HEAVY_TOTALS) or self._letters.is_heavy

    @property
    def has_open_periods(self) -> bool:
        """Whether there are totals that a watermark has yet to close."""
        grace = self.rules.grace_hours
        return any(not is_closed(period, self.watermark, grace) for period in self._table.periods)

    def snapshot(self) -> Snapshot:
        """Position, watermark and counters as they are now."""
        return Snapshot(self.offset or 0, self.watermark, copy(self.counters))

    def changes(self) -> Changes | None:
        """What has changed since the last call; None when nothing has."""
        quotas = self.quotas
        if self.offset is None or not (self._dirty or (quotas is not None and quotas.is_dirty)):
            return None
        stamp = str(version(self.rules.epoch, self.offset, self._revision))
        since, upto = (
            place_in_log(self.rules.epoch, offset) for offset in (self._first_unsaved, self.offset)
        )
        outputs = self._letters.take() + self._closing.take(self.watermark, stamp)
        entries = self._table.take_entries(upto)
        segments = self._seen.take_segments(since, upto)
        entries += self._table.forget(self._is_beyond_correction, upto)
        entries += self._amending.take(upto)
        entries += self._held.take(self._is_beyond_correction, upto)
        if quotas is not None:
            published, kept = quotas.take(self.offset, upto)
            outputs += published
            entries += kept
        self._dirty = False
        self._first_unsaved = self.offset
        days = (self._seen.newest_day, self._seen.first_day)
        own = quotas.header() if quotas is not None else b""
        header = MeterHeader(self.counters, self.watermark, *days, self._closing.boundary, own)
        return Changes(
            epoch=self.rules.epoch,
            offset=self.offset,
            header=msgspec.msgpack.encode(header),
            entries=entries,
            segments=segments,
            expired_before=self._seen.expired_before,
            outputs=outputs,
            sequence=quotas.sequence if quotas is not None else 0,
        )

    def _is_beyond_correction(self, period: str) -> bool:
        return self._admission.is_beyond_correction(period, self.watermark)

    def restore(self, saved: Saved) -> None:
        """Take over a durable copy; only on a fresh fold."""
        assert self.offset is None, "restore needs a fresh fold"
        header = msgspec.msgpack.decode(saved.header, type=MeterHeader)
        self.offset = self._first_unsaved = saved.offset
        self.counters, self.watermark = header.counters, header.watermark
        self._closing.restore(header.watermark, header.boundary)
        of_quotas = []
        for entry in saved.entries:
            assert entry.value is not None
            if is_entry(entry.key):
                of_quotas.append((entry.key, entry.value))
            elif not (
                self._amending.restore(entry.key, entry.value) or self._held.restore(entry.key, entry.value)
            ):
                self._table.restore(entry.key, entry.value)
        if self.quotas is not None:
            self.quotas.restore(header.quotas, of_quotas)
        upto = place_in_log(self.rules.epoch, saved.offset)
        self._seen.restore(saved.segments, header.newest_day, header.first_day, upto)
