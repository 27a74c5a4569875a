"""What the fold has to know of each row of a batch, in columns: where it comes from does not matter.

`ReadFacts` are those of any batch. `scanned` are the same, read by the compiled scanner as far as the values
are plain and their rows belong to groups; the rest of the batch is read, and both are put in log order.
"""

from collections.abc import Sequence
from typing import Protocol
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from metering.event_rows import Rows
from metering.events import Item, UsageEvent, decode_values
from metering.state.dedupe import IDENTITY_BYTES, fingerprints
from metering.state.id_file import ID_BYTES
from metering.state.row_groups import NONE, RowGroups
from metering.state.row_measures import Part, measure_rows, whole_or_micro
from metering.state.row_sums import Int64s

Bytes = NDArray[np.uint8]
Places = NDArray[np.intp]
_lines = msgspec.json.Encoder(order="deterministic").encode_lines


class Facts(Protocol):
    """Rows in log order: their instants (epoch ms), ids (as `dedupe` packs them), and measures.

    `refused` holds what is no usage event, by its row; such a row has placeholders in the columns.
    """

    at: Int64s
    packed: Bytes
    parts: list[Part]
    refused: dict[int, Item]

    @property
    def value_of(self) -> Sequence[int] | Int64s:
        """Which value each row came from."""

    def item(self, row: int) -> Item:
        """A row as the decoder of single events gives it."""

    def event(self, row: int) -> UsageEvent:
        """The event of a row that is not refused."""


class ReadFacts:
    """The facts of any batch."""

    def __init__(self, values: Sequence[bytes | None], groups: RowGroups) -> None:
        rows = Rows(values)
        self.at, self.refused = rows.at, rows.refused
        self.value_of: Sequence[int] = rows.value_of
        self.item, self.event = rows.item, rows.event
        self.parts = measure_rows(rows, groups)
        count = len(rows)
        self.packed = np.empty((count, ID_BYTES), np.uint8)
        identities = np.frombuffer(b"".join(fingerprints(rows.names)), np.uint8)
        self.packed[:, :IDENTITY_BYTES] = identities.reshape(count, -1)
        self.packed[:, IDENTITY_BYTES:] = np.array(contents_of(rows), ">u4").view(np.uint8).reshape(count, -1)


def facts_of(values: Sequence[bytes | None], groups: RowGroups) -> Facts:
    """The facts of a batch, the fastest way."""
    if groups.scanner is None:
        return ReadFacts(values, groups)
    return _Scanned(values, groups).facts()


class _Scanned:
    """What the scanner read of a batch."""

    def __init__(self, values: Sequence[bytes | None], groups: RowGroups) -> None:
        assert groups.scanner is not None
        self._values, self._groups = values, groups
        found = groups.scanner.scan(values if isinstance(values, list) else list(values))
        self.value_of, self.place, self._kind, codes, self.at, self.packed, *numbers, left, fresh = found
        self._whole, self._micro = numbers
        group_of = groups.learn(fresh)[codes]
        self.parts = self._measured(group_of)
        self._left = left
        without = group_of == NONE
        for part in self.parts:
            without[part.rows] = part.groups == NONE
        if without.any():
            self._leave(without)

    def _measured(self, group_of: Int64s) -> list[Part]:
        parts = []
        for kind in set(self._kind.tolist()):
            layout, rows = self._groups.scanned[kind], np.flatnonzero(self._kind == kind)
            codes, numbers = group_of[rows], []
            for n in range(len(layout.numbers)):
                numbers.append(whole_or_micro(self._whole[n][rows], self._micro[n][rows]))
                codes[numbers[-1].column < 0] = NONE
            parts.append(Part(rows, codes, tuple(numbers), layout.uses))
        return parts

    def _leave(self, without: NDArray[np.bool_]) -> None:
        """Leave the values of some rows to the plain path: as a whole, because a value is one record."""
        self._left = sorted({*self._left, *self.value_of[without].tolist()})
        stays = ~np.isin(self.value_of, self._left)
        place = np.cumsum(stays) - 1
        self.parts = [part.chosen(stays[part.rows], place) for part in self.parts]
        self.value_of, self.place = self.value_of[stays], self.place[stays]
        self.at, self.packed = self.at[stays], self.packed[stays]

    def facts(self) -> Facts:
        """These rows and the others, in log order."""
        if not self._left:
            return _Merged(self, None, self._values, [])
        if 2 * len(self._left) > len(self._values):
            return ReadFacts(self._values, self._groups)
        rest = ReadFacts([self._values[value] for value in self._left], self._groups)
        return _Merged(self, rest, self._values, self._left)


class _Merged:
    """Scanned rows, and read ones of the values `left`."""

    def __init__(
        self, own: _Scanned, rest: ReadFacts | None, values: Sequence[bytes | None], left: list[int]
    ) -> None:
        self._values, self._rest, self._left = values, rest, left
        self._items: dict[int, list[Item]] = {}  # of values that were decoded, by their number
        self.at, self.value_of, self.packed, self.parts = own.at, own.value_of, own.packed, own.parts
        self._place = own.place
        # Which row each is: of the scanned ones, and behind them of the read ones; None: all were scanned.
        self._source: Places | None = None
        self.refused: dict[int, Item] = {}
        self._count = len(own.at)
        if rest is not None:
            self._merge(rest)

    def _merge(self, rest: ReadFacts) -> None:
        left = np.array(self._left, np.int64)
        value_of = np.concatenate([self.value_of, left[np.asarray(rest.value_of, np.int64)]])
        self._source = source = np.argsort(value_of, kind="stable")
        row_of = np.empty(len(source), np.intp)
        row_of[source] = np.arange(len(source))
        self.value_of = value_of[source]
        self.at = np.concatenate([self.at, rest.at])[source]
        self.packed = np.concatenate([self.packed, rest.packed])[source]
        moved = [(part, row_of[part.rows]) for part in self.parts]
        moved += [(part, row_of[self._count + part.rows]) for part in rest.parts]
        self.parts = [part._replace(rows=rows) for part, rows in moved]
        for row, item in rest.refused.items():
            self.refused[int(row_of[self._count + row])] = item._replace(value=self._left[item.value])

    def item(self, row: int) -> Item:
        """See `Facts`."""
        source = row if self._source is None else int(self._source[row])
        if source < self._count:
            return self._decoded(int(self.value_of[row]))[max(0, int(self._place[source]))]
        assert self._rest is not None, "all rows were scanned"
        found = self._rest.item(source - self._count)
        return found._replace(value=self._left[found.value])

    def event(self, row: int) -> UsageEvent:
        """See `Facts`."""
        event = self.item(row).event
        assert isinstance(event, UsageEvent), "the row is refused"
        return event

    def _decoded(self, value: int) -> list[Item]:
        # Not `functools.cache`: a cycle would keep all values until garbage is collected.
        if value not in self._items:
            self._items[value] = [item._replace(value=value) for item in decode_values([self._values[value]])]
        return self._items[value]


def contents_of(rows: Rows) -> list[int]:
    """`dedupe.content_of` of each row."""
    plain = _lines(rows.datas).split(b"\n")
    times = _lines(rows.at.tolist()).split(b"\n")
    begun = {name: crc32(f"{name}\0".encode("utf-8", "surrogatepass")) for name in set(rows.types)}
    starts = [begun[name] for name in rows.types]
    return list(map(crc32, plain[:-1], map(crc32, times[:-1], starts)))
