"""Late usage of closed periods: one adjustment a price, in the next open period, at the old terms.

Or, approved by name, a restatement: the closed period is charged again, at its old terms too.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from metering.catalog.resolved import Catalog
from metering.rating.adjust import Posted
from metering.rating.cards import Origin
from metering.rating.period import Rated, rate_period
from metering.rating.rows import ChargeRow
from metering.rating.terms import Terms
from metering.state import calendar
from metering.state.calendar import period_of
from metering.state.fold import Output
from metering.state.postings import Slot
from metering.state.rate_state import RateState
from metering.state.settle import ADJUSTS, Settling, Touched, unknown_customer


class Corrected(NamedTuple):
    """What was posted; open periods that hold adjustments; accounts whose open windows moved."""

    outputs: list[Output]
    periods: set[str]
    accounts: set[str]


class Restated(NamedTuple):
    """What was posted for a closed period, the customers whose rows moved, and the period as rated."""

    outputs: list[Output]
    customers: list[str]
    rated: Rated


class Corrections:
    """The closed periods that late usage has touched since the last checkpoint."""

    def __init__(self, state: RateState, settling: Settling, is_closed: Callable[[str], bool]) -> None:
        self._state = state
        self._settling = settling
        self._is_closed = is_closed
        self._late: set[tuple[str, str]] = set()  # account, closed period

    def note(self, account: str, period: str) -> None:
        """Remember that late usage arrived."""
        self._late.add((account, period))

    def settle(self, catalog: Catalog, stamp: str) -> Corrected:
        """Rate what is late again and post the differences; earlier periods first."""
        found = Corrected([], set(), set())
        waiting = sorted(self._late, key=lambda place: place[1], reverse=True)
        self._late = set()
        while waiting:
            account, period = waiting.pop()
            following = self._next_open(period)
            members, rated = self.rate(account, period, catalog)
            if not members:
                found.outputs.extend(self._unknown(account, period, following, stamp))
                found.periods.add(following)
                continue
            found.outputs.extend(self._settling.adjustments(members, period, following, rated.rows, stamp))
            found.outputs.extend(self._settling.late_errors(rated.unpriced, period, following, stamp))
            found.periods.add(following)
            if rated.carries:
                waiting += self._carry_on(account, period, rated, found)
        return found

    def rate(self, account: str, period: str, catalog: Catalog) -> tuple[Mapping[str, Terms], Rated]:
        """A closed period as it comes to now, at the terms of its close; nothing without members."""
        members = self._state.books.members(account, period, catalog)
        if not members:
            return members, Rated([], [], {}, 0)
        uses = [use for customer in members for use in self._state.uses(Slot(customer, period))]
        carried = self._state.books.carried(account, period)
        return members, rate_period(members, uses, calendar.period(period), carried=carried, closing=True)

    def restate(self, account: str, period: str, catalog: Catalog, touched: Touched) -> Restated:
        """Charge a closed period again; what stands elsewhere for it is settled with the rest."""
        members, rated = self.rate(account, period, catalog)
        outputs: list[Output] = []
        changed: list[str] = []
        for customer in sorted(members):
            slot = Slot(customer, period)
            rows = [row for row in rated.rows if row.customer == customer]
            missing = [error for error in rated.unpriced if error.customer == customer]
            before = self._state.sums(slot)
            made = self._settling.errors(slot, missing, 0, touched.stamp)
            made += self._settling.rows(slot, rows, 0, touched)
            if made:
                changed.append(customer)
            self._post_moved(slot, before, rows)
            outputs += made
        if rated.rows:
            self._state.books.keep_terms(catalog, account, period)
        self.note(account, period)
        return Restated(outputs, changed, rated)

    def _post_moved(self, slot: Slot, before: Mapping[str, tuple[int, int]], rows: list[ChargeRow]) -> None:
        """Move what was posted for each price by as much as its rows moved."""
        after, samples = self._state.sums(slot), {row.price: row for row in rows}
        for price in sorted(before.keys() | after.keys()):
            (amount, quantity), was = after.get(price, (0, 0)), before.get(price, (0, 0))
            if (amount, quantity) != was:
                moved = (amount - was[0], quantity - was[1])
                self._state.books.move(*slot, price, *moved, samples.get(price))

    def _unknown(self, account: str, period: str, following: str, stamp: str) -> list[Output]:
        missing = [unknown_customer(use) for use in self._state.uses(Slot(account, period))]
        return self._settling.late_errors(missing, period, following, stamp)

    def _carry_on(self, account: str, period: str, rated: Rated, found: Corrected) -> list[tuple[str, str]]:
        """Let windows of the contract go on from a corrected period; the next closed one, if any."""
        following = period_of(calendar.period(period).ends)
        if self._is_closed(following):
            self._state.books.begin(account, following, rated.carries)
            return [(account, following)]
        self._state.set_carries(account, rated.carries)
        found.accounts.add(account)
        return []

    def _next_open(self, period: str) -> str:
        following = period
        while self._is_closed(following):
            following = period_of(calendar.period(following).ends)
        return following

    def post(self, slot: Slot) -> None:
        """Adjustments of a period that closes belong to what was posted for the one they correct."""
        for (name, _), row in self._state.rows(slot).items():
            price, at, corrected = name.rpartition(ADJUSTS)
            if at:
                meter, model, card, version = row.what
                origin = Origin(card, version, row.currency)
                what = Posted(row.amount, row.quantity, "adjustment", meter, model, origin)
                self._state.books.post(slot.customer, corrected, price, what)
