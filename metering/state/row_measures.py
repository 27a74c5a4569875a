"""What the rows of a batch add to which totals, type by type: groups and numbers in columns."""

from collections import defaultdict
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metering.event_rows import Rows
from metering.state.calendar import HOUR_MS, HOUR_SECONDS
from metering.state.measure import LARGEST_INTEGER, ONE, at_path, plain_number, text_of
from metering.state.row_groups import NONE, Layout, Path, RowGroups

Int64s = NDArray[np.int64]
_LARGEST_SUM = (1 << 63) - 1


class Numbers(NamedTuple):
    """A column of quantities, `unit` micro-units each; -1 where there is none. Any sum fits 64 bits."""

    column: Int64s
    unit: int


class Part(NamedTuple):
    """The rows of one type, with their groups (NONE: by themselves) and numbers."""

    rows: NDArray[np.intp]
    groups: Int64s
    numbers: tuple[Numbers, ...]


def measure_rows(rows: Rows, groups: RowGroups) -> list[Part]:
    """Every row that is not refused stands in one part, unless its type has no layout."""
    parts = []
    for event_type, places in _by_type(rows).items():
        layout = groups.layout(event_type)
        if layout is not None:
            parts.append(_Columns(rows, places).part(layout, groups))
    return parts


def _by_type(rows: Rows) -> dict[str, NDArray[np.intp]]:
    if not rows.refused and len(set(rows.types)) == 1:
        return {rows.types[0]: np.arange(len(rows))}
    found = defaultdict(list)
    for row, event_type in enumerate(rows.types):
        found[event_type].append(row)
    found.pop("", None)  # refused
    return {event_type: np.array(places) for event_type, places in found.items()}


class _Columns:
    """The columns of some rows."""

    def __init__(self, rows: Rows, places: NDArray[np.intp]) -> None:
        self._places = places
        self._is_all = len(places) == len(rows)
        self._datas = self._chosen(rows.datas)
        self._customers = self._chosen(rows.customers)
        self._hours = (rows.at[places] // HOUR_MS * HOUR_SECONDS).tolist()

    def _chosen(self, column: list[Any]) -> list[Any]:
        return column if self._is_all else [column[place] for place in self._places.tolist()]

    def part(self, layout: Layout, groups: RowGroups) -> Part:
        """These rows as the events of a type are read."""
        texts = [self._texts(path) for path in layout.texts]
        found = self._found(layout, texts)
        if None in found:
            for key in dict.fromkeys(zip(self._customers, self._hours, *texts, strict=True)):
                if key not in layout.known:
                    groups.make(layout, key)
            found = self._found(layout, texts)
        numbers = []
        codes = np.array(found, np.int64)
        for path, scale in layout.numbers:
            column = self._numbers(path, scale)
            codes[column.column < 0] = NONE
            numbers.append(column)
        return Part(self._places, codes, tuple(numbers))

    def _found(self, layout: Layout, texts: list[list[str]]) -> list[int | None]:
        return list(map(layout.known.get, zip(self._customers, self._hours, *texts, strict=True)))

    def _texts(self, path: Path) -> list[str]:
        """The texts at a path, as `measure` reads them."""
        values = self._values(path)
        return values if set(map(type, values)) == {str} else list(map(text_of, values))

    def _numbers(self, path: Path, scale: int) -> Numbers:
        values = self._values(path)
        if set(map(type, values)) == {int}:
            try:
                column = np.array(values, np.int64)
            except OverflowError:
                pass
            else:
                return _safe(np.where(column < LARGEST_INTEGER, column, -1), ONE)
        read = [plain_number(value, scale) for value in values]
        return _safe(np.array([value if value <= _LARGEST_SUM else -1 for value in read], np.int64), 1)

    def _values(self, path: Path) -> list[Any]:
        if len(path) == 1:
            try:
                return list(map(itemgetter(path[0]), self._datas))
            except KeyError:
                pass
        return [at_path(data, path) for data in self._datas]


def _safe(column: Int64s, unit: int) -> Numbers:
    """Numbers that are too large to be added up in 64 bits are left out."""
    return Numbers(np.where(column <= _LARGEST_SUM // max(1, len(column)), column, -1), unit)


def sums_of(groups: Int64s, column: NDArray[Any], count: int) -> list[int]:
    """The sum of a column for each of `count` groups, in its own type: unsigned ones wrap around."""
    sums = np.zeros(count, column.dtype)
    np.add.at(sums, groups, column)
    found: list[int] = sums.tolist()
    return found


def extremes_of(groups: Int64s, column: Int64s, count: int, *, largest: bool) -> list[int]:
    """The largest or smallest of a column for each of `count` groups; each group has some."""
    extremes = np.full(count, -1 if largest else _LARGEST_SUM, np.int64)
    (np.maximum if largest else np.minimum).at(extremes, groups, column)
    found: list[int] = extremes.tolist()
    return found
