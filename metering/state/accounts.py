"""The accounts of one partition under one catalog: which have fees without usage, which go on."""

from collections.abc import Iterable

from metering.catalog.resolved import Catalog
from metering.rating.terms import Agreement, Terms
from metering.state.partitioning import partition_of


class Accounts:
    """What a rate fold asks of a catalog about all its accounts at once."""

    def __init__(self, catalog: Catalog, partition: int, partitions: int) -> None:
        self.catalog = catalog
        here = [a for a in catalog.accounts() if partition_of(a, partitions) == partition]
        # Customers with the same terms share one agreement: each is looked at once.
        self._recurs: dict[int, bool] = {}
        self._goes_on: dict[int, bool] = {}
        self.recurring = {a for a in here if any(map(self._is_recurring, catalog.members(a).values()))}

    def _is_recurring(self, terms: Terms) -> bool:
        agreement = terms.agreement
        if id(agreement) not in self._recurs:
            self._recurs[id(agreement)] = any(s.flats or s.minimums for s in agreement.spans)
        return self._recurs[id(agreement)]

    def has_contract_scope(self, account: str) -> bool:
        """Whether a price of the account accumulates through periods."""
        agreements: Iterable[Agreement] = (t.agreement for t in self.catalog.members(account).values())
        for agreement in agreements:
            if id(agreement) not in self._goes_on:
                prices = (price for span in agreement.spans for price in span.prices.values())
                self._goes_on[id(agreement)] = any(price.scope == "contract" for price in prices)
            if self._goes_on[id(agreement)]:
                return True
        return False
