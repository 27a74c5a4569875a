"""One batch of the log as columns, ready to be counted: the fast way through the meter fold.

The rules are those of `measure` and of the fold; here they are applied to many rows at once. What they
cannot decide that way is marked, and goes through the fold event by event: corrections, ticks, usage of
closed periods, and the record whose event closes one.
"""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metering.events import TICK_TYPE, Refusal, UsageEvent
from metering.state.amending import Post
from metering.state.amendments import RESERVED
from metering.state.calendar import HOUR_MS, hour_of
from metering.state.dedupe import IDENTITY_BYTES, SeenIds, digest_of
from metering.state.hourly_table import HourlyTable
from metering.state.id_file import Ids, columns
from metering.state.measure import Measure, measure
from metering.state.row_facts import Facts
from metering.state.row_groups import RowGroups
from metering.state.row_measures import Part
from metering.state.row_sums import GroupedRows, Numbers

Flags = NDArray[np.bool_]
Places = NDArray[np.intp]


class Tally(NamedTuple):
    """What became of some rows: those that count, whether they are late, and those that do not count."""

    accepted: Places
    late: Flags
    duplicates: int
    conflicts: list[int]
    watermark: int


class RowBatch:
    """The rows of a batch; `refusals` are those that no state can make count."""

    def __init__(self, rows: Facts, groups: RowGroups, table: HourlyTable, latest: int) -> None:
        self.rows = rows
        self._groups = groups
        self._table = table
        self._by_group = np.zeros(len(self), bool)
        for part in rows.parts:
            self._by_group[part.rows] = part.groups >= 0
        self._by_group &= rows.at <= latest  # what is in the future is refused
        self.refusals: dict[int, Refusal] = {}
        self._singly: dict[int, tuple[Measure, ...]] = {}  # rows of no group, which are counted one by one
        self._special = np.zeros(len(self), bool)  # rows that must be folded event by event

    def __len__(self) -> int:
        return len(self.rows.at)

    def look_at_others(self, refused: Callable[[UsageEvent], Refusal | None]) -> None:
        """Decide by `measure` on the rows that belong to no group; `refused` says what else is refused."""
        for row in np.flatnonzero(~self._by_group).tolist():
            item = self.rows.refused.get(row)
            if item is not None:
                assert isinstance(item.event, Refusal)
                self.refusals[row] = item.event
                continue
            event = self.rows.event(row)
            if event.type == TICK_TYPE or event.type.startswith(RESERVED):
                self._special[row] = True
                continue
            found = measure(event, self._groups.catalog)
            refusal = found if isinstance(found, Refusal) else refused(event)
            if refusal is not None:
                self.refusals[row] = refusal
            else:
                assert not isinstance(found, Refusal)
                self._add_single(row, event, found)

    def _add_single(self, row: int, event: UsageEvent, measures: tuple[Measure, ...]) -> None:
        table = self._table
        is_refused = table.uncountable(event, measures, hour_of(event.at)) is not None
        if is_refused or not table.has_room(event, measures, len(self)):
            self._special[row] = True  # it depends on what was counted before it
        else:
            self._singly[row] = measures

    # -- who was here before ----------------------------------------------------------------------

    def identify(self, seen: SeenIds) -> None:
        """Find which rows were accepted before, and which come more than once here."""
        self._ids: Ids = columns(self.rows.packed.tobytes())
        self.known: dict[bytes, int] = {}  # identity → content of what was accepted before, or was just now
        # Rows that are not the first of their identity, or may not be: the first 64 bits tell all others.
        self._in_doubt = repeated(self._ids.high)
        for places, found in seen.find(self._ids):
            self._in_doubt[places] = True
            for place, content in zip(places.tolist(), found.tolist(), strict=True):
                self.known[self.identity(place)] = content

    def identity(self, row: int) -> bytes:
        """The fingerprint of a row."""
        return self.rows.packed[row, :IDENTITY_BYTES].tobytes()

    def _content(self, row: int) -> int:
        return int(self._ids.low[row]) & 0xFFFFFFFF

    def learn(self, added: Mapping[bytes, int]) -> None:
        """Let what follows know ids that were accepted event by event; one may be of no row here."""
        if added:
            self.known.update(added)
            highs = np.array([digest_of(identity) for identity in added], np.uint64)
            self._in_doubt |= np.isin(self._ids.high, highs)

    def packed(self, tally: Tally) -> bytes:
        """The ids of the rows that count."""
        return self.rows.packed[tally.accepted].tobytes()

    # -- runs -------------------------------------------------------------------------------------

    def next_special(self, start: int, open_from: int, closes_at: int) -> tuple[int, int]:
        """The first and the last-plus-one row of the next record that must be folded event by event.

        It holds usage of a closed period, or what may close one (epoch ms), or something else than usage.
        """
        at = self.rows.at[start:]
        is_usage = np.ones(len(at), bool)
        is_usage[[row - start for row in self.refusals if row >= start]] = False
        special = np.flatnonzero(self._special[start:] | (is_usage & ((at < open_from) | (at >= closes_at))))
        if not len(special):
            return len(self), len(self)
        first = behind = start + int(special[0])
        value_of = self.rows.value_of
        while first > start and value_of[first - 1] == value_of[behind]:
            first -= 1
        while behind < len(value_of) and value_of[behind] == value_of[first]:
            behind += 1
        return first, behind

    def tally(self, start: int, stop: int, watermark: int) -> Tally:
        """Which rows of a run count; each is known from then on."""
        usable = np.ones(stop - start, bool)
        usable[[row - start for row in self.refusals if start <= row < stop]] = False
        duplicates, conflicts = 0, []
        for row in (np.flatnonzero(usable & self._in_doubt[start:stop]) + start).tolist():
            identity, content = self.identity(row), self._content(row)
            before = self.known.get(identity)
            if before is None:
                self.known[identity] = content
                continue
            usable[row - start] = False
            if before == content:
                duplicates += 1
            else:
                conflicts.append(row)
        return self._timed(np.flatnonzero(usable) + start, duplicates, conflicts, watermark)

    def _timed(self, places: Places, duplicates: int, conflicts: list[int], watermark: int) -> Tally:
        at = self.rows.at[places]
        before = np.maximum.accumulate(np.concatenate([[watermark], at]))
        late = (at // HOUR_MS + 1) * HOUR_MS <= before[:-1]
        return Tally(places, late, duplicates, conflicts, int(before[-1]))

    def refused(self, start: int, stop: int, conflicts: list[int]) -> list[tuple[int, Refusal | None]]:
        """The rows of a run that are refused, in their order; None: for a conflict."""
        found: list[tuple[int, Refusal | None]] = [(row, None) for row in conflicts]
        found += [(row, refusal) for row, refusal in self.refusals.items() if start <= row < stop]
        return sorted(found, key=itemgetter(0))

    def count(self, tally: Tally, post: Post | None) -> None:
        """Add the rows that count to their totals, and `post` those that quotas watch before."""
        is_late = np.zeros(len(self), bool)
        is_late[tally.accepted[tally.late]] = True
        counts = np.zeros(len(self), bool)
        counts[tally.accepted] = True
        for part in self.rows.parts:
            chosen = (counts & self._by_group)[part.rows]
            if chosen.any():
                self._add(part, chosen, is_late if tally.late.any() else None)
        for row, measures in self._singly.items():
            if counts[row]:
                event, digest = self.rows.event(row), digest_of(self.identity(row))
                if post is not None:
                    post(event, measures, 1)
                self._table.add(event, measures, digest, late=bool(is_late[row]))

    def _add(self, part: Part, chosen: Flags, is_late: Flags | None) -> None:
        rows, groups = part.rows, part.groups
        numbers = part.numbers
        if not chosen.all():
            rows, groups = rows[chosen], groups[chosen]
            numbers = tuple(Numbers(number.column[chosen], number.unit) for number in numbers)
        late = is_late[rows].astype(np.int64) if is_late is not None else None
        self._groups.add(GroupedRows(groups, self._ids.high[rows], late, numbers, part.uses))


def repeated(column: NDArray[np.uint64]) -> Flags:
    """Which values stand more than once in a column."""
    ordered = np.sort(column)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.isin(column, twice) if len(twice) else np.zeros(len(column), bool)
