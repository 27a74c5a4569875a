"""Hourly totals of one partition to charges, and the close of billing periods.

The concept: a *slot* is one customer, meter and billing period. A change anywhere in a slot rates
the whole slot again, and the rows whose content changed are emitted as absolute values. The
invariant: the rows of a slot add up to the charge of its whole quantity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from metering.catalog.resolved import Catalog
from metering.rating import HourCharge, Unpriced, hourly_charges
from metering.rating.money import parse_quantity
from metering.records import HourlyTotal, Watermark, decode, key, version
from metering.state.calendar import is_closed, period_of
from metering.state.fold import Changes, Chunk, Entry, Output, Saved
from metering.state.measure import MICRO, Dimensions
from metering.state.postings import (
    Books,
    Row,
    Slot,
    charge_row,
    post_charge,
    post_close,
    post_error,
    post_void,
)

HEAVY_SLOTS = 5_000


class _Total(NamedTuple):
    quantity: int
    events: int
    version: int


@dataclass(frozen=True)
class RateRules:
    """What a deployment chooses; equal on every worker."""

    partition: int
    charges_topic: str
    epoch: int = 1
    grace_hours: int = 24


class _Header(msgspec.Struct):
    watermark: int
    catalog_revision: int


class RateFold:
    """The state of one partition of `usage.hourly`."""

    def __init__(self, rules: RateRules) -> None:
        self.rules = rules
        self.offset: int | None = None
        self.watermark = 0
        self._catalog: Catalog | None = None
        self._revision = 0
        self._totals: dict[Slot, dict[int, dict[Dimensions, _Total]]] = {}
        self._rows: dict[Slot, dict[int, Row]] = {}
        self._errors: dict[Slot, dict[int, str]] = {}  # hour → reason
        self._closed: set[tuple[str, str]] = set()  # customer, period
        self._open_periods: set[str] = set()
        self._changed: set[Slot] = set()
        self._entries: dict[bytes, bytes | None] = {}
        self._dirty = False

    def fold(self, chunks: Sequence[Chunk], catalog: Catalog) -> None:
        """Fold chunks that continue the position without a gap; see `Fold`."""
        self.adopt(catalog)
        for chunk in chunks:
            if self.offset is None:
                self.offset = chunk.first
            assert chunk.first == self.offset, f"gap: at {self.offset}, chunk from {chunk.first}"
            for value in chunk.values:
                self._fold_record(decode(value) if value else None)
            self.offset = chunk.next
            self._dirty = True

    def adopt(self, catalog: Catalog) -> None:
        """Rate open periods again under a new catalog revision, at the same position."""
        self._catalog = catalog
        if catalog.revision <= self._revision:
            return
        if self.offset is not None and self._revision:
            self._changed.update(self._totals)
            self._dirty = True
        self._revision = catalog.revision

    def _fold_record(self, record: object) -> None:
        if isinstance(record, HourlyTotal):
            self._fold_total(record)
        elif isinstance(record, Watermark):
            self.watermark = max(self.watermark, record.time)

    def _fold_total(self, record: HourlyTotal) -> None:
        slot = Slot(record.customer, record.meter, period_of(record.hour))
        if (slot.customer, slot.period) in self._closed:
            return  # a replay: the meter fold refuses what is new for a closed period
        dimensions = tuple(record.dimensions.items())
        quantity = parse_quantity(record.quantity, MICRO)
        total = _Total(quantity, record.events, int(record.version))
        parts = self._totals.setdefault(slot, {}).setdefault(record.hour, {})
        known = parts.get(dimensions)
        if known is not None and known.version >= total.version:
            return  # a stale replay or a second copy
        parts[dimensions] = total
        self._open_periods.add(slot.period)
        self._changed.add(slot)
        self._remember(
            key("total", *slot, record.hour, *(part for pair in dimensions for part in pair)),
            (str(total.quantity), total.events, str(total.version)),
        )

    @property
    def is_heavy(self) -> bool:
        """Whether so much has changed that it should be made durable before more is folded."""
        return len(self._changed) > HEAVY_SLOTS

    def changes(self) -> Changes | None:
        """What has changed since the last call; None when nothing has."""
        if not self._dirty or self.offset is None or self._catalog is None:
            return None
        stamp = str(version(self.rules.epoch, self.offset, self._revision))
        outputs: list[Output] = []
        for slot in sorted(self._changed):
            outputs.extend(self._rate_slot(slot, self._catalog, stamp))
        outputs.extend(self._close_periods(stamp))
        entries = [Entry(place, value, self.offset) for place, value in self._entries.items()]
        self._changed, self._entries, self._dirty = set(), {}, False
        return Changes(
            epoch=self.rules.epoch,
            offset=self.offset,
            header=msgspec.msgpack.encode(_Header(self.watermark, self._revision)),
            entries=entries,
            segments=[],
            expired_before=0,
            outputs=outputs,
        )

    def _rate_slot(self, slot: Slot, catalog: Catalog, stamp: str) -> list[Output]:
        hours = {hour: parts.values() for hour, parts in self._totals[slot].items()}
        quantities = [(hour, sum(t.quantity for t in hours[hour])) for hour in sorted(hours)]
        if catalog.customer(slot.customer) is None:
            detail = f"Customer `{slot.customer}` is no longer in the catalog; put it back."
            rated: list[HourCharge | Unpriced] = [
                Unpriced(hour, quantity, "unknown_customer", detail) for hour, quantity in quantities
            ]
        else:
            rated = hourly_charges(catalog.segments(slot.customer, slot.meter), quantities, MICRO)
        outputs = []
        for hour_charge in rated:
            if isinstance(hour_charge, Unpriced):
                outputs.extend(self._settle_unpriced(slot, hour_charge, catalog, stamp))
            else:
                events = sum(t.events for t in hours[hour_charge.hour])
                outputs.extend(self._settle_charge(slot, hour_charge, events, stamp))
        return outputs

    def _settle_charge(self, slot: Slot, rated: HourCharge, events: int, stamp: str) -> list[Output]:
        outputs = self._withdraw_error(slot, rated.hour, stamp)
        row = charge_row(rated, events)
        known = self._rows.setdefault(slot, {}).get(rated.hour)
        if known == row:
            return outputs
        if known is not None and known.price != row.price:
            outputs.append(post_void(self.rules.charges_topic, slot, rated.hour, known, stamp))
        self._rows[slot][rated.hour] = row
        self._remember_row(slot, rated.hour, row)
        outputs.append(post_charge(self.rules.charges_topic, slot, rated, row, stamp))
        return outputs

    def _settle_unpriced(self, slot: Slot, unpriced: Unpriced, catalog: Catalog, stamp: str) -> list[Output]:
        hour = unpriced.hour
        outputs: list[Output] = []
        known = self._rows.get(slot, {}).pop(hour, None)
        if known is not None:
            outputs.append(post_void(self.rules.charges_topic, slot, hour, known, stamp))
            self._entries[key("row", *slot, hour)] = None
        if catalog.customer(slot.customer) is not None and catalog.is_not_charged(
            slot.customer, slot.meter, hour
        ):
            return outputs + self._withdraw_error(slot, hour, stamp)
        self._errors.setdefault(slot, {})[hour] = unpriced.reason
        self._remember(key("error", *slot, hour), (unpriced.reason,))
        outputs.append(
            post_error(
                self.rules.charges_topic,
                slot,
                hour,
                unpriced.quantity,
                unpriced.reason,
                unpriced.detail,
                stamp,
            )
        )
        return outputs

    def _withdraw_error(self, slot: Slot, hour: int, stamp: str) -> list[Output]:
        if self._errors.get(slot, {}).pop(hour, None) is None:
            return []
        self._entries[key("error", *slot, hour)] = None
        return [post_error(self.rules.charges_topic, slot, hour, 0, "", "", stamp)]

    def _close_periods(self, stamp: str) -> list[Output]:
        outputs: list[Output] = []
        for period in sorted(self._open_periods):
            if is_closed(period, self.watermark, self.rules.grace_hours):
                customers = sorted({s.customer for s in self._totals if s.period == period})
                outputs.extend(self._close(customer, period, stamp) for customer in customers)
                self._open_periods.discard(period)
        return outputs

    def _close(self, customer: str, period: str, stamp: str) -> Output:
        slots = [s for s in self._totals if s.customer == customer and s.period == period]
        rows = [(hour, row) for slot in slots for hour, row in self._rows.get(slot, {}).items()]
        books = Books(
            currency=rows[0][1].currency if rows else "",
            rows=[(row.price, hour, row.amount) for hour, row in rows],
            errors=sum(len(self._errors.get(slot, {})) for slot in slots),
        )
        assert len({row.currency for _, row in rows}) <= 1, f"{customer} {period}: two currencies"
        for slot in slots:
            self._forget(slot)
        self._closed.add((customer, period))
        self._remember(key("close", customer, period), (self.watermark,))
        topic = self.rules.charges_topic
        return post_close(topic, customer, period, books, self.watermark, stamp)

    def _forget(self, slot: Slot) -> None:
        """Drop a closed slot: its rows are final and live in `usage.charges`."""
        for hour, parts in self._totals.pop(slot).items():
            for dimensions in parts:
                names = (part for pair in dimensions for part in pair)
                self._entries[key("total", *slot, hour, *names)] = None
        for hour in self._rows.pop(slot, {}):
            self._entries[key("row", *slot, hour)] = None
        for hour in self._errors.pop(slot, {}):
            self._entries[key("error", *slot, hour)] = None

    def _remember(self, place: bytes, value: tuple[object, ...]) -> None:
        self._entries[place] = msgspec.msgpack.encode(value)

    def _remember_row(self, slot: Slot, hour: int, row: Row) -> None:
        # Integers can pass 64 bits: text, as everywhere on a wire.
        numbers = (str(row.before), str(row.after), str(row.amount))
        value = (row.price, row.currency, *numbers, row.card_version, row.events)
        self._remember(key("row", *slot, hour), value)

    def restore(self, saved: Saved) -> None:
        """Take over a durable copy; only on a fresh fold."""
        assert self.offset is None, "restore needs a fresh fold"
        header = msgspec.msgpack.decode(saved.header, type=_Header)
        self.offset, self.watermark = saved.offset, header.watermark
        self._revision = header.catalog_revision
        for entry in saved.entries:
            assert entry.value is not None
            kind, *place = msgspec.json.decode(entry.key)
            self._restore_entry(kind, place, msgspec.msgpack.decode(entry.value))

    def _restore_entry(self, kind: str, place: list[str | int], value: list[str | int]) -> None:
        if kind == "close":
            self._closed.add((str(place[0]), str(place[1])))
            return
        slot, hour = Slot(str(place[0]), str(place[1]), str(place[2])), int(place[3])
        if kind == "total":
            names = [str(part) for part in place[4:]]
            dimensions = tuple(zip(names[::2], names[1::2], strict=True))
            total = _Total(int(value[0]), int(value[1]), int(value[2]))
            self._totals.setdefault(slot, {}).setdefault(hour, {})[dimensions] = total
            self._open_periods.add(slot.period)
        elif kind == "error":
            self._errors.setdefault(slot, {})[hour] = str(value[0])
        else:
            price, currency, before, after, amount, card_version, events = value
            self._rows.setdefault(slot, {})[hour] = Row(
                str(price),
                str(currency),
                int(before),
                int(after),
                int(amount),
                str(card_version),
                int(events),
            )
