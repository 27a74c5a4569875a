"""A partition's state divided among the partitions that its customers move to.

A topic grows to a multiple of its partitions, so each customer's new partition is the old one or one of
the old one's children: `murmur2 % 8` tells `murmur2 % 4`. What is kept by customer goes where the
customer goes. What cannot be told apart goes to all: ids (a fingerprint does not name its customer; one
too many does no harm, because it never comes), amendments, events that wait, closed periods and the terms
of then.
"""

from collections.abc import Callable, Iterable

import msgspec

from metering.catalog.resolved import Catalog
from metering.state.amending import AMENDED
from metering.state.fold import Entry, Saved
from metering.state.late import HELD
from metering.state.meter_rules import header_of_child
from metering.state.partitioning import partition_of
from metering.state.quota_part import account_of_entry
from metering.state.rate_state import CUSTOMER_AT

Customer = Callable[[bytes], str | None]  # whose entry it is, by its key; None: everyone's


def children(parent: int, before: int, after: int) -> list[int]:
    """The partitions that a partition's customers move to; itself is the first."""
    return list(range(parent, after, before))


def meter_customer(key: bytes) -> str | None:
    """Whose entry of a meter fold it is."""
    if key.startswith((AMENDED, HELD)):
        return None
    account = account_of_entry(key)
    if account is not None:
        return account  # a pool has no customer's id, and is its own account
    customer: str = msgspec.json.decode(key)[0]
    return customer


def rate_customer(key: bytes) -> str | None:
    """Whose entry of a rate fold it is; a kind that is not known here raises KeyError."""
    kind, *place = msgspec.json.decode(key)
    at = CUSTOMER_AT[kind]
    return None if at is None else place[at]


def moved(
    entries: Iterable[Entry], customer_of: Customer, catalog: Catalog, to: int, count: int
) -> list[Entry]:
    """The entries that partition `to` of `count` takes over."""
    found = []
    for entry in entries:
        customer = customer_of(entry.key)
        if customer is None or partition_of(catalog.account_of(customer), count) == to:
            found.append(entry)
    return found


def meter_child(saved: Saved, catalog: Catalog, to: int, count: int) -> Saved:
    """The state of a new partition's meter fold, before its first record.

    The counters stay with the parent: they say what was read there.
    """
    entries = moved(saved.entries, meter_customer, catalog, to, count)
    return Saved(0, header_of_child(saved.header), entries, saved.segments)


def rate_child(saved: Saved, catalog: Catalog, to: int, count: int) -> Saved:
    """The state of a new partition's rate fold, before its first record."""
    return Saved(0, saved.header, moved(saved.entries, rate_customer, catalog, to, count), ())
