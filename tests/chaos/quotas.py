"""Quotas under chaos: limits near what is used, the thresholds that must fire, and those that fired."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from metering.catalog.resolved import Catalog
from metering.quota.wire import LimitFact, QuotaEvent, decode_event
from metering.settings import Settings
from metering.state.calendar import period, period_end, period_of
from metering.topics import Names
from tests.chaos.catalog import CUSTOMERS, FIRST, SECOND, customer, weight
from tests.chaos.lines import Line, differing
from tests.chaos.model import MICRO, Model
from tests.topics import records

RAISED, RISES = customer(2), "rises"  # its limit is small, and raised when all of it is used
_SMALL, _RAISED_TO = 10, 130  # percent of what it is expected to use
_SHARES = (60, 105, 150, 400)  # as much of the expected usage is the limit: all, two, one, no threshold
_KINDS = ("hard", "soft", "monitor")
_BYTES_OF_AN_EVENT = 50
_THRESHOLDS = (50, 80, 100)
_KEPT_MS = 35 * 86_400_000  # a month of event time is kept so long behind its end


class Limit(NamedTuple):
    """A limit of a month: requests, or the bytes of one region; whole units."""

    customer: str
    id: str
    amount: int
    kind: str = "hard"
    region: str = ""

    @property
    def text(self) -> dict[str, Any]:
        """The limit as the catalog writes it."""
        counts = {"meter": "bytes", "units": self.amount, "where": {"region": [self.region]}}
        if not self.region:
            counts = {"meter": "calls", "requests": self.amount}
        return {"id": self.id, "window": "month", "kind": self.kind, **counts}


def limits(events: int) -> list[Limit]:
    """The limits of about half of the customers, beside what each is expected to use in a month."""
    found = [Limit(RAISED, RISES, _share(events, 2, _SMALL))]
    for n in range(CUSTOMERS):
        kind, share = _KINDS[n % 3], _SHARES[n // 2 % 4]
        if n % 2 == 0:
            found.append(Limit(customer(n), "calls", _share(events, n, share), kind))
        if n % 3 == 0:
            amount = _share(events, n, share) * _BYTES_OF_AN_EVENT // 3
            found.append(Limit(customer(n), "bytes-eu", amount, kind, "eu"))
    return found


def _share(events: int, number: int, percent: int) -> int:
    everybody = sum(map(weight, range(CUSTOMERS)))
    return max(10, round(events / 2 * weight(number) / everybody * percent / 100))


def texts(events: int) -> dict[str, str]:
    """The limits of each customer as the catalog writes them."""
    found: dict[str, list[Any]] = {}
    for limit in limits(events):
        found.setdefault(limit.customer, []).append(limit.text)
    return {name: json.dumps(texts) for name, texts in found.items()}


# -- what must fire -------------------------------------------------------------------------------


def wanted(events: int, catalog: Catalog, model: Model, now_ms: int) -> set[str]:
    """The ids of all thresholds that are reached, by version of the limit and month.

    Nothing is taken back under chaos, so what was used in the end was reached on the way. The small
    limit is raised when its last threshold was announced, so it fires all of them, and the raised one
    what is reached of it.
    """
    found = set()
    for limit in [*limits(events), raised(events)]:
        version = _version(catalog, limit)
        for month in (FIRST, SECOND):
            if period_end(month) + _KEPT_MS <= now_ms:
                continue  # so long over that its usage is billed and counts in no window
            used = _used(model, limit, month)
            start = period(month).starts * 1_000
            found |= {
                threshold_id(limit.customer, limit.id, version, start, percent)
                for percent in _THRESHOLDS
                if used and used * 100 >= limit.amount * MICRO * percent
            }
    return found


def threshold_id(name: str, limit: str, version: str, start: int, percent: int) -> str:
    """What a threshold is known by; the account of a customer without a pool is the customer."""
    return json.dumps(["threshold", name, name, limit, version, start, percent], separators=(",", ":"))


def _version(catalog: Catalog, limit: Limit) -> str:
    (found,) = [one for one in catalog.timeline(limit.customer).at(period_end(SECOND)) if one.id == limit.id]
    return found.with_amount(limit.amount * MICRO).version


def _used(model: Model, limit: Limit, month: str) -> int:
    """What the accepted events of a month come to, in micro-units of what the limit counts."""
    total = 0
    for place, thousandths in model.quantities.items():
        name, meter, dimensions, hour = place
        if name != limit.customer or period_of(hour) != month:
            continue
        if limit.region and meter == "bytes" and dict(dimensions)["region"] == limit.region:
            total += thousandths * 1_000
        elif not limit.region and meter == "calls":
            total += model.events[place] * MICRO
    return total


# -- what fired -----------------------------------------------------------------------------------


def compared(must: set[str], told: Iterable[str], stored: Iterable[str]) -> list[Line]:
    """The thresholds that must fire beside the ids on the topic and in ClickHouse.

    At least once is what the topic promises, so an id may stand there again; of a table each is one row.
    """
    once = dict.fromkeys(must, 1)
    return [
        differing("thresholds announced", once, dict.fromkeys(told, 1)),
        differing("thresholds in ClickHouse", once, Counter(stored)),
    ]


async def thresholds(settings: Settings) -> list[QuotaEvent]:
    """The thresholds on `quota.events`, repeated ones as well."""
    found = await records(settings, Names(settings).quota_events)
    events = [decode_event(record.value) for record in found if record.value]
    return [event for event in events if event.event == "threshold"]


# -- the raised limit -----------------------------------------------------------------------------


def raised(events: int) -> Limit:
    """The limit that somebody raises while workers die."""
    return Limit(RAISED, RISES, _share(events, 2, _RAISED_TO))


def raising(events: int) -> LimitFact:
    """What somebody sets."""
    amount = raised(events).amount * MICRO
    return LimitFact(RAISED, RISES, str(amount), actor="chaos", reason="all of it is used")


def is_used_up(told: Iterable[QuotaEvent]) -> bool:
    """Whether the last threshold of the small limit was announced."""
    return any(one.scope == RAISED and one.limit == RISES and one.percent == 100 for one in told)
