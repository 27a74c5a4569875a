"""Accepted ids in memory, by day: sorted columns that are merged as they grow, behind one filter.

About 20 bytes an id. A batch of ids that are new costs one look at the filter; a day goes as a whole.
"""

from collections.abc import Iterator

import numpy as np

from metering.state.id_file import Found, IdFilter, Ids, Ints, SortedIds

_SMALLEST_FILTER = 1 << 12  # ids
_UNSORTED = 1 << 16  # ids
_UNSORTED_ROOM = 4 * _UNSORTED  # so that its filter is seldom wrong
_JOINED = 4  # runs at a time: fewer mean more sorting, more mean more looking


class RecentIds:
    """The ids of some days; each day is a few sorted runs, of which no four are of like length.

    What was just added waits to be sorted, behind a filter of its own, until it may be asked for or is much.
    """

    def __init__(self) -> None:
        self._runs: dict[int, list[SortedIds]] = {}
        self._unsorted: dict[int, list[Ids]] = {}
        self._unsorted_count = 0
        self._unsorted_filter = IdFilter.for_count(_UNSORTED_ROOM)
        self._count = 0
        self._room = _SMALLEST_FILTER
        self._filter = IdFilter.for_count(self._room)

    def __len__(self) -> int:
        return self._count

    @property
    def days(self) -> list[int]:
        """The days that hold ids, oldest first."""
        return sorted(self._runs.keys() | self._unsorted.keys())

    def add(self, day: int, ids: Ids) -> None:
        """Take ids, none of which is here already."""
        self._unsorted.setdefault(day, []).append(ids)
        self._unsorted_count += len(ids.high)
        self._unsorted_filter.add(ids.high)
        self._count += len(ids.high)
        if self._unsorted_count > _UNSORTED:
            self._sort()

    def _sort(self) -> None:
        if not self._unsorted:
            return
        for day, parts in self._unsorted.items():
            runs = self._runs.setdefault(day, [])
            high, low = zip(*parts, strict=True)
            ids = Ids(np.concatenate(high), np.concatenate(low))
            self._filter.add(ids.high)
            runs.append(SortedIds.of(ids))
            while len(runs) >= _JOINED and len(runs[-_JOINED]) <= _JOINED * len(runs[-1]):
                runs[-_JOINED:] = [SortedIds.joined(runs[-_JOINED:])]
        self._unsorted, self._unsorted_count = {}, 0
        self._unsorted_filter.words[:] = 0
        if self._count > self._room:
            self._renew_filter()

    def find(self, ids: Ids, bits: Ints) -> Iterator[tuple[Found, Ints]]:
        """Places in `ids` of those that are here, and the `low` of the stored copies, run by run."""
        if self._unsorted_count and len(self._unsorted_filter.maybe(ids.high, bits)):
            self._sort()
        maybe = self._filter.maybe(ids.high, bits) if self._count else np.zeros(0, np.intp)
        if len(maybe):
            candidates = Ids(ids.high[maybe], ids.low[maybe])
            for run in (run for runs in self._runs.values() for run in runs):
                found, low = run.find(candidates)
                yield maybe[found], low

    def pop(self, day: int) -> Ids:
        """Forget a day; its ids."""
        self._sort()
        ids = SortedIds.joined(self._runs.pop(day)).ids()
        self._count -= len(ids.high)
        self._renew_filter()
        return ids

    def _renew_filter(self) -> None:
        self._room = max(_SMALLEST_FILTER, 2 * self._count)
        self._filter = IdFilter.for_count(self._room)
        for run in (run for runs in self._runs.values() for run in runs):
            self._filter.add(run.ids().high)
