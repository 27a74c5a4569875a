"""One limit of one customer or pool: it counts by window, and says what it still admits.

The admission rule: posted + reserved + cost ≤ ceiling; what costs nothing is always admitted. A state
is a function of the events, requests, catalog revisions and append times so far, one by one.
"""

from collections.abc import Callable
from itertools import pairwise

from metering.quota.counter import Counter
from metering.quota.desk import Desk, Due
from metering.quota.history import HourUsed, Spend
from metering.quota.judge import Judge
from metering.quota.limits import ONE, Limit
from metering.quota.spend import affordable
from metering.quota.windows import FOREVER, HOUR_MS, Bounds

Filled = Callable[["Quota", Bounds], list[HourUsed]]


class Quota(Judge):
    """A limit in force. `since` is the append time from which it counts by itself (epoch ms)."""

    def __init__(
        self,
        desk: Desk,
        account: str,
        scope: str,
        limit: Limit,
        filled: Filled,
        *,
        spend: Spend | None = None,
        payer: str = "",
    ) -> None:
        super().__init__(desk, account, scope, limit, spend=spend, payer=payer)
        self._latest: Counter | None = None
        self._filled = filled

    # -- counting ---------------------------------------------------------------------------------

    def post(
        self, at: int, quantity: int, requests: int, spent: int, covered: tuple[int, int] = (0, 0)
    ) -> None:
        """Count usage of an instant and what it cost; less than nothing for what was taken back.

        `covered` are the units and requests of it that a lease held.
        """
        counter = self._latest
        if counter is None or not counter.bounds.start <= at < counter.bounds.end:
            found = self.counter_at(at)
            if found is None:
                return  # so late that its window is forgotten
            self._latest = counter = found
        desk = self.desk
        counter.sequence = desk.sequence
        desk.changed[counter.entry] = counter
        if self.limit.counts == "requests":
            steps = requests * ONE
            counter.flow(desk.clock, steps, covered[1] * ONE)
        else:
            steps = quantity
            counter.flow(desk.clock, steps, covered[0])
        amount = steps if self.spend is None else spent
        if self.limit.window.kind == "rolling" and not self._into_bucket(counter, at, amount):
            return
        counter.posted += amount
        if amount < 0 or counter.posted >= counter.quiet_until:
            self.judge(counter, at)

    def _into_bucket(self, counter: Counter, at: int, amount: int) -> bool:
        window = self.limit.window
        bucket = at // window.bucket_ms
        if bucket < window.first_bucket(self.desk.clock):
            return False
        if bucket in counter.buckets:
            counter.buckets[bucket] += amount
        else:
            counter.buckets[bucket] = amount
            self._plan_roll(counter)
        return True

    def counter_at(self, at: int) -> Counter | None:
        """The counter of the window that holds an instant; None when that window is forgotten."""
        bounds = self.limit.window.bounds(at)
        counter = self.counters.get(bounds.start)
        if counter is None:
            if bounds.end + self.limit.window.kept_ms <= self.desk.clock:
                return None
            counter = self._open(bounds)
        return counter

    def peek(self, at: int) -> Counter:
        """The counter of the window that holds an instant, or what it would begin as: a pure read."""
        bounds = self.limit.window.bounds(at)
        return self.counters.get(bounds.start) or self._begun(bounds)

    def _begun(self, bounds: Bounds) -> Counter:
        counter = Counter(bounds)
        if self.since > bounds.start:
            self._fill(counter)
        return counter

    def _open(self, bounds: Bounds) -> Counter:
        counter = self.counters[bounds.start] = self._begun(bounds)
        counter.entry = ("counter", *self.place, bounds.start)
        if bounds.end < FOREVER:
            due = bounds.end + self.limit.window.kept_ms
            self.desk.plan(Due(due, "forget", *self.place, bounds.start))
        self.judge(counter, self._within(counter))
        return counter

    def _fill(self, counter: Counter) -> None:
        """Begin with what was metered before the limit existed, hour by hour."""
        for used in self._filled(self, counter.bounds):
            if self.limit.window.kind == "rolling":
                last = min(used.hour * 1_000 + HOUR_MS - 1, self.desk.clock)
                bucket = last // self.limit.window.bucket_ms
                counter.buckets[bucket] = counter.buckets.get(bucket, 0) + used.quantity
            else:
                counter.posted += used.quantity
        if self.limit.window.kind == "rolling":
            counter.posted = sum(counter.buckets.values())

    def begin(self) -> None:
        """Evaluate a new limit at once if the window has usage that was metered before."""
        if self.since and self.peek(self.desk.clock).posted:
            self.counter_at(self.desk.clock)

    # -- admission --------------------------------------------------------------------------------

    def remaining(self, counter: Counter) -> int | None:
        """Ceiling - posted - reserved, at least 0; None without a bound."""
        ceiling = self.limit.ceiling(self.amount(counter), counter.crossed, self.desk.clock)
        return None if ceiling is None else max(0, ceiling - counter.posted - self.reserved(counter))

    def room(self, counter: Counter) -> int | None:
        """What may still be admitted, in what a caller counts."""
        rest = self.remaining(counter)
        if rest is None or self.spend is None:
            return rest
        at = self._within(counter)
        price = self.spend.price(self.payer, at)
        if price is None:
            return None
        ceiling = self.limit.ceiling(self.amount(counter), counter.crossed, self.desk.clock)
        assert ceiling is not None
        whole = affordable(price, self.spend.at(at), ceiling - counter.posted)
        return None if whole is None else max(0, whole - counter.held) // self.limit.step * self.limit.step

    def counters_between(self, starts: int, ends: int) -> list[Counter]:
        """The counters of all windows that touch a stretch of time."""
        found = []
        at = starts
        while at <= ends:
            counter = self.counter_at(at)
            assert counter is not None, "the present is never forgotten"
            found.append(counter)
            at = counter.bounds.end
        assert all(a.bounds.end == b.bounds.start for a, b in pairwise(found))
        return found

    def hold(self, counter: Counter, steps: int) -> None:
        """Hold more (or less, below 0) of a window for a lease."""
        counter.held += steps
        assert counter.held >= 0, "a hold below nothing"
        self.judge(counter, self._within(counter))

    def strict_below(self, counter: Counter) -> int:
        """The room below which a caller reserves: twice the rate times the lag, at least 1 percent.

        The rate is that of the busiest second of the last minute.
        """
        flow = 2 * counter.rate(self.desk.clock) * self.desk.lag_ms // 1_000
        whole = self.amount(counter) if self.spend is None else (self.room(counter) or 0)
        return max(flow, whole // 100)

    def on_its_way(self, counter: Counter) -> int:
        """Usage without a lease that clients may have sent before they knew how near the limit is.

        Reservations leave room for it. Once all clients reserve, nothing loose comes any more, and within
        two seconds the last of the room can be reserved.
        """
        return counter.loose_rate(self.desk.clock) * self.desk.lag_ms // 1_000

    # -- forgetting -------------------------------------------------------------------------------

    def forget(self, start: int) -> bool:
        """Drop a window that nothing can correct any more."""
        counter = self.counters.get(start)
        if counter is None or counter.bounds.end + self.limit.window.kept_ms > self.desk.clock:
            return False
        del self.counters[start]
        self._latest = None if self._latest is counter else self._latest
        self.desk.changed["counter", *self.place, start] = None
        return True

    def restore(self, counter: Counter) -> None:
        """Take back a saved counter; what is due for it is planned again."""
        self.counters[counter.bounds.start] = counter
        counter.entry = ("counter", *self.place, counter.bounds.start)
        where = (*self.place, counter.bounds.start)
        if counter.bounds.end < FOREVER:
            self.desk.plan(Due(counter.bounds.end + self.limit.window.kept_ms, "forget", *where))
        if counter.crossed is not None and self.limit.grace_ms:
            due = counter.crossed + self.limit.grace_ms
            if due > self.desk.clock:
                self.desk.plan(Due(due, "judge", *where))
        if self.limit.window.kind == "rolling":
            self._plan_roll(counter)
