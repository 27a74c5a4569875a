"""What a rate fold remembers: usage of open periods, published rows and errors, closes, windows.

Every change is also an entry for the journal, so that the durable copy is this state.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from metering.rating.hourly import Carry
from metering.rating.usage import Dimensions, HourUse
from metering.records import key
from metering.state.closed_books import ClosedBooks
from metering.state.fold import Entry
from metering.state.postings import Row, Slot
from metering.state.saved_usage import carry_of, carry_value, usage_of_value, usage_value

Place = tuple[str, int]  # price or meter, hour

# Where the customer or account stands behind the kind in the key of each entry; None: in no place.
CUSTOMER_AT = {
    **dict.fromkeys(("use", "row", "error", "carry", "closed", "began", "posted", "revision"), 0),
    **dict.fromkeys(("close", "terms"), None),
}
_OF_SLOTS = frozenset({"use", "row", "error"})
_NOTHING: Mapping[Any, Any] = {}


class _Held(NamedTuple):
    use: HourUse
    version: int


class _Saved(NamedTuple):
    kind: str
    place: list[Any]
    value: bytes


class RateState:
    """The tables of one partition, kept by customer and period."""

    def __init__(self) -> None:
        self._uses: dict[Slot, dict[tuple[int, str, Dimensions], _Held]] = {}
        self._rows: dict[Slot, dict[Place, Row]] = {}
        self._errors: dict[Slot, dict[Place, str]] = {}
        self._carries: dict[str, dict[str, Carry]] = {}
        self.closed: dict[str, int] = {}  # period → the watermark that closed it
        self._revisions: dict[Slot, tuple[int, int]] = {}  # restatements so far; version of the last
        self.books = ClosedBooks()
        self._entries: dict[bytes, bytes | None] = {}
        self._saved: dict[Slot, list[_Saved]] = {}  # taken over and not read yet: most are never asked for

    # -- usage -----------------------------------------------------------------------------------

    def keep(self, slot: Slot, use: HourUse, version: int) -> bool:
        """Keep a total unless a newer one is known; whether it was kept."""
        self._read(slot)
        place = (use.hour, use.meter, use.dimensions)
        known = self._uses.get(slot, _NOTHING).get(place)
        if known is not None and known.version >= version:
            return False  # a stale replay or a second copy
        self._uses.setdefault(slot, {})[place] = _Held(use, version)
        self._set(_use_key(slot, use), _use_value(use, version))
        return True

    def uses(self, slot: Slot, since: int = 0) -> list[HourUse]:
        """The usage of a customer's period from an hour on."""
        self._read(slot)
        return [held.use for place, held in self._uses.get(slot, _NOTHING).items() if place[0] >= since]

    def slots(self) -> set[Slot]:
        """Every customer's period that is open."""
        found = self._uses.keys() | self._rows.keys() | self._errors.keys() | self._saved.keys()
        return {slot for slot in found if slot.period not in self.closed and self.is_known(slot)}

    def is_known(self, slot: Slot) -> bool:
        """Whether anything is used or charged in it; what was taken back leaves no trace."""
        return any(table.get(slot) for table in (self._saved, self._uses, self._rows, self._errors))

    # -- rows and errors -------------------------------------------------------------------------

    def rows(self, slot: Slot) -> Mapping[Place, Row]:
        """Published rows by price and hour."""
        self._read(slot)
        return self._rows.get(slot, _NOTHING)

    def row(self, slot: Slot, place: Place) -> Row | None:
        """A published row."""
        return self.rows(slot).get(place)

    def sums(self, slot: Slot) -> dict[str, tuple[int, int]]:
        """Amount and quantity of the published rows by price, micro-units."""
        found: dict[str, tuple[int, int]] = {}
        for (price, _), row in self.rows(slot).items():
            amount, quantity = found.get(price, (0, 0))
            found[price] = (amount + row.amount, quantity + row.quantity)
        return found

    def set_row(self, slot: Slot, place: Place, row: Row) -> None:
        """Remember a row that is being published."""
        self._read(slot)
        self._rows.setdefault(slot, {})[place] = row
        value = (str(row.amount), str(row.quantity), row.currency, row.content, row.what, row.touched)
        self._set(key("row", *slot, *place), value)

    def drop_row(self, slot: Slot, place: Place) -> None:
        """Forget a row that is being taken back."""
        self._read(slot)
        del self._rows[slot][place]
        self._entries[key("row", *slot, *place)] = None

    def errors(self, slot: Slot) -> Mapping[Place, str]:
        """What was published of each meter and hour without a price."""
        self._read(slot)
        return self._errors.get(slot, _NOTHING)

    def set_error(self, slot: Slot, place: Place, content: str) -> None:
        """Remember an error that is being published."""
        self._read(slot)
        self._errors.setdefault(slot, {})[place] = content
        self._set(key("error", *slot, *place), (content,))

    def drop_error(self, slot: Slot, place: Place) -> None:
        """Forget an error that is being withdrawn."""
        self._read(slot)
        del self._errors[slot][place]
        self._entries[key("error", *slot, *place)] = None

    # -- the close -------------------------------------------------------------------------------

    def forget(self, period: str) -> None:
        """Drop the usage and rows of a closed period that is beyond the horizon of corrections."""
        for slot in [slot for slot in self._saved if slot.period == period]:
            self._read(slot)
        for slot in [slot for slot in self._uses if slot.period == period]:
            for held in self._uses.pop(slot).values():
                self._entries[_use_key(slot, held.use)] = None
        for slot in [slot for slot in self._rows if slot.period == period]:
            for place in self._rows.pop(slot):
                self._entries[key("row", *slot, *place)] = None
        for slot in [slot for slot in self._errors if slot.period == period]:
            for place in self._errors.pop(slot):
                self._entries[key("error", *slot, *place)] = None
        for slot in [slot for slot in self._revisions if slot.period == period]:
            del self._revisions[slot]
            self._entries[key("revision", *slot)] = None
        self.books.forget(period)

    def close(self, period: str, watermark: int) -> None:
        """Record that a period is closed, and by which watermark."""
        self.closed[period] = watermark
        self._set(key("close", period), (watermark,))

    def revision(self, slot: Slot) -> int:
        """How often a closed slot was restated."""
        return self._revisions.get(slot, (0, 0))[0]

    def restated(self, slot: Slot) -> int:
        """The version of the record that restated a slot last; 0 for none."""
        return self._revisions.get(slot, (0, 0))[1]

    def restate(self, slot: Slot, version: int = 0) -> int:
        """Count a restatement, by a record of its own or beside another's; its number."""
        number, version = self.revision(slot) + 1, max(version, self.restated(slot))
        self._revisions[slot] = (number, version)
        self._set(key("revision", *slot), (number, str(version)))
        return number

    def carries(self, account: str) -> dict[str, Carry]:
        """Windows that go on behind the last closed period, by price."""
        return self._carries.get(account, {})

    def set_carries(self, account: str, carries: Mapping[str, Carry]) -> None:
        """Remember where windows stand at the close."""
        if not carries:
            return
        self._carries[account] = {**self.carries(account), **carries}
        for price, carry in carries.items():
            self._set(key("carry", account, price), carry_value(carry))

    # -- the durable copy ------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many entries have changed since they were last taken."""
        return len(self._entries)

    def _set(self, place: bytes, value: tuple[object, ...]) -> None:
        self._entries[place] = msgspec.msgpack.encode(value)

    def take_entries(self, upto: int) -> list[Entry]:
        """The entries changed since the last call."""
        changed = {**self._entries, **self.books.entries}
        entries = [Entry(place, value, upto) for place, value in changed.items()]
        self._entries, self.books.entries = {}, {}
        return entries

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take over a durable copy; what belongs to a slot is read when the slot is asked for."""
        for entry in entries:
            assert entry.value is not None
            kind, *place = msgspec.json.decode(entry.key)
            if kind in _OF_SLOTS:
                slot = Slot(place[0], place[1])
                self._saved.setdefault(slot, []).append(_Saved(kind, place, entry.value))
            elif not self.books.restore(kind, place, entry.value):
                self._restore_entry(kind, place, msgspec.msgpack.decode(entry.value))

    def _read(self, slot: Slot) -> None:
        for kind, place, value in self._saved.pop(slot, ()):
            self._restore_entry(kind, place, msgspec.msgpack.decode(value))

    def _restore_entry(self, kind: str, place: list[Any], value: list[Any]) -> None:
        if kind == "close":
            self.closed[place[0]] = value[0]
        elif kind == "revision":
            self._revisions[Slot(*place)] = (value[0], int(value[1]))
        elif kind == "carry":
            self._carries.setdefault(place[0], {})[place[1]] = carry_of(value)
        elif kind == "use":
            use, version = _use(place, value)
            slot = Slot(place[0], place[1])
            self._uses.setdefault(slot, {})[use.hour, use.meter, use.dimensions] = _Held(use, version)
        elif kind == "row":
            amount, quantity, currency, content, (meter, model, card, version), *touched = value
            what = (meter, model, card, version)
            row = Row(int(amount), int(quantity), currency, content, what, *touched)
            self._rows.setdefault(Slot(*place[:2]), {})[place[2], place[3]] = row
        else:
            self._errors.setdefault(Slot(*place[:2]), {})[place[2], place[3]] = value[0]


def _use_key(slot: Slot, use: HourUse) -> bytes:
    return key("use", *slot, use.hour, use.meter, *(part for pair in use.dimensions for part in pair))


def _use_value(use: HourUse, version: int) -> tuple[object, ...]:
    return (*usage_value(use.usage), use.digest, str(version))


def _use(place: list[Any], value: list[Any]) -> tuple[HourUse, int]:
    customer, _, hour, meter, *names = place
    dimensions = tuple(zip(names[::2], names[1::2], strict=True))
    *usage, digest, version = value
    return HourUse(hour, customer, meter, dimensions, usage_of_value(usage), digest), int(version)
