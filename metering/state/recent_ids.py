"""Accepted ids in memory, by day: sorted columns that are merged as they grow, behind one filter.

About 20 bytes an id. A batch of ids that are new costs one look at the filter; a day goes as a whole.
"""

from collections.abc import Iterator

import numpy as np

from metering.state.id_file import Found, IdFilter, Ids, Ints, SortedIds

_SMALLEST_FILTER = 1 << 12  # ids
_JOINED = 4  # runs at a time: fewer mean more sorting, more mean more looking


class RecentIds:
    """The ids of some days; each day is a few sorted runs, of which no four are of like length."""

    def __init__(self) -> None:
        self._runs: dict[int, list[SortedIds]] = {}
        self._count = 0
        self._room = _SMALLEST_FILTER
        self._filter = IdFilter.for_count(self._room)

    def __len__(self) -> int:
        return self._count

    @property
    def days(self) -> list[int]:
        """The days that hold ids, oldest first."""
        return sorted(self._runs)

    def add(self, day: int, ids: Ids) -> None:
        """Take ids, none of which is here already."""
        runs = self._runs.setdefault(day, [])
        runs.append(SortedIds.of(ids))
        while len(runs) >= _JOINED and len(runs[-_JOINED]) <= _JOINED * len(runs[-1]):
            runs[-_JOINED:] = [SortedIds.joined(runs[-_JOINED:])]
        self._count += len(ids.high)
        if self._count > self._room:
            self._renew_filter()
        else:
            self._filter.add(ids.high)

    def find(self, ids: Ids, bits: Ints) -> Iterator[tuple[Found, Ints]]:
        """Places in `ids` of those that are here, and the `low` of the stored copies, run by run."""
        maybe = self._filter.maybe(ids.high, bits) if self._count else np.zeros(0, np.intp)
        if len(maybe):
            candidates = Ids(ids.high[maybe], ids.low[maybe])
            for run in (run for runs in self._runs.values() for run in runs):
                found, low = run.find(candidates)
                yield maybe[found], low

    def pop(self, day: int) -> Ids:
        """Forget a day; its ids."""
        ids = SortedIds.joined(self._runs.pop(day)).ids()
        self._count -= len(ids.high)
        self._renew_filter()
        return ids

    def _renew_filter(self) -> None:
        self._room = max(_SMALLEST_FILTER, 2 * self._count)
        self._filter = IdFilter.for_count(self._room)
        for run in (run for runs in self._runs.values() for run in runs):
            self._filter.add(run.ids().high)
