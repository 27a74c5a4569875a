"""What was metered before a limit existed: so that a new limit begins with the truth."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from metering.quota.limits import ONE, Limit
from metering.quota.spend import cost
from metering.quota.windows import HOUR_MS, Bounds
from metering.rating.cards import Price
from metering.rating.charge import charge
from metering.state.calendar import hour_of, period, period_of

KEPT_PERIODS = 4  # billing periods: usage more than 35 days old is refused


class HourUsed(NamedTuple):
    """What one customer used of a meter in one hour (epoch s), micro-units and events."""

    hour: int
    customer: str
    quantity: int
    requests: int
    dimensions: tuple[tuple[str, str], ...] = ()


# The hours of an account's meter from one second until another, in rising order; those that the meter
# fold has added up at this moment of its log, the event in hand not included.
History = Callable[[str, str, int, int], Sequence[HourUsed]]
# The price of a meter for a customer at a second; None where it costs nothing or has no price.
Pricing = Callable[[str, str, int], Price | None]


def nothing(_account: str, _meter: str, _starts: int, _ends: int) -> Sequence[HourUsed]:
    """The history of a partition whose log begins now."""
    return ()


class Spend:
    """The quantity of a meter that an account has used in each billing period: where F stands."""

    def __init__(self, account: str, meter: str, history: History, pricing: Pricing) -> None:
        self.account = account
        self.meter = meter
        self.since = 0  # usage before this append time (epoch ms) is in the history alone
        self.used: dict[str, int] = {}
        self._history = history
        self._pricing = pricing
        self._last: tuple[Price | None, int, int] = (None, 0, 0)

    def price(self, customer: str, at: int) -> Price | None:
        """The price in force at an instant (epoch ms)."""
        return self._pricing(customer, self.meter, hour_of(at))

    def at(self, at: int) -> int:
        """The quantity of the billing period that holds an instant."""
        name = period_of(hour_of(at))
        held = self.used.get(name)
        if held is None:
            held = self.used[name] = self._before(name)
        return held

    def add(self, customer: str, at: int, quantity: int) -> int:
        """Count usage; what it costs: F(after) - F(before), less than nothing where a price falls."""
        name = period_of(hour_of(at))
        before = self.at(at)
        after = self.used[name] = before + quantity
        if len(self.used) > KEPT_PERIODS:
            del self.used[min(self.used)]
        price = self.price(customer, at)
        if price is None:
            return 0
        known = self._last
        start = known[2] if known[0] is price and known[1] == before else charge(price, before)
        end = charge(price, after)
        self._last = (price, after, end)  # usage comes one after the other: half of the work is known
        return end - start

    def _before(self, name: str) -> int:
        bounds = period(name)
        if self.since <= bounds.starts * 1_000:
            return 0
        return sum(
            used.quantity for used in self._history(self.account, self.meter, bounds.starts, bounds.ends)
        )


def before(
    account: str, limit: Limit, scope: str, spend: Spend | None, history: History, bounds: Bounds, clock: int
) -> list[HourUsed]:
    """What a window came to before the limit existed, by hour, in what the limit counts.

    An hour at the edge of the window counts whole.
    """
    start = bounds.start
    if limit.window.kind == "rolling":
        start = max(0, limit.window.first_bucket(clock) * limit.window.bucket_ms)
    first, last = hour_of(start), min(bounds.end, clock + HOUR_MS) // 1_000
    if spend is not None:
        return _costs(spend, history, scope if not limit.shared else "", first, last)
    return [
        used._replace(quantity=used.requests * ONE if limit.counts == "requests" else used.quantity)
        for used in history(account, limit.meter, first, last)
        if (limit.shared or used.customer == scope) and limit.covers(used.dimensions)
    ]


def _costs(spend: Spend, history: History, scope: str, first: int, last: int) -> list[HourUsed]:
    """Each hour's cost, from the beginning of its billing period on: where F stands depends on it."""
    found, used_by_period = [], dict[str, int]()
    starts = period(period_of(first)).starts
    for used in history(spend.account, spend.meter, starts, last):
        name = period_of(used.hour)
        stood = used_by_period.get(name, 0)
        used_by_period[name] = stood + used.quantity
        price = spend.price(used.customer, used.hour * 1_000)
        if price is not None and used.hour >= first and scope in ("", used.customer):
            found.append(used._replace(quantity=cost(price, stood, used.quantity)))
    return found
