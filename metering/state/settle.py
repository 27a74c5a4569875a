"""What was rated against what was published: rows and errors whose content changed are posted.

And every row from the hour of a change on, also when it comes out as it was: another owner may have
published what it was in between.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from metering.rating.adjust import adjustments
from metering.rating.rows import ChargeRow, Unpriced
from metering.rating.usage import HourUse
from metering.state import calendar
from metering.state.fold import Output
from metering.state.postings import (
    Row,
    Slot,
    charge_record,
    post_charge,
    post_error,
    post_void,
    remembered,
)
from metering.state.rate_state import RateState

ADJUSTS = "@"  # in the price of an adjustment, before the period that it corrects


class Touched(NamedTuple):
    """Which record of the log touched the rows of a period last: their place in it is their version.

    So a version does not depend on where checkpoints cut the log. Of two workers at one record the one
    with the newer catalog revision wins, however far either has come.
    """

    make: Callable[[int], str]  # a version of an offset
    offset: int  # where it is settled
    hours: Sequence[int] = ()  # from which something changed, in order
    places: Sequence[int] = ()  # behind the last record that changed one of the hours so far; 0: none did
    has_adopted: bool = False  # a new catalog revision is all that may have changed the others

    @classmethod
    def by(
        cls, make: Callable[[int], str], offset: int, marks: Mapping[int, int], *, has_adopted: bool
    ) -> "Touched":
        """From the hours that records changed, and where these end."""
        hours = sorted(marks)
        return cls(make, offset, hours, [*accumulate((marks[h] for h in hours), max)], has_adopted)

    @property
    def stamp(self) -> str:
        """The version of what is settled here."""
        return self.make(self.offset)

    def stamp_at(self, offset: int) -> str:
        """The version of what was touched there last."""
        return self.make(offset)

    def at(self, hour: int) -> int:
        """Behind the last record that touched an hour; 0 for none."""
        before = bisect_right(self.hours, hour)
        return self.places[before - 1] if before else 0

    def place(self, hour: int, held: Row | None) -> int:
        """The place of a row that was `held` until now."""
        at = self.at(hour)
        if at:
            return at
        is_kept = self.has_adopted and held is not None and held.touched
        return held.touched if held is not None and is_kept else self.offset


class Settling:
    """Posts what differs from a state's rows and errors, and remembers it there."""

    def __init__(self, state: RateState, topic: str) -> None:
        self.state = state
        self.topic = topic

    def rows(self, slot: Slot, rows: Iterable[ChargeRow], since: int, touched: Touched) -> list[Output]:
        """Post the rows of a slot that changed or were touched.

        Those from `since` on that are gone are voided.
        """
        topic, outputs = self.topic, []
        known = self.state.rows(slot)
        gone = {place for place in known if place[1] >= since and ADJUSTS not in place[0]}
        for row in rows:
            place = (row.price, row.hour)
            gone.discard(place)
            record = charge_record(row, slot.period)
            held, remember = self.state.row(slot, place), remembered(record, row.amount, row.quantity)
            at = touched.at(row.hour)
            if at or held is None or held._replace(touched=remember.touched) != remember:
                remember = remember._replace(touched=touched.place(row.hour, held))
                self.state.set_row(slot, place, remember)
                outputs.append(post_charge(topic, record, touched.stamp_at(remember.touched)))
        for price, hour in sorted(gone):
            stamp = touched.stamp_at(touched.place(hour, known[price, hour]))
            self.state.drop_row(slot, (price, hour))
            outputs.append(post_void(topic, slot, price, hour, stamp))
        return outputs

    def errors(self, slot: Slot, found: list[Unpriced], since: int, stamp: str) -> list[Output]:
        """Post errors that are new; withdraw those from `since` on that are gone."""
        topic, outputs = self.topic, []
        known = self.state.errors(slot)
        gone = {place for place in known if place[1] >= since and ADJUSTS not in place[0]}
        for missing in _by_place(found):
            gone.discard((missing.meter, missing.hour))
            outputs += self._error(slot, missing, stamp)
        for meter, hour in sorted(gone):
            self.state.drop_error(slot, (meter, hour))
            outputs.append(post_error(topic, slot, Unpriced(slot.customer, meter, hour, 0, "", ""), stamp))
        return outputs

    def _error(self, slot: Slot, missing: Unpriced, stamp: str) -> list[Output]:
        place = (missing.meter, missing.hour)
        content = f"{missing.reason} {missing.quantity} {missing.detail}"
        if self.state.errors(slot).get(place) == content:
            return []
        self.state.set_error(slot, place, content)
        return [post_error(self.topic, slot, missing, stamp)]

    def late_errors(self, found: list[Unpriced], period: str, following: str, stamp: str) -> list[Output]:
        """Post what has no price in a closed period into the open one: it blocks the next bill."""
        named = [missing._replace(meter=missing.meter + ADJUSTS + period) for missing in found]
        return [
            output
            for missing in _by_place(named)
            for output in self._error(Slot(missing.customer, following), missing, stamp)
        ]

    def adjustments(
        self, customers: Iterable[str], period: str, following: str, rows: list[ChargeRow], stamp: str
    ) -> list[Output]:
        """Post what corrects a closed period, into the open one that follows.

        Also what comes out as it was, and that a price needs no correction: another owner may have
        published one in between.
        """
        posted = self.state.books.posted(customers, period)
        starts, outputs = calendar.period(following).starts, []
        gone = {(Slot(c, following), (price + ADJUSTS + period, starts)) for c, price in posted} | {
            (Slot(customer, following), place)
            for customer in customers
            for place in self.state.rows(Slot(customer, following))
            if place[0].endswith(ADJUSTS + period)
        }
        for made in adjustments(rows, posted, period, starts):
            slot, place = Slot(made.row.customer, following), (made.row.price, made.row.hour)
            gone.discard((slot, place))
            record = charge_record(made.row, following, made.corrects)
            self.state.set_row(slot, place, remembered(record, made.row.amount, made.row.quantity))
            outputs.append(post_charge(self.topic, record, stamp))
        for slot, place in sorted(gone):
            if self.state.row(slot, place) is not None:
                self.state.drop_row(slot, place)
            outputs.append(post_void(self.topic, slot, *place, stamp))
        return outputs


def _by_place(found: Iterable[Unpriced]) -> list[Unpriced]:
    """One error for each customer, meter and hour; several dimensions add up."""
    places: dict[tuple[str, str, int], Unpriced] = {}
    for missing in found:
        place = (missing.customer, missing.meter, missing.hour)
        held = places.get(place)
        places[place] = missing if held is None else held._replace(quantity=held.quantity + missing.quantity)
    return [places[place] for place in sorted(places)]


def unknown_customer(use: HourUse) -> Unpriced:
    """Usage of a customer that the catalog does not know any more."""
    detail = f"Customer `{use.customer}` is no longer in the catalog; put it back."
    return Unpriced(use.customer, use.meter, use.hour, use.usage.quantity, "unknown_customer", detail)
