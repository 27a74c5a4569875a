"""More partitions: a state that was divided counts and charges as one that never was."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.records import Charge, HourlyTotal, decode, encode
from metering.state.amending import AMENDED
from metering.state.fold import Changes, Entry, Saved
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import Counters, MeterRules
from metering.state.partitioning import partition_of
from metering.state.rate_fold import RateFold, RateRules
from metering.state.split import children, meter_child, meter_customer, rate_child, rate_customer
from tests.state.folding import CATALOG, HOUR, NOW, catalog, chunk, event, tick

CUSTOMERS = [f"c{n}" for n in range(9)]
TEXT = CATALOG + "".join(
    f"  - {{id: {c}, name: {c}, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}}\n" for c in CUSTOMERS
)
BOOK = catalog(TEXT)
MONTH = 30 * 24


@dataclass
class Copy:
    """What a journal would hold of one partition."""

    saved: Saved = field(default_factory=lambda: Saved(0, b"", (), ()))
    entries: dict[bytes, Entry] = field(default_factory=dict)

    def take(self, changes: Changes | None) -> None:
        if changes is None:
            return
        for entry in changes.entries:
            if entry.value is None:
                self.entries.pop(entry.key, None)
            else:
                self.entries[entry.key] = entry
        segments = [*self.saved.segments, *changes.segments]
        self.saved = Saved(changes.offset, changes.header, list(self.entries.values()), segments)


class Deployment:
    """Both folds of each partition; what they publish is kept as a sink keeps it."""

    def __init__(self, partitions: int) -> None:
        self.partitions, self.epoch = partitions, 1
        self.totals: dict[tuple[object, ...], HourlyTotal] = {}
        self.charges: dict[tuple[object, ...], Charge] = {}
        self._begin({}, {})

    def _begin(self, meters: dict[int, Saved], rates: dict[int, Saved]) -> None:
        self.meters, self.rates = {}, {}
        self.copies: dict[tuple[str, int], Copy] = defaultdict(Copy)
        for p in range(self.partitions):
            self.meters[p] = MeterFold(MeterRules(p, self.partitions, "e", "h", "r", epoch=self.epoch))
            self.rates[p] = RateFold(RateRules(p, self.partitions, "c", epoch=self.epoch))
            for kind, fold, found in (("m", self.meters[p], meters), ("r", self.rates[p], rates)):
                if p in found:
                    fold.restore(found[p])
                    self.copies[kind, p] = Copy(found[p], {e.key: e for e in found[p].entries})

    def feed(self, values: Iterable[tuple[str, bytes]], appended: int = NOW) -> None:
        for customer, value in values:
            self._fold(partition_of(customer, self.partitions), value, appended)

    def pass_time(self, to: int) -> None:
        for p in range(self.partitions):
            self._fold(p, tick(), to)

    def _fold(self, p: int, value: bytes, appended: int) -> None:
        meter = self.meters[p]
        meter.fold([chunk(meter.offset or 0, [value], appended)], BOOK)
        changes = meter.changes()
        self.copies["m", p].take(changes)
        totals = [o.value for o in changes.outputs if o.topic == "h"] if changes else []
        if totals:
            self.fold_totals(p, totals, appended)

    def fold_totals(self, p: int, totals: list[bytes], appended: int) -> None:
        rate = self.rates[p]
        rate.fold([chunk(rate.offset or 0, totals, appended)], BOOK)
        rated = rate.changes()
        self.copies["r", p].take(rated)
        self._keep([*totals, *(o.value for o in rated.outputs)] if rated else totals)

    def _keep(self, values: list[bytes]) -> None:
        for record in map(decode, values):
            if isinstance(record, HourlyTotal):
                place = (record.customer, record.meter, record.hour)
                if place not in self.totals or int(self.totals[place].version) <= int(record.version):
                    self.totals[place] = record
            elif isinstance(record, Charge):
                at = (record.customer, record.price, record.period, record.hour)
                if at not in self.charges or int(self.charges[at].version) <= int(record.version):
                    self.charges[at] = record

    def grow(self, partitions: int) -> None:
        meters, rates, before = {}, {}, self.partitions
        for parent in range(before):
            meter, rate = self.copies["m", parent].saved, self.copies["r", parent].saved
            for child in children(parent, before, partitions):
                if meter.header:
                    made = meter_child(meter, BOOK, child, partitions)
                    meters[child] = (
                        made if child != parent else made._replace(offset=meter.offset, header=meter.header)
                    )
                if rate.header:
                    made = rate_child(rate, BOOK, child, partitions)
                    rates[child] = made if child != parent else made._replace(offset=rate.offset)
        self.partitions, self.epoch = partitions, self.epoch + 1
        self._begin(meters, rates)

    def books(self) -> tuple[object, ...]:
        quantities = {place: total.quantity for place, total in self.totals.items()}
        amounts = {place: (c.amount, c.quantity) for place, c in self.charges.items()}
        counters = Counters()
        for fold in self.meters.values():
            for name in ("read", "accepted", "duplicates", "rejected"):  # what is late, a partition decides
                setattr(counters, name, getattr(counters, name) + getattr(fold.counters, name))
        return quantities, amounts, counters


events = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(CUSTOMERS), st.integers(0, 3), st.integers(0, 900)),
    max_size=25,
)


def values(found: list[tuple[int, str, int, int]]) -> list[tuple[str, bytes]]:
    # An id decides customer, hour and size: a second copy is the same event.
    return [(c, event(n, c, hour=h, n=size)) for n, c, h, size in found]


@given(events, events, events, st.sampled_from([2, 3]))
def test_growing_changes_no_total_no_charge_and_no_count(
    before: list[tuple[int, str, int, int]],
    between: list[tuple[int, str, int, int]],
    after: list[tuple[int, str, int, int]],
    factor: int,
) -> None:
    grown, same = Deployment(2), Deployment(2)
    for deployment in (grown, same):
        deployment.feed(values(before))
    grown.grow(2 * factor)
    for deployment in (grown, same):
        deployment.feed(values(between))
    grown.grow(4 * factor)
    for deployment in (grown, same):
        deployment.feed(values(after + before))
    assert grown.books() == same.books()


def test_usage_of_a_period_that_closed_before_the_move_is_adjusted_behind_it() -> None:
    grown, same = Deployment(2), Deployment(2)
    first = values([(n, c, n, 500) for n, c in enumerate(CUSTOMERS)])
    late = values([(100 + n, c, n, 700) for n, c in enumerate(CUSTOMERS)])
    for deployment in (grown, same):
        deployment.feed(first)
        deployment.pass_time(NOW)
        if deployment is grown:
            deployment.grow(4)
        deployment.feed(late)
        deployment.pass_time(NOW + HOUR)
    assert grown.books() == same.books()
    assert any("@" in str(price) for _, price, *_ in grown.charges)


def test_a_late_write_of_a_worker_of_before_the_move_changes_nothing() -> None:
    grown = Deployment(2)
    grown.feed(values([(n, c, 0, 500) for n, c in enumerate(CUSTOMERS)]))
    old = [(partition_of(total.customer, 2), encode(total)) for total in grown.totals.values()]
    grown.grow(4)
    before = grown.books()
    for partition, total in old:
        grown.fold_totals(partition, [total], NOW)
    assert grown.books() == before


def test_every_entry_of_a_state_names_its_customer_or_is_everyones() -> None:
    deployment = Deployment(1)
    deployment.feed(values([(1, "c1", 1, 5)]))
    deployment.pass_time(NOW)
    found = {rate_customer(key) for key in deployment.copies["r", 0].entries}
    assert found == {"c1", None}
    assert {meter_customer(key) for key in deployment.copies["m", 0].entries} == {"c1"}
    assert meter_customer(AMENDED + b"x" * 12) is None


def test_an_entry_of_an_unknown_kind_stops_the_move() -> None:
    with pytest.raises(KeyError):
        rate_customer(b'["new kind", "c1"]')
