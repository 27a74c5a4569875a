"""What rows come to, group by group, until somebody reads the totals: many batches cost as much as one.

Adding up is the same in any order, so nothing shows whether a batch is in its totals already or waits here.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from metering.rating.usage import Aggregation
from metering.state.hourly_table import HourlyTable
from metering.state.measure import ONE
from metering.state.totals import Some, Total

Int64s = NDArray[np.int64]
How = str  # "sum", "max" or "min"
Uses = Sequence[tuple[int, How]]  # which number, and how those of a group are put together
LARGEST_SUM = (1 << 63) - 1
_EMPTY: dict[How, int] = {"sum": 0, "max": -1, "min": LARGEST_SUM}  # no number reaches the last one
_NEVER_LEAST = LARGEST_SUM * ONE
_JOIN: dict[How, Callable[[tuple[int, ...]], int]] = {"sum": sum, "max": max, "min": min}


class Numbers(NamedTuple):
    """A column of quantities, `unit` micro-units each; -1 where there is none. Any sum fits 64 bits."""

    column: Int64s
    unit: int


class GroupedRows(NamedTuple):
    """Rows of groups, column by column: digests, which are late, numbers and how these are used."""

    groups: Int64s
    digests: NDArray[np.uint64]
    late: Int64s | None  # None: no row is
    numbers: Sequence[Numbers]
    uses: Uses


class Group(Protocol):
    """Some totals, each with the number that it takes (None: it counts rows)."""

    numbers: list[int | None]

    def totals(self, table: HourlyTable) -> list[Total]:
        """The totals themselves; they are put down as changed."""


def how_of(kind: Aggregation) -> How:
    """How the numbers of a total of this kind are put together."""
    return kind if kind in ("max", "min") else "sum"


class Sums:
    """The rows of some groups that are not in their totals yet."""

    def __init__(self) -> None:
        self._size = 0
        self._events = np.zeros(0, np.int64)
        self._late = np.zeros(0, np.int64)
        self._digests = np.zeros(0, np.uint64)
        self._columns: dict[tuple[int, How, int], Int64s] = {}  # by number, how, and its unit in micro-units
        self._room: dict[tuple[int, How, int], int] = {}  # how much more certainly fits 64 bits

    def has_room(self, rows: GroupedRows) -> bool:
        """Whether these rows fit, whatever their groups; a batch fits when nothing is here."""
        return all(
            how != "sum" or self._room.get((which, how, rows.numbers[which].unit), LARGEST_SUM) >= most
            for which, how in rows.uses
            if (most := _most(rows.numbers[which].column)) > 0
        )

    def add(self, rows: GroupedRows) -> None:
        """Add rows."""
        groups = rows.groups
        self._make_room_for(int(groups.max()) + 1)
        np.add.at(self._events, groups, 1)
        np.add.at(self._digests, groups, rows.digests)
        if rows.late is not None:
            np.add.at(self._late, groups, rows.late)
        for which, how in rows.uses:
            column, unit = rows.numbers[which]
            held = self._column(which, how, unit)
            if how == "sum":
                np.add.at(held, groups, column)
                self._room[which, how, unit] -= _most(column)
            else:
                (np.maximum if how == "max" else np.minimum).at(held, groups, column)

    def settle(self, groups: Sequence[Group], table: HourlyTable) -> None:
        """Put everything into the totals."""
        touched = np.flatnonzero(self._events)
        events, late, digests = self._events[touched], self._late[touched], self._digests[touched]
        somes = map(Some, events.tolist(), late.tolist(), digests.tolist())
        quantities = self._quantities(touched)
        for place, (number, some) in enumerate(zip(touched.tolist(), somes, strict=True)):
            group = groups[number]
            for total, which in zip(group.totals(table), group.numbers, strict=True):
                if which is None:
                    total.add_some(some.events * ONE, some)
                else:
                    total.add_some(quantities[which, how_of(total.kind)][place], some)
        self._forget(touched)

    def _quantities(self, touched: NDArray[np.intp]) -> dict[tuple[int, How], list[int]]:
        """What each number comes to, as it is used, for each of the groups, in micro-units."""
        found: dict[tuple[int, How], list[list[int]]] = {}
        for (which, how, unit), column in self._columns.items():
            values = column[touched].tolist()
            if how == "min":
                values = [value if value != LARGEST_SUM else _NEVER_LEAST for value in values]
            found.setdefault((which, how), []).append([value * unit for value in values])
        return {
            (which, how): columns[0]
            if len(columns) == 1
            else list(map(_JOIN[how], zip(*columns, strict=True)))
            for (which, how), columns in found.items()
        }

    def _forget(self, touched: NDArray[np.intp]) -> None:
        for column in (self._events, self._late, self._digests):
            column[touched] = 0
        for place, column in self._columns.items():
            column[touched] = _EMPTY[place[1]]
            self._room[place] = LARGEST_SUM

    def _column(self, which: int, how: How, unit: int) -> Int64s:
        place = which, how, unit
        if place not in self._columns:
            self._columns[place] = np.full(self._size, _EMPTY[how], np.int64)
            self._room[place] = LARGEST_SUM
        return self._columns[place]

    def _make_room_for(self, count: int) -> None:
        if count <= self._size:
            return
        more = 2 * count - self._size
        self._size += more
        self._events = np.concatenate([self._events, np.zeros(more, np.int64)])
        self._late = np.concatenate([self._late, np.zeros(more, np.int64)])
        self._digests = np.concatenate([self._digests, np.zeros(more, np.uint64)])
        for place, column in self._columns.items():
            self._columns[place] = np.concatenate([column, np.full(more, _EMPTY[place[1]], np.int64)])


def _most(column: Int64s) -> int:
    """What the sum of a column is at most."""
    return int(column.max()) * len(column)
