"""The naive model: each event a record is said to hold, once; sums, counts and charges of whole months."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from metering.catalog.resolved import Catalog
from metering.rating import charge, load_card
from metering.rating.usage import Dimensions, HourUse, Usage
from metering.rerate import rerate
from metering.state.calendar import hour_of, period, period_of
from tests.chaos.catalog import FIRST, METERS, SECOND

MICRO = 1_000_000

HourKey = tuple[str, str, Dimensions, int]  # customer, meter, dimensions, hour
PriceKey = tuple[str, str, str]  # customer, price, period of the usage


class Fact(NamedTuple):
    """What one copy of an event says; `thousandths` is its value, `is_good` whether it may be counted."""

    customer: str
    source: str
    id: str
    at: int
    region: str
    thousandths: int
    is_good: bool = True
    is_readable: bool = True


@dataclass
class Model:
    """What the books must come to."""

    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    copies: int = 0  # that can be read, so that they are in the archive
    events: Counter[HourKey] = field(default_factory=Counter)
    quantities: dict[HourKey, int] = field(default_factory=dict)  # in thousandths
    _seen: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _archived: set[tuple[str, str, str]] = field(default_factory=set)

    def take(self, fact: Fact) -> None:
        """Count one copy: the first with an id counts, the same again is a duplicate, all else is refused."""
        self.read += 1
        identity = (fact.customer, fact.source, fact.id)
        if fact.is_readable:
            self.copies += 1
            self._archived.add(identity)
        if not fact.is_good:
            self.rejected += 1
            return
        content = hash((fact.at, fact.region, fact.thousandths))
        known = self._seen.setdefault(identity, content)
        if len(self._seen) > self.accepted:
            self.accepted += 1
            self._add(fact)
        elif known == content:
            self.duplicates += 1
        else:
            self.rejected += 1

    @property
    def archived_ids(self) -> int:
        """Distinct events in the archive."""
        return len(self._archived)

    def _add(self, fact: Fact) -> None:
        hour, region = hour_of(fact.at), (("region", fact.region),)
        self._count((fact.customer, "calls", region, hour), 1_000)
        self._count((fact.customer, "bytes", region, hour), fact.thousandths)
        peak = (fact.customer, "peak", (), hour)
        self.events[peak] += 1
        self.quantities[peak] = max(self.quantities.get(peak, 0), fact.thousandths)

    def _count(self, place: HourKey, thousandths: int) -> None:
        self.events[place] += 1
        self.quantities[place] = self.quantities.get(place, 0) + thousandths

    def charges(self, catalog: Catalog) -> dict[PriceKey, int]:
        """Micro-units by customer, price and month of the usage, under the last revision."""
        found: dict[PriceKey, int] = {}
        for name in (FIRST, SECOND):
            rated = rerate(catalog, self._uses(name), period(name))
            assert not rated.unpriced, rated.unpriced[:3]
            found |= {(customer, price, name): micro for (customer, price), micro in rated.amounts.items()}
        return found

    def _uses(self, name: str) -> Iterator[HourUse]:
        for place, thousandths in self.quantities.items():
            customer, meter, dimensions, hour = place
            if period_of(hour) == name:
                kind: Any = METERS[meter]
                usage = Usage(kind, thousandths * 1_000, self.events[place])
                yield HourUse(hour, customer, meter, dimensions, usage)

    def whole_charges(self, prices: dict[str, dict[str, Any]]) -> dict[PriceKey, int]:
        """Charges of the first month once more: one quantity through one price, no hours at all."""
        cards = {price: load_card(card) for price, card in prices.items()}
        whole: Counter[tuple[str, str]] = Counter()
        for (customer, meter, _, hour), thousandths in self.quantities.items():
            if meter in cards and period_of(hour) == FIRST:
                whole[customer, meter] += thousandths
        return {
            (customer, meter, FIRST): int(charge(cards[meter], Decimal(n) / 1_000) * MICRO)
            for (customer, meter), n in whole.items()
        }
