"""Which metered hours have to be planned, without reading all of them every round.

A round reads what is over since the last one and the hours just before it, which may still have been on
their way; and beside that every hour of the next customers, so that a late correction of any hour is
found when their turn comes round. A period that closes plans its own hours anyway. How far both have
come is in the ledger: a restart goes on there.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from billing_sync.book_hours import HourTotal
from billing_sync.books import BookSource
from billing_sync.config import BillingConfig
from billing_sync.ledger import Ledger

HOUR, DAY = 3_600, 86_400
LOOK_BACK_SECONDS = 100 * DAY  # of open periods; the hours of closed ones are planned with their period
AGAIN_SECONDS = 6 * HOUR  # a watermark may be stored before the charges below it are
AT_ONCE = 200  # customers that are read together, and whose every hour a round looks at
UNTIL, SEEN = "hours planned until", "hours looked at up to"

News = list[tuple[HourTotal, bool]]  # hours, and whether the ledger holds another total of them


def plan_hours(books: BookSource, ledger: Ledger, config: BillingConfig, now: int) -> dict[str, HourTotal]:
    """Write every changed hour's total into the ledger; a customer's newest hour, by customer."""
    until, people = books.hours_until(), dict[str, HourTotal]()
    seen = next_customers(books, ledger, config, now)
    for found in wanted_hours(books, ledger, config, now, seen):
        with ledger.transaction():
            for total, is_news in found:
                people[total.customer] = total
                if is_news:
                    ledger.want_hour(total.customer, total.price, total.hour, total.quantity)
    with ledger.transaction():  # last: a process that dies before reads the same again
        ledger.set_mark(UNTIL, str(until))
        ledger.set_mark(SEEN, seen[-1] if len(seen) == AT_ONCE else "")
    return people


def wanted_hours(
    books: BookSource, ledger: Ledger, config: BillingConfig, now: int, seen: Sequence[str]
) -> Iterator[News]:
    """What a round looks at, some customers at a time: every hour of `seen`, the latest of the others."""
    prices = _prices(config)
    yield _news(books, ledger, config, seen, now - LOOK_BACK_SECONDS)
    until = int(ledger.mark(UNTIL) or 0)
    since = max(until - AGAIN_SECONDS, now - LOOK_BACK_SECONDS)
    after, is_more = "", True
    while is_more:
        some = books.metered_customers(prices, since, after, AT_ONCE)
        yield _news(books, ledger, config, [c for c in some if c not in set(seen)], since)
        is_more = len(some) == AT_ONCE
        after = some[-1] if some else ""


def next_customers(books: BookSource, ledger: Ledger, config: BillingConfig, now: int) -> list[str]:
    """The customers whose turn it is to have every hour looked at."""
    since = now - LOOK_BACK_SECONDS
    return books.metered_customers(_prices(config), since, ledger.mark(SEEN), AT_ONCE)


def _prices(config: BillingConfig) -> set[str]:
    return {rule.price for rule in config.meter_events}


def _news(
    books: BookSource, ledger: Ledger, config: BillingConfig, customers: Sequence[str], since: int
) -> News:
    rules = {c: found for c in customers if (found := config.rules_for(c))}
    if not rules:
        return []
    held = {(h.customer, h.meter, h.hour): Decimal(h.quantity) for h in ledger.hours_of(list(rules), since)}
    return [
        (total, held.get((total.customer, total.price, total.hour), Decimal(0)) != total.quantity)
        for total in books.closed_hours(_prices(config), since, list(rules))
        if total.price in rules[total.customer]
    ]
