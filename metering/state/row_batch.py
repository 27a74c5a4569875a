"""One batch of the log as columns, ready to be counted: the fast way through the meter fold.

The rules are those of `measure` and of the fold; here they are applied to many rows at once. What they
cannot decide that way is marked, and goes through the fold event by event: corrections, ticks, usage of
closed periods, and the record whose event closes one.
"""

from collections.abc import Callable
from itertools import repeat
from operator import itemgetter
from typing import NamedTuple
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from metering.event_rows import Rows
from metering.events import TICK_TYPE, Refusal, UsageEvent
from metering.state.amending import Post
from metering.state.amendments import RESERVED
from metering.state.calendar import HOUR_MS, hour_of
from metering.state.dedupe import IDENTITY_BYTES, SeenIds, digest_of, fingerprints
from metering.state.hourly_table import HourlyTable
from metering.state.id_file import ID_BYTES, Ids, columns
from metering.state.measure import ONE, Measure, measure
from metering.state.row_groups import RowGroups
from metering.state.row_measures import Part, extremes_of, measure_rows, sums_of
from metering.state.totals import Some

Flags = NDArray[np.bool_]
Places = NDArray[np.intp]
_lines = msgspec.json.Encoder(order="deterministic").encode_lines


class Tally(NamedTuple):
    """What became of some rows: those that count, whether they are late, and those that do not count."""

    accepted: Places
    late: Flags
    duplicates: int
    conflicts: list[int]
    watermark: int


class RowBatch:
    """The rows of a batch; `refusals` are those that no state can make count."""

    def __init__(self, rows: Rows, groups: RowGroups, table: HourlyTable, latest: int) -> None:
        self.rows = rows
        self._groups = groups
        self._table = table
        self._parts = measure_rows(rows, groups)
        self._by_group = np.zeros(len(rows), bool)
        for part in self._parts:
            self._by_group[part.rows] = part.groups >= 0
        self._by_group &= rows.at <= latest  # what is in the future is refused
        self.refusals: dict[int, Refusal] = {}
        self._singly: dict[int, tuple[Measure, ...]] = {}  # rows of no group, which are counted one by one
        self._special = np.zeros(len(rows), bool)  # rows that must be folded event by event

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
        if is_refused or not table.has_room(event, measures, len(self.rows)):
            self._special[row] = True  # it depends on what was counted before it
        else:
            self._singly[row] = measures

    # -- who was here before ----------------------------------------------------------------------

    def identify(self, seen: SeenIds) -> None:
        """Find the identity and the content of each row, and which were accepted before."""
        rows = self.rows
        self.identities = fingerprints(rows.names)
        self._contents = contents_of(rows)
        packed = np.empty((len(rows), ID_BYTES), np.uint8)
        packed[:, :IDENTITY_BYTES] = np.frombuffer(b"".join(self.identities), np.uint8).reshape(len(rows), -1)
        packed[:, IDENTITY_BYTES:] = np.array(self._contents, ">u4").view(np.uint8).reshape(len(rows), -1)
        self._packed = packed
        self._ids: Ids = columns(packed.tobytes())
        self.known: dict[bytes, int] = {}  # identity → content of what was accepted before, or was just now
        for places, found in seen.find(self._ids):
            for place, content in zip(places.tolist(), found.tolist(), strict=True):
                self.known[self.identities[place]] = content

    def packed(self, tally: Tally) -> bytes:
        """The ids of the rows that count."""
        return self._packed[tally.accepted].tobytes()

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
            return len(self.rows), len(self.rows)
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
        places = np.flatnonzero(usable) + start
        identities = [self.identities[place] for place in places.tolist()]
        duplicates, conflicts = 0, []
        if self.known or stop < len(self.rows) or len(set(identities)) < len(identities):
            accepted = []
            for place, identity in zip(places.tolist(), identities, strict=True):
                content = self._contents[place]
                before = self.known.get(identity)
                if before is None:
                    self.known[identity] = content
                    accepted.append(place)
                elif before == content:
                    duplicates += 1
                else:
                    conflicts.append(place)
            places = np.array(accepted, np.intp)
        return self._timed(places, duplicates, conflicts, watermark)

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
        is_late = np.zeros(len(self.rows), bool)
        is_late[tally.accepted[tally.late]] = True
        counts = np.zeros(len(self.rows), bool)
        counts[tally.accepted] = True
        for part in self._parts:
            self._count_part(part, (counts & self._by_group)[part.rows], is_late)
        for row, measures in self._singly.items():
            if counts[row]:
                event, digest = self.rows.event(row), digest_of(self.identities[row])
                if post is not None:
                    post(event, measures, 1)
                self._table.add(event, measures, digest, late=bool(is_late[row]))

    def _count_part(self, part: Part, chosen: Flags, is_late: Flags) -> None:
        rows = part.rows[chosen]
        numbers, groups = np.unique(part.groups[chosen], return_inverse=True)
        count = len(numbers)
        somes = zip(
            np.bincount(groups, minlength=count).tolist(),
            sums_of(groups, is_late[rows].astype(np.int64), count) if is_late.any() else repeat(0, count),
            sums_of(groups, self._ids.high[rows], count),
            strict=True,
        )
        found: dict[tuple[int, str], list[int]] = {}
        for place, (number, some) in enumerate(zip(numbers.tolist(), map(Some._make, somes), strict=True)):
            group = self._groups.groups[number]
            for total, which in zip(group.totals(self._table), group.numbers, strict=True):
                if which is None:
                    total.add_some(some.events * ONE, some)
                    continue
                how = total.kind if total.kind in ("max", "min") else "sum"
                if (which, how) not in found:
                    found[which, how] = _quantities(part, which, how, chosen, groups, count)
                total.add_some(found[which, how][place], some)


def _quantities(part: Part, which: int, how: str, chosen: Flags, groups: Places, count: int) -> list[int]:
    """What a number of these rows comes to for each group, in micro-units."""
    column = part.numbers[which].column[chosen]
    if how == "sum":
        found = sums_of(groups, column, count)
    else:
        found = extremes_of(groups, column, count, largest=how == "max")
    return [value * part.numbers[which].unit for value in found]


def contents_of(rows: Rows) -> list[int]:
    """`dedupe.content_of` of each row."""
    plain = _lines(rows.datas).split(b"\n")
    times = _lines(rows.at.tolist()).split(b"\n")
    begun = {name: crc32(f"{name}\0".encode("utf-8", "surrogatepass")) for name in set(rows.types)}
    if len(begun) == 1:
        return list(map(crc32, plain[:-1], map(crc32, times[:-1], repeat(begun[rows.types[0]]))))
    return list(map(crc32, plain[:-1], map(crc32, times[:-1], map(begun.__getitem__, rows.types))))
