"""What a rate fold remembers: usage of open periods, published rows and errors, closes, windows.

Every change is also an entry for the journal, so that the durable copy is this state.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from metering.rating.hourly import Carry
from metering.rating.usage import Dimensions, HourUse, Usage
from metering.records import key
from metering.state.fold import Entry
from metering.state.postings import Row, Slot

Place = tuple[str, int]  # price or meter, hour
_NOTHING: Mapping[Any, Any] = {}


class _Held(NamedTuple):
    use: HourUse
    version: int


class RateState:
    """The tables of one partition, kept by customer and period."""

    def __init__(self) -> None:
        self._uses: dict[Slot, dict[tuple[int, str, Dimensions], _Held]] = {}
        self._rows: dict[Slot, dict[Place, Row]] = {}
        self._errors: dict[Slot, dict[Place, str]] = {}
        self._carries: dict[str, dict[str, Carry]] = {}
        self.closed: set[str] = set()
        self._entries: dict[bytes, bytes | None] = {}

    # -- usage -----------------------------------------------------------------------------------

    def keep(self, slot: Slot, use: HourUse, version: int) -> bool:
        """Keep a total unless a newer one is known; whether it was kept."""
        place = (use.hour, use.meter, use.dimensions)
        known = self._uses.get(slot, _NOTHING).get(place)
        if known is not None and known.version >= version:
            return False  # a stale replay or a second copy
        self._uses.setdefault(slot, {})[place] = _Held(use, version)
        self._set(_use_key(slot, use), _use_value(use, version))
        return True

    def uses(self, slot: Slot) -> list[HourUse]:
        """The usage of a customer's period."""
        return [held.use for held in self._uses.get(slot, _NOTHING).values()]

    def slots(self) -> set[Slot]:
        """Every customer's period that is open."""
        return self._uses.keys() | self._rows.keys() | self._errors.keys()

    def is_known(self, slot: Slot) -> bool:
        """Whether anything was used or charged in it."""
        return any(slot in table for table in (self._uses, self._rows, self._errors))

    # -- rows and errors -------------------------------------------------------------------------

    def rows(self, slot: Slot) -> Mapping[Place, Row]:
        """Published rows by price and hour."""
        return self._rows.get(slot, _NOTHING)

    def row(self, slot: Slot, place: Place) -> Row | None:
        """A published row."""
        return self.rows(slot).get(place)

    def set_row(self, slot: Slot, place: Place, row: Row) -> None:
        """Remember a row that is being published."""
        self._rows.setdefault(slot, {})[place] = row
        self._set(key("row", *slot, *place), (str(row.amount), row.content))

    def drop_row(self, slot: Slot, place: Place) -> None:
        """Forget a row that is being taken back."""
        del self._rows[slot][place]
        self._entries[key("row", *slot, *place)] = None

    def errors(self, slot: Slot) -> Mapping[Place, str]:
        """What was published of each meter and hour without a price."""
        return self._errors.get(slot, _NOTHING)

    def set_error(self, slot: Slot, place: Place, content: str) -> None:
        """Remember an error that is being published."""
        self._errors.setdefault(slot, {})[place] = content
        self._set(key("error", *slot, *place), (content,))

    def drop_error(self, slot: Slot, place: Place) -> None:
        """Forget an error that is being withdrawn."""
        del self._errors[slot][place]
        self._entries[key("error", *slot, *place)] = None

    # -- the close -------------------------------------------------------------------------------

    def forget(self, slot: Slot) -> None:
        """Drop a closed slot: its rows are final and live in `usage.charges`."""
        for held in self._uses.pop(slot, _NOTHING).values():
            self._entries[_use_key(slot, held.use)] = None
        for place in self._rows.pop(slot, _NOTHING):
            self._entries[key("row", *slot, *place)] = None
        for place in self._errors.pop(slot, _NOTHING):
            self._entries[key("error", *slot, *place)] = None

    def close(self, period: str, watermark: int) -> None:
        """Record that a period is closed, and by which watermark."""
        self.closed.add(period)
        self._set(key("close", period), (watermark,))

    def carries(self, account: str) -> dict[str, Carry]:
        """Windows that go on behind the last closed period, by price."""
        return self._carries.get(account, {})

    def set_carry(self, account: str, price: str, carry: Carry) -> None:
        """Remember where a window stands at the close."""
        self._carries.setdefault(account, {})[price] = carry
        groups = {label: _usage_value(usage) for label, usage in carry.groups.items()}
        self._set(key("carry", account, price), (carry.window, groups))

    # -- the durable copy ------------------------------------------------------------------------

    def _set(self, place: bytes, value: tuple[object, ...]) -> None:
        self._entries[place] = msgspec.msgpack.encode(value)

    def take_entries(self, offset: int) -> list[Entry]:
        """The entries changed since the last call."""
        entries = [Entry(place, value, offset) for place, value in self._entries.items()]
        self._entries = {}
        return entries

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take over a durable copy."""
        for entry in entries:
            assert entry.value is not None
            kind, *place = msgspec.json.decode(entry.key)
            self._restore_entry(kind, place, msgspec.msgpack.decode(entry.value))

    def _restore_entry(self, kind: str, place: list[Any], value: list[Any]) -> None:
        if kind == "close":
            self.closed.add(place[0])
        elif kind == "carry":
            groups = {label: _usage(plain) for label, plain in value[1].items()}
            self._carries.setdefault(place[0], {})[place[1]] = Carry(value[0], groups)
        elif kind == "use":
            use, version = _use(place, value)
            slot = Slot(place[0], place[1])
            self._uses.setdefault(slot, {})[use.hour, use.meter, use.dimensions] = _Held(use, version)
        elif kind == "row":
            self._rows.setdefault(Slot(*place[:2]), {})[place[2], place[3]] = Row(int(value[0]), value[1])
        else:
            self._errors.setdefault(Slot(*place[:2]), {})[place[2], place[3]] = value[0]


def _use_key(slot: Slot, use: HourUse) -> bytes:
    return key("use", *slot, use.hour, use.meter, *(part for pair in use.dimensions for part in pair))


def _use_value(use: HourUse, version: int) -> tuple[object, ...]:
    return (*_usage_value(use.usage), use.digest, str(version))


def _usage_value(usage: Usage) -> tuple[object, ...]:
    # Quantities can pass 64 bits: text, as everywhere on a wire.
    values = {k: str(weight) for k, weight in usage.values.items()}
    return (usage.kind, str(usage.quantity), usage.events, values, usage.last)


def _usage(plain: list[Any]) -> Usage:
    kind, quantity, events, values, last = plain
    return Usage(kind, int(quantity), events, {k: int(w) for k, w in values.items()}, (last[0], last[1]))


def _use(place: list[Any], value: list[Any]) -> tuple[HourUse, int]:
    customer, _, hour, meter, *names = place
    dimensions = tuple(zip(names[::2], names[1::2], strict=True))
    *usage, digest, version = value
    return HourUse(hour, customer, meter, dimensions, _usage(usage), digest), int(version)
