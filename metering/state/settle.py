"""What was rated against what was published: only rows and errors whose content changed are posted."""

from collections.abc import Iterable

from metering.rating.adjust import adjustments
from metering.rating.rows import ChargeRow, Unpriced
from metering.rating.usage import HourUse
from metering.state import calendar
from metering.state.fold import Output
from metering.state.postings import (
    Slot,
    charge_record,
    post_charge,
    post_error,
    post_void,
    remembered,
)
from metering.state.rate_state import RateState

ADJUSTS = "@"  # in the price of an adjustment, before the period that it corrects


class Settling:
    """Posts what differs from a state's rows and errors, and remembers it there."""

    def __init__(self, state: RateState, topic: str) -> None:
        self.state = state
        self.topic = topic

    def rows(self, slot: Slot, rows: Iterable[ChargeRow], since: int, stamp: str) -> list[Output]:
        """Post the rows of a slot that changed; void those from `since` on that are gone."""
        topic, outputs = self.topic, []
        known = self.state.rows(slot)
        gone = {place for place in known if place[1] >= since and ADJUSTS not in place[0]}
        for row in rows:
            place = (row.price, row.hour)
            gone.discard(place)
            record = charge_record(row, slot.period)
            remember = remembered(record, row.amount, row.quantity)
            if self.state.row(slot, place) != remember:
                self.state.set_row(slot, place, remember)
                outputs.append(post_charge(topic, record, stamp))
        for price, hour in sorted(gone):
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
        """Post what corrects a closed period, into the open one that follows."""
        posted = self.state.books.posted(customers, period)
        outputs = []
        gone = {
            (Slot(customer, following), place)
            for customer in customers
            for place in self.state.rows(Slot(customer, following))
            if place[0].endswith(ADJUSTS + period)
        }
        for made in adjustments(rows, posted, period, calendar.period(following).starts):
            slot, place = Slot(made.row.customer, following), (made.row.price, made.row.hour)
            gone.discard((slot, place))
            record = charge_record(made.row, following, made.corrects)
            remember = remembered(record, made.row.amount, made.row.quantity)
            if self.state.row(slot, place) != remember:
                self.state.set_row(slot, place, remember)
                outputs.append(post_charge(self.topic, record, stamp))
        for slot, place in sorted(gone):
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
