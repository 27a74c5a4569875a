"""The hourly totals of one partition: what is counted, what has changed, what can no longer change."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from metering.events import Refusal, UsageEvent
from metering.quota.history import HourUsed
from metering.rating.usage import Aggregation, Dimensions
from metering.records import encode, key
from metering.state.calendar import hour_of, period_of
from metering.state.fold import Entry, Output
from metering.state.measure import Measure, refuse
from metering.state.totals import DIGESTS, LARGEST_VALUES, Total, record_of

TotalKey = tuple[str, str, Dimensions, int]  # customer, meter, dimensions, hour


class HourlyTable:
    """Totals by customer, meter, dimensions and hour."""

    def __init__(self) -> None:
        self._totals: dict[TotalKey, Total] = {}
        self._changed: set[TotalKey] = set()  # to be published
        self._unsaved: set[TotalKey] = set()
        self.moved = 0  # how often totals were replaced, or changes were taken
        self._periods: set[str] = set()
        self._places: dict[tuple[str, str], list[TotalKey]] | None = None  # for `used`, once it is asked

        self._waiting: Callable[[], None] | None = None  # adds what is counted and in no total yet
        self._waiting_totals = 0  # at most

    def wait_for(self, settle: Callable[[], None], totals: int) -> None:
        """Call this before anybody reads what was counted; it changes so many totals at most."""
        self._waiting, self._waiting_totals = settle, totals

    def settle(self) -> None:
        """Add what waits. Only the kinds of totals are known without it: they are those of the meters."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    def has_changed(self, most: int) -> bool:
        """Whether more than so many totals have changed since they were last taken."""
        if self._waiting is not None and len(self._changed) + self._waiting_totals > most:
            self.settle()
        return len(self._changed) > most

    @property
    def periods(self) -> set[str]:
        """The billing periods that hold totals."""
        self.settle()
        return self._periods

    def total(self, event: UsageEvent, found: Measure) -> Total | None:
        """The total that a measure of an event belongs to."""
        self.settle()
        return self._totals.get(_place(event, found))

    def kind(self, place: TotalKey) -> Aggregation | None:
        """How the total at a place is counted; None when there is none."""
        total = self._totals.get(place)
        return total.kind if total is not None else None

    def has_room(self, event: UsageEvent, measures: Sequence[Measure], more: int) -> bool:
        """Whether `more` events of any values fit the totals of an event."""
        totals = (self.total(event, found) for found in measures if found.value)
        return all(total is None or len(total.values) + more <= LARGEST_VALUES for total in totals)

    def uncountable(self, event: UsageEvent, measures: Sequence[Measure], hour: int) -> Refusal | None:
        """Why the totals of an hour cannot take an event."""
        for found in measures:
            total = self._totals.get((event.customer, found.meter.id, found.dimensions, hour))
            if total is None:
                continue
            if total.kind != found.meter.aggregation:
                text = f"Meter `{found.meter.id}` was {total.kind} in this hour; define a new meter instead."
                return refuse(event, "meter_changed", text)
            if found.value and not total.has_room(found):
                text = f"Meter `{found.meter.id}` has {LARGEST_VALUES:,} distinct values in this hour;"
                return refuse(event, "too_many_values", f"{text} split it by a dimension.")
        return None

    def add(self, event: UsageEvent, measures: Sequence[Measure], digest: int, *, late: bool) -> None:
        """Count an event."""
        for found in measures:
            place = _place(event, found)
            total = self._totals.get(place)
            if total is None:
                total = self._new(place, found.meter.aggregation)
            total.add(found, event)
            total.late += late
            total.digest = (total.digest + digest) % DIGESTS
            self._changed.add(place)
            self._unsaved.add(place)

    def _new(self, place: TotalKey, kind: Aggregation) -> Total:
        total = self._totals[place] = Total(kind)
        self._periods.add(period_of(place[3]))
        if self._places is not None:
            self._places.setdefault(place[:2], []).append(place)
        return total

    def held(self, place: TotalKey, kind: Aggregation) -> Total:
        """The total at a place; it may be kept as long as `moved` is the same. It is put down as changed."""
        total = self._totals.get(place)
        if total is None:
            total = self._new(place, kind)
        self._changed.add(place)
        self._unsaved.add(place)
        return total

    def put(self, event: UsageEvent, found: Measure, total: Total) -> None:
        """Put a corrected total in place of the one that a measure belongs to."""
        self.settle()
        self._totals[_place(event, found)] = total
        self.moved += 1
        self._changed.add(_place(event, found))
        self._unsaved.add(_place(event, found))

    def used(self, customers: Iterable[str], meter: str, first: int, last: int) -> list[HourUsed]:
        """What customers used of a meter from one second until another, in rising order of the hours."""
        self.settle()
        if self._places is None:
            self._places = {}
            for place in self._totals:
                self._places.setdefault(place[:2], []).append(place)
        found = [p for c in customers for p in self._places.get((c, meter), ()) if first <= p[3] < last]
        totals = ((p, self._totals[p]) for p in sorted(found, key=lambda p: (p[3], p)))
        return [HourUsed(p[3], p[0], t.quantity, t.events, p[2]) for p, t in totals]

    def take_records(self, topic: str, stamp: str, key_of: Callable[[TotalKey], bytes]) -> list[Output]:
        """The records of what has changed since the last call."""
        self.settle()
        changed, self._changed = sorted(self._changed), set()
        self.moved += 1
        return [
            Output(topic, key_of(place), encode(record_of(self._totals[place], *place, stamp)))
            for place in changed
        ]

    def take_entries(self, upto: int) -> list[Entry]:
        """The entries of what has changed since the last call."""
        self.settle()
        changed, self._unsaved = sorted(self._unsaved), set()
        self.moved += 1
        return [Entry(place_key(place), self._totals[place].saved(), upto) for place in changed]

    def forget(self, is_final: Callable[[str], bool], upto: int) -> list[Entry]:
        """Drop the totals of periods that no event can correct any more."""
        self.settle()
        final = {period for period in self._periods if is_final(period)}
        gone = sorted(place for place in self._totals if period_of(place[3]) in final) if final else []
        for place in gone:
            del self._totals[place]
        self.moved += 1
        self._periods -= final
        self._places = None if gone else self._places
        return [Entry(place_key(place), None, upto) for place in gone]

    def restore(self, raw: bytes, value: bytes) -> None:
        """Take back a saved total."""
        customer, meter, hour, *rest = msgspec.json.decode(raw)
        place = (customer, meter, tuple(zip(rest[::2], rest[1::2], strict=True)), hour)
        self._totals[place] = Total.restored(value)
        self._periods.add(period_of(hour))


def _place(event: UsageEvent, found: Measure) -> TotalKey:
    return event.customer, found.meter.id, found.dimensions, hour_of(event.at)


def place_key(place: TotalKey, *more: int) -> bytes:
    """The key of a total, on its topic and in the journal; `more` keeps records of one total apart."""
    customer, meter, dimensions, hour = place
    return key(customer, meter, hour, *(part for pair in dimensions for part in pair), *more)
