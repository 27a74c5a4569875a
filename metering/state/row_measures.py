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
from metering.state.row_sums import LARGEST_SUM, Int64s, Numbers, Uses


class Part(NamedTuple):
    """The rows of one type, with their groups (NONE: by themselves), numbers, and how these are used."""

    rows: NDArray[np.intp]
    groups: Int64s
    numbers: tuple[Numbers, ...]
    uses: Uses

    def chosen(self, stays: NDArray[np.bool_], place: NDArray[np.intp]) -> "Part":
        """Only the rows that stay, under their new places."""
        numbers = tuple(Numbers(number.column[stays], number.unit) for number in self.numbers)
        return Part(place[self.rows[stays]], self.groups[stays], numbers, self.uses)


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
        return Part(self._places, codes, tuple(numbers), layout.uses)

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
        return _safe(np.array([value if value <= LARGEST_SUM else -1 for value in read], np.int64), 1)

    def _values(self, path: Path) -> list[Any]:
        if len(path) == 1:
            try:
                return list(map(itemgetter(path[0]), self._datas))
            except KeyError:
                pass
        return [at_path(data, path) for data in self._datas]


def whole_or_micro(whole: Int64s, micro: Int64s) -> Numbers:
    """A column of whole numbers where all are, or else of micro-units; -1 where there is none."""
    return _safe(micro, 1) if len(whole) and whole.min() < 0 else _safe(whole, ONE)


def _safe(column: Int64s, unit: int) -> Numbers:
    """Numbers that are too large to be added up in 64 bits are left out."""
    return Numbers(np.where(column < LARGEST_SUM // max(1, len(column)), column, -1), unit)
