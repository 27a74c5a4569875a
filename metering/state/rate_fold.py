"""Hourly totals of one partition to charges, and the close of billing periods.

The concept: an account (a customer, or a pool) is rated period by period; a change in an hour rates
the hours from there on again, and the rows whose content changed are emitted as absolute values. The
invariant: the rows of a price add up to the charge of its whole quantity.

A period closes at the record of the watermark that closes it, with the totals that stand before that
record; what stands behind it is late. So it does not matter how the log was cut into batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from metering.catalog.resolved import Catalog
from metering.rating.hourly import Carry
from metering.rating.period import Begun, Rated, needs_all_hours, rate_period
from metering.rating.usage import HourUse
from metering.records import EPOCH_SHIFT, HourlyTotal, Restatement, Watermark, decode, version
from metering.state import calendar
from metering.state.accounts import Accounts
from metering.state.calendar import closes_at, is_closed, open_from, period_of
from metering.state.closed_books import KEEP_HOURS
from metering.state.corrections import Corrections
from metering.state.fold import Changes, Chunk, Output, Saved, place_in_log
from metering.state.postings import Books, Revision, Slot, post_close
from metering.state.rate_state import RateState
from metering.state.settle import Settling, Touched, unknown_customer
from metering.state.totals import usage_of

HEAVY_SLOTS, HEAVY_ENTRIES = 5_000, 20_000
LATEST_SECONDS = 3_600  # before the latest hour: usage that changes is seldom older
MOST_VALUES = 1_000  # distinct values that are kept to go on from


@dataclass(frozen=True)
class RateRules:
    """What a deployment chooses; equal on every worker."""

    partition: int
    partitions: int
    charges_topic: str
    epoch: int = 1
    grace_hours: int = 24


class _Header(msgspec.Struct):
    watermark: int
    catalog_revision: int
    first_period: str


class RateFold:
    """The state of one partition of `usage.hourly`."""

    def __init__(self, rules: RateRules) -> None:
        self.rules = rules
        self.offset: int | None = None
        self.watermark = 0
        self._first_period = ""  # where the partition's watermark began: no fees before it
        self._accounts: Accounts | None = None
        self._revision = 0
        self._state = RateState()
        self._open_periods: set[str] = set()
        self._kept: set[str] = set()  # closed periods that late usage may still correct
        # Account, period → hour from which it changed → behind the record that changed it; 0: none did.
        self._changed: dict[tuple[str, str], dict[int, int]] = {}
        self._late_at = 0  # behind the last record that was late
        self._has_adopted = False
        self._begun: dict[tuple[str, str], Begun] = {}  # where to go on: under this catalog, with this usage
        self._settling = Settling(self._state, rules.charges_topic)
        self._corrections = Corrections(self._state, self._settling, self._is_closed)
        self._posted: list[Output] = []  # at closes and restatements, since the last checkpoint
        self._dirty = False

    def fold(self, chunks: Sequence[Chunk], catalog: Catalog) -> None:
        """Fold chunks that continue the position without a gap; see `Fold`."""
        self.adopt(catalog)
        for chunk in chunks:
            if self.offset is None:
                self.offset = chunk.first
            assert chunk.first == self.offset, f"gap: at {self.offset}, chunk from {chunk.first}"
            for offset, value in zip(chunk.offsets, chunk.values, strict=True):
                self._fold_record(decode(value) if value else None, offset)
            self.offset = chunk.next
            self._dirty = True

    def adopt(self, catalog: Catalog) -> None:
        """Rate open periods again under a new catalog revision, at the same position."""
        if self._accounts is None or catalog is not self._accounts.catalog:
            self._accounts = Accounts(catalog, self.rules.partition, self.rules.partitions)
            self._begun.clear()
        if catalog.revision <= self._revision:
            return
        if self.offset is not None and self._revision:
            self._has_adopted = True
            for slot in self._state.slots():
                self._mark(slot, 0, 0)
            for period in self._open_periods:
                self._mark_recurring(period, 0)
            self._dirty = True
        self._revision = catalog.revision

    # -- records ---------------------------------------------------------------------------------

    def _fold_record(self, record: object, offset: int) -> None:
        if not isinstance(record, HourlyTotal | Watermark | Restatement):
            return
        if int(record.version) >> EPOCH_SHIFT < self.rules.epoch:
            return  # a late write of a worker of before: its customers may have moved away
        if isinstance(record, HourlyTotal):
            self._fold_total(record, offset + 1)
        elif isinstance(record, Restatement):
            self._restate(record, offset + 1)
        elif record.time > self.watermark:
            self._pass_time(record.time, offset + 1)

    def _stamp(self, offset: int) -> str:
        return str(version(self.rules.epoch, offset, self._revision))

    def _fold_total(self, record: HourlyTotal, at: int) -> None:
        slot = Slot(record.customer, period_of(record.hour))
        if self._is_beyond_correction(slot.period):
            return  # a replay: the meter fold refuses what is new beyond the horizon
        dimensions = tuple(record.dimensions.items())
        use = HourUse(
            record.hour,
            record.customer,
            record.meter,
            dimensions,
            usage_of(record),
            int(record.digest or "0", 16),
        )
        if not self._state.keep(slot, use, int(record.version)):
            return
        if self._is_closed(slot.period):
            self._close_empty(slot.period)
            self._late_at = at
            self._corrections.note(self._account_of(slot.customer), slot.period)
            return
        self._open_periods.add(slot.period)
        self._mark(slot, record.hour, at)

    def _close_empty(self, period: str) -> None:
        """A period that had nothing when its time was over is closed since then."""
        if period not in self._state.closed:
            starts = calendar.period(period).starts * 1_000
            self._state.close(period, closes_at(starts, self.rules.grace_hours))
            self._kept.add(period)

    def _is_closed(self, period: str) -> bool:
        return is_closed(period, self.watermark, self.rules.grace_hours)

    def _pass_time(self, watermark: int, at: int) -> None:
        grace = self.rules.grace_hours
        is_closing = open_from(watermark, grace) != open_from(self.watermark, grace)
        if is_closing:
            self._posted += self._settle_changed(at)  # with the periods that are open now
        self._advance(watermark, at)
        if is_closing:
            self._posted += self._settle_changed(at) + self._close_periods(at)

    def _advance(self, watermark: int, at: int) -> None:
        """Let time pass: a period that begins has its recurring fees, also when its usage came before."""
        entered = period_of(watermark // 1_000)
        if not self._first_period:
            self._first_period = entered
        known = period_of(self.watermark // 1_000) if self.watermark else ""
        for period in calendar.periods_between(max(known, self._first_period), entered):
            if period != known and period not in self._state.closed:
                self._open_periods.add(period)
                self._mark_recurring(period, at)
        self.watermark = watermark

    def _mark(self, slot: Slot, hour: int, at: int) -> None:
        self._mark_account(self._account_of(slot.customer), slot.period, hour, at)

    def _account_of(self, customer: str) -> str:
        assert self._accounts is not None
        return self._accounts.catalog.account_of(customer)

    def _mark_account(self, account: str, period: str, hour: int, at: int) -> None:
        marks = self._changed.setdefault((account, period), {})
        marks[hour] = max(at, marks.get(hour, 0))

    def _mark_recurring(self, period: str, at: int) -> None:
        assert self._accounts is not None
        for account in self._accounts.recurring:
            self._mark_account(account, period, 0, at)

    @property
    def revision(self) -> int:
        """The newest catalog revision that rated it; see `Fold`."""
        return self._revision

    @property
    def is_heavy(self) -> bool:
        """Whether so much has changed that it should be made durable before more is folded."""
        return len(self._changed) > HEAVY_SLOTS or self._state.waiting > HEAVY_ENTRIES

    # -- what has changed ------------------------------------------------------------------------

    def changes(self) -> Changes | None:
        """What has changed since the last call; None when nothing has."""
        if not self._dirty or self.offset is None or self._accounts is None:
            return None
        outputs = self._posted + self._settle_changed(self.offset)
        self._forget_old()
        self._posted, self._dirty = [], False
        header = _Header(self.watermark, self._revision, self._first_period)
        return Changes(
            epoch=self.rules.epoch,
            offset=self.offset,
            header=msgspec.msgpack.encode(header),
            entries=self._state.take_entries(place_in_log(self.rules.epoch, self.offset)),
            segments=[],
            expired_before=0,
            outputs=outputs,
            revision=self._revision,
        )

    def _settle_changed(self, offset: int) -> list[Output]:
        """Rate what has changed, corrections of closed periods first."""
        outputs = self._correct(self._stamp(offset))
        self._mark_followers()
        for account, period in sorted(self._changed):
            marks = self._changed[account, period]
            rated = self._rate(account, period, since=min(marks))
            touched = Touched.by(self._stamp, offset, marks, has_adopted=self._has_adopted)
            outputs += self._settle(account, period, rated, touched)
        self._changed, self._has_adopted = {}, False
        return outputs

    def _correct(self, stamp: str) -> list[Output]:
        assert self._accounts is not None
        corrected = self._corrections.settle(self._accounts.catalog, stamp)
        self._open_periods |= corrected.periods
        for account in corrected.accounts:
            for period in self._open_periods:
                self._mark_account(account, period, 0, self._late_at)
        return corrected.outputs

    def _mark_followers(self) -> None:
        """A window of the contract goes through periods: later ones follow an earlier one."""
        assert self._accounts is not None
        for account, period in list(self._changed):
            if self._accounts.has_contract_scope(account):
                at = max(self._changed[account, period].values())
                for later in (p for p in self._open_periods if p > period):
                    self._mark_account(account, later, 0, at)

    def _rate(self, account: str, period: str, *, since: int = 0, closing: bool = False) -> Rated:
        assert self._accounts is not None
        members, span = self._accounts.catalog.members(account), calendar.period(period)
        if not members:
            return Rated([], [unknown_customer(use) for use in self._uses(account, period)], {}, 0)
        goes_on = self._accounts.has_contract_scope(account)
        if not (closing or goes_on or needs_all_hours(members, span)):
            return self._rate_on(account, period, since)
        self._begun.pop((account, period), None)
        carried = self._carried(account, period) if goes_on else {}
        uses = self._uses(account, period)
        return rate_period(members, uses, span, carried=carried, closing=closing, since=since)

    def _rate_on(self, account: str, period: str, since: int) -> Rated:
        """Rate from where the hours before the change were walked through, if that is known."""
        assert self._accounts is not None
        begun = self._begun.pop((account, period), None)
        if begun is not None and begun.hour > since:
            begun = None
        first = begun.hour if begun is not None else 0
        uses = self._uses(account, period, first)
        keep = max(first, max((use.hour for use in uses), default=0) - LATEST_SECONDS)
        members, span = self._accounts.catalog.members(account), calendar.period(period)
        rated = rate_period(members, uses, span, since=since, begun=begun, keep=keep)
        if rated.begun is not None and rated.begun.values <= MOST_VALUES:
            self._begun[account, period] = rated.begun
        return rated

    def _uses(self, account: str, period: str, since: int = 0) -> list[HourUse]:
        assert self._accounts is not None
        customers = list(self._accounts.catalog.members(account)) or [account]
        return [use for c in customers for use in self._state.uses(Slot(c, period), since)]

    def _carried(self, account: str, period: str) -> dict[str, Carry]:
        """Windows of the contract as the periods before this one leave them."""
        assert self._accounts is not None
        carried = self._state.carries(account)
        for earlier in sorted(p for p in self._open_periods if p < period):
            span, uses = calendar.period(earlier), self._uses(account, earlier)
            members = self._accounts.catalog.members(account)
            carried = {**carried, **rate_period(members, uses, span, carried=carried).carries}
        return carried

    # -- what was rated against what was published -----------------------------------------------

    def _settle(self, account: str, period: str, rated: Rated, touched: Touched) -> list[Output]:
        customers = self._customers(account, rated)
        outputs: list[Output] = []
        for customer in customers:
            slot = Slot(customer, period)
            rows = [row for row in rated.rows if row.customer == customer]
            missing = [error for error in rated.unpriced if error.customer == customer]
            outputs += self._settling.errors(slot, missing, rated.since, touched.stamp)
            outputs += self._settling.rows(slot, rows, rated.since, touched)
        return outputs

    def _customers(self, account: str, rated: Rated) -> list[str]:
        assert self._accounts is not None
        found = {account} | set(self._accounts.catalog.members(account))
        return sorted(found | {e.customer for e in rated.unpriced} | {r.customer for r in rated.rows})

    # -- the close -------------------------------------------------------------------------------

    def _close_periods(self, at: int) -> list[Output]:
        outputs: list[Output] = []
        for period in sorted(self._open_periods):
            if self._is_closed(period):
                for account in self._accounts_in(period):
                    outputs += self._close(account, period, at)
                self._open_periods.discard(period)
                self._state.close(period, self.watermark)
                self._kept.add(period)
        return outputs

    def _accounts_in(self, period: str) -> list[str]:
        assert self._accounts is not None
        catalog = self._accounts.catalog
        used = {catalog.account_of(s.customer) for s in self._state.slots() if s.period == period}
        return sorted(used | self._accounts.recurring)

    def _close(self, account: str, period: str, at: int) -> list[Output]:
        rated = self._rate(account, period, closing=True)
        touched = Touched(self._stamp, at)
        outputs = self._settle(account, period, rated, touched)
        began = self._state.carries(account)
        self._state.set_carries(account, rated.carries)
        for customer in self._customers(account, rated):
            slot = Slot(customer, period)
            if self._state.is_known(slot):
                books = self._books(slot, rated)
                outputs.append(
                    post_close(self.rules.charges_topic, slot, books, self.watermark, self._stamp(at))
                )
                self._corrections.post(slot)
        if rated.rows:
            assert self._accounts is not None
            self._state.books.close(self._accounts.catalog, account, period, rated.rows, began)
        return outputs

    def _restate(self, record: Restatement, at: int) -> None:
        """Charge a closed period again, with all that is known of it by now, and close it anew."""
        slot = Slot(record.customer, record.period)
        is_replay = int(record.version) <= self._state.restated(slot)
        if is_replay or self._is_beyond_correction(slot.period):
            return
        assert self._accounts is not None
        self._close_empty(slot.period)
        account, touched = self._account_of(slot.customer), Touched(self._stamp, at)
        restated = self._corrections.restate(account, slot.period, self._accounts.catalog, touched)
        self._late_at = at
        self._posted += restated.outputs
        for customer in sorted({slot.customer, *restated.customers}):
            one = Slot(customer, slot.period)
            number = self._state.restate(one, int(record.version) if one == slot else 0)
            revision = Revision(number, tuple(record.approvals))
            books, watermark = self._books(one, restated.rated), self._state.closed[slot.period]
            self._posted.append(
                post_close(self.rules.charges_topic, one, books, watermark, touched.stamp, revision)
            )

    def _books(self, slot: Slot, rated: Rated) -> Books:
        currencies = {r.origin.currency for r in rated.rows if r.customer == slot.customer}
        currencies |= {row.currency for row in self._state.rows(slot).values()}
        assert len(currencies) <= 1, f"{slot.customer} {slot.period}: two currencies"
        rows = [(price, hour, row.amount) for (price, hour), row in self._state.rows(slot).items()]
        return Books(next(iter(currencies), ""), rows, len(self._state.errors(slot)))

    def _is_beyond_correction(self, period: str) -> bool:
        hours = self.rules.grace_hours + KEEP_HOURS
        return period in self._state.closed and is_closed(period, self.watermark, hours)

    def _forget_old(self) -> None:
        for period in [period for period in self._kept if self._is_beyond_correction(period)]:
            self._state.forget(period)
            self._kept.discard(period)

    def restore(self, saved: Saved) -> None:
        """Take over a durable copy; only on a fresh fold."""
        assert self.offset is None, "restore needs a fresh fold"
        header = msgspec.msgpack.decode(saved.header, type=_Header)
        self.offset, self.watermark = saved.offset, header.watermark
        self._revision, self._first_period = header.catalog_revision, header.first_period
        self._state.restore(saved.entries)
        self._kept = {p for p in self._state.closed if not self._is_beyond_correction(p)}
        self._open_periods = {slot.period for slot in self._state.slots()}
        if self._first_period:
            entered = calendar.periods_between(self._first_period, period_of(self.watermark // 1_000))
            self._open_periods |= {period for period in entered if period not in self._state.closed}
