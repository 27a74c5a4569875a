"""A whole fetch batch of usage events as rows in columns: what `events.decode_values` reads, faster.

All values are decoded at once. What is unusual in any way goes to `decode_values`, which alone decides
what is refused; a row says the same as the event that it would make.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from metering.events import (
    ENVELOPE_LIMIT,
    FLOATS,
    NAME_LIMIT,
    SENDERS,
    UNDECODABLE,
    Item,
    Refusal,
    UsageEvent,
    are_objects,
    decode_values,
)
from metering.instants import UNREAD, Instants, instants

SMALLEST_BYTES = 4_000
_SPACE, _DELETE = 0x20, 0x7F  # printable ASCII is in between
_BLOCK = 64  # values that are decoded together where one of a batch is broken


class Row(UsageEvent, gc=False):
    """A usage event whose `time` is still as it was sent; `at` and `customer` are filled on demand."""

    time: str | int | None = None  # type: ignore[assignment]  # text is read in columns


def is_worth_columns(values: Sequence[bytes | None]) -> bool:
    """Whether a batch is large enough for columns to be cheaper than single events."""
    size = 0
    for value in values:
        size += len(value or b"")
        if size >= SMALLEST_BYTES:
            return True
    return False


Decoded = Row | list[Row] | None  # None: for the decoder of single events
_whole = msgspec.json.Decoder(Row | list[Row], float_hook=FLOATS)


class Rows:
    """The events of a batch in log order; `refused` holds those that are none, by their row.

    `value_of` says which value a row came from. `names` are customer, source and id with a NUL between
    them. A refused row has placeholders in the columns.
    """

    def __init__(self, values: Sequence[bytes | None]) -> None:
        self._values = values
        self.refused: dict[int, Item] = {}
        self.events: list[UsageEvent] = []
        self.value_of: Sequence[int] = []
        self._places: list[int] | None = []  # None: no value is an envelope
        self._take(_decode(values))
        self.ids = [event.id for event in self.events]
        self.sources = [event.source for event in self.events]
        self.types = [event.type for event in self.events]
        self.datas = [event.data for event in self.events]
        self.customers = self._customers()
        self.at: Instants = instants([event.time for event in self.events])
        names = zip(self.customers, self.sources, self.ids, strict=True)
        self._joined = "\n".join(map("\0".join, names)).encode("utf-8", "surrogatepass")
        self.names = self._joined.split(b"\n")
        if len(self.names) != len(self.events):  # a name holds a line break, and will be refused
            names = zip(self.customers, self.sources, self.ids, strict=True)
            self.names = ["\0".join(parts).encode("utf-8", "surrogatepass") for parts in names]
        for row in sorted(self._doubtful() - self.refused.keys()):
            self._decode_again(row)

    def __len__(self) -> int:
        return len(self.events)

    def item(self, row: int) -> Item:
        """A row as the decoder of single events gives it."""
        refused = self.refused.get(row)
        if refused is not None:
            return refused
        value, place = self.value_of[row], self._place(row)
        raw = self._values[value] or b""
        return Item(value, place, self.event(row), raw if place < 0 else self._raw_parts(value)[place])

    def event(self, row: int) -> UsageEvent:
        """The event of a row, with its customer and its instant."""
        event = self.events[row]
        event.customer, event.at = self.customers[row], int(self.at[row])
        return event

    @property
    def places(self) -> list[int]:
        """Where in its envelope each row stands; -1: in none."""
        return [-1] * len(self) if self._places is None else self._places

    def _place(self, row: int) -> int:
        return -1 if self._places is None else self._places[row]

    def _raw_parts(self, value: int) -> list[bytes]:
        if value not in self._opened:
            self._opened[value] = msgspec.json.decode(self._values[value] or b"", type=list[msgspec.Raw])
        return [bytes(part) for part in self._opened[value]]

    @cached_property
    def _opened(self) -> dict[int, list[msgspec.Raw]]:
        return {}

    def _take(self, decoded: Sequence[Decoded]) -> None:
        if set(map(type, decoded)) == {Row}:
            self.events = decoded  # type: ignore[assignment]  # one row a value
            self.value_of, self._places = range(len(decoded)), None
            return
        self.value_of = []
        for value, found in enumerate(decoded):
            if isinstance(found, Row):
                self._append(value, -1, found)
            elif found is not None and 0 < len(found) <= ENVELOPE_LIMIT:
                for place, event in enumerate(found):
                    self._append(value, place, event)
            else:
                for item in self._items(value):
                    self._append(value, item.place, self._settled(len(self.events), item))

    def _append(self, value: int, place: int, event: UsageEvent) -> None:
        assert isinstance(self.value_of, list)
        assert self._places is not None
        self.events.append(event)
        self.value_of.append(value)
        self._places.append(place)

    def _items(self, value: int) -> Iterator[Item]:
        for item in decode_values([self._values[value]]):
            yield item._replace(value=value)

    def _settled(self, row: int, item: Item) -> UsageEvent:
        """What stands in the columns for an item of the decoder of single events."""
        if isinstance(item.event, Refusal):
            self.refused[row] = item
            return UsageEvent()
        item.event.time, item.event.subject = item.event.at, item.event.customer
        return item.event

    def _customers(self) -> list[str]:
        forms = {event.specversion for event in self.events}
        if forms != {""}:
            return [e.subject if e.specversion else e.customer for e in self.events]
        return [event.customer for event in self.events]

    def _doubtful(self) -> set[int]:
        """Rows that lack something or have an unusual name: for the decoder of single events."""
        found = set(np.flatnonzero(self.at == UNREAD).tolist())
        for column in (self.ids, self.types, self.customers):
            if not all(column):
                found |= {row for row, text in enumerate(column) if not text}
        if None in self.datas:
            found |= {row for row, data in enumerate(self.datas) if data is None}
        senders = [list(map(attrgetter(name), self.events)) for name in SENDERS]
        named = [] if self._are_plain_names() else [self.customers, self.sources, self.ids]
        for column in (*named, self.types, *senders):
            strange = set(filter(_is_unusual, set(column)))
            if strange:
                found |= {row for row, text in enumerate(column) if text in strange}
        return found

    def _are_plain_names(self) -> bool:
        """Whether all names are short ASCII without control codes; what is not may still be usable."""
        raw = np.frombuffer(self._joined, np.uint8)
        separators = 3 * len(self.names) - 1
        return (
            len(self.names) == len(self.events)
            and int(np.count_nonzero((raw < _SPACE) | (raw >= _DELETE))) == separators
            and max(map(len, self.names)) <= NAME_LIMIT
        )

    def _decode_again(self, row: int) -> None:
        value, place = self.value_of[row], self._place(row)
        event = self._settled(row, self._again(value)[max(place, 0)])
        self.events[row] = event
        self.ids[row], self.sources[row], self.types[row] = event.id, event.source, event.type
        self.customers[row], self.datas[row], self.at[row] = event.customer, event.data, event.at
        names = "\0".join((event.customer, event.source, event.id))
        self.names[row] = names.encode("utf-8", "surrogatepass")

    def _again(self, value: int) -> list[Item]:
        if value not in self._items_again:
            self._items_again[value] = list(self._items(value))
        return self._items_again[value]

    @cached_property
    def _items_again(self) -> dict[int, list[Item]]:
        return {}


def _is_unusual(text: str) -> bool:
    return len(text) > NAME_LIMIT or not text.isprintable()


def _decode(values: Sequence[bytes | None]) -> list[Decoded]:
    found = _decode_together(values)
    if found is not None:
        return found
    decoded: list[Decoded] = []
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        decoded += _decode_together(block) or [_decode_alone(value) for value in block]
    return decoded


def _decode_together(values: Sequence[bytes | None]) -> list[Decoded] | None:
    """All of them in one call, or None: see `events.are_objects` for why an equal count is a proof."""
    try:
        if are_objects(values):
            together: list[Any] = _whole.decode_lines(b"\n".join(values))  # type: ignore[arg-type]  # no None
            if len(together) == len(values):
                return together
    except UNDECODABLE:
        pass
    return None


def _decode_alone(value: bytes | None) -> Decoded:
    try:
        found: Decoded = _whole.decode(value or b"")
        return found
    except UNDECODABLE:
        return None
