"""One limit of one customer or pool: its counters by window, its thresholds, what it still admits.

The admission rule: posted + reserved + cost ≤ ceiling; what costs nothing is always admitted. A state
is a function of the events, requests, catalog revisions and append times so far, one by one.
"""

from collections.abc import Callable
from itertools import pairwise

from metering.quota.counter import Counter
from metering.quota.desk import Desk, Due
from metering.quota.grants import Grants
from metering.quota.history import HourUsed, Spend
from metering.quota.limits import ONE, Limit, mark
from metering.quota.spend import affordable, highest_cost
from metering.quota.windows import FOREVER, HOUR_MS, Bounds
from metering.quota.wire import Standing

NEVER = 1 << 200  # above every amount
Filled = Callable[["Quota", Bounds], list[HourUsed]]


class Quota:
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
        assert limit.amount is not None, "an unlimited limit counts nothing"
        self.desk = desk
        self.account = account
        self.scope = scope
        self.limit = limit
        self.base = limit.amount
        self.spend = spend
        self.payer = payer or scope  # a customer with the terms of the scope
        self.grants = Grants()
        self.known_grants: list[tuple[str, str, int, int]] = []
        self.since = desk.clock
        self.counters: dict[int, Counter] = {}
        self._latest: Counter | None = None
        self._filled = filled

    @property
    def place(self) -> tuple[str, str, str]:
        """What names it in a partition."""
        return self.account, self.scope, self.limit.id

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

    def _plan_roll(self, counter: Counter) -> None:
        if counter.buckets:
            window = self.limit.window
            leaves = (min(counter.buckets) + 1 - window.first_bucket(0)) * window.bucket_ms
            self.desk.plan(Due(leaves, "judge", *self.place, counter.bounds.start))

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

    # -- judging ----------------------------------------------------------------------------------

    def judge(self, counter: Counter, at: int) -> None:
        """Draw grants for usage of `at`, fire what was reached, find the state."""
        self._roll(counter)
        self._settle_grants(counter, at)
        amount = self.amount(counter)
        self._fire(counter, amount)
        self._watch_grace(counter, amount)
        self._stand(counter, amount)
        self._flag_overrun(counter, amount)
        counter.quiet_until = self._quiet_until(counter, amount)
        counter.sequence = self.desk.sequence
        self.desk.changed[counter.entry] = counter

    def _roll(self, counter: Counter) -> None:
        if self.limit.window.kind != "rolling" or not counter.buckets:
            return
        first = self.limit.window.first_bucket(self.desk.clock)
        for bucket in [b for b in counter.buckets if b < first]:
            counter.posted -= counter.buckets.pop(bucket)
        self._plan_roll(counter)

    def _settle_grants(self, counter: Counter, at: int) -> None:
        if not self.grants and not counter.drawn:
            return
        need = max(0, counter.posted - self.base) - counter.drawn_total
        moved = self.grants.draw(counter.drawn, need, at) if need > 0 else False
        if need < 0:
            moved = self.grants.give_back(counter.drawn, -need)
        if moved:
            self.desk.changed["quota", *self.place] = self
            self.desk.changed["profile", self.account] = None
            for other in self.counters.values():
                if other is not counter:  # what is left for it has changed, too
                    other.quiet_until = 0
                    self.desk.changed[other.entry] = other
                    other.sequence = self.desk.sequence

    def amount(self, counter: Counter) -> int:
        """The effective limit of a window: base, what grants gave it, and what they still would."""
        if not self.grants:
            return self.base + counter.drawn_total
        return self.base + counter.drawn_total + self.grants.open_rest(self._within(counter))

    def _fire(self, counter: Counter, amount: int) -> None:
        for percent in self._armed(counter):
            if counter.posted < max(1, mark(amount, percent)):
                return
            counter.fired[self.limit.version] = counter.fired.get(self.limit.version, 0) + 1
            self._announce("threshold", counter, amount, percent, percent=percent)

    def _armed(self, counter: Counter) -> tuple[int, ...]:
        """The thresholds that have not fired under this version of the limit."""
        return self.limit.thresholds[counter.fired.get(self.limit.version, 0) :]

    def _watch_grace(self, counter: Counter, amount: int) -> None:
        if counter.posted <= amount:
            counter.crossed = None
        elif counter.crossed is None:
            counter.crossed = self.desk.clock
            if self.limit.grace_ms:
                due = counter.crossed + self.limit.grace_ms
                self.desk.plan(Due(due, "judge", *self.place, counter.bounds.start))

    def _stand(self, counter: Counter, amount: int) -> None:
        before, counter.state = counter.state, self._standing(counter, amount)
        if counter.state == before:
            return
        self.desk.is_urgent = True
        if counter.state == "blocked":
            self._announce("blocked", counter, amount, self.desk.sequence)
        elif before == "blocked":
            self._announce("unblocked", counter, amount, self.desk.sequence)

    def _standing(self, counter: Counter, amount: int) -> Standing:
        ceiling = self.limit.ceiling(amount, counter.crossed, self.desk.clock)
        if ceiling is not None and counter.posted >= ceiling:
            return "blocked"
        if counter.posted > amount:
            return "over"
        return "warn" if counter.posted >= max(1, mark(amount, self.limit.warns_at)) else "ok"

    def _flag_overrun(self, counter: Counter, amount: int) -> None:
        """Usage without a lease, or behind one, may pass a hard limit: said once, never hidden."""
        ceiling = self.limit.ceiling(amount, counter.crossed, self.desk.clock)
        if self.limit.kind != "hard" or ceiling is None or self.limit.version in counter.overrun:
            return
        if counter.posted + self.reserved(counter) > ceiling:
            counter.overrun.append(self.limit.version)
            self._announce("overrun", counter, amount)

    def _quiet_until(self, counter: Counter, amount: int) -> int:
        """The posted amount up to which counting changes nothing else."""
        limit, posted = self.limit, counter.posted
        if posted > self.base and (self.grants or counter.drawn):
            return 0
        marks = [mark(amount, percent) for percent in (*self._armed(counter), limit.warns_at)]
        marks += [self.base + 1, amount + 1]
        ceiling = limit.ceiling(amount, counter.crossed, self.desk.clock)
        if ceiling is not None:
            marks += [ceiling, ceiling + 1]
            if counter.held and limit.version not in counter.overrun:
                marks.append(max(posted + 1, ceiling + 1 - self.reserved(counter)))
        return min((m for m in marks if m > posted), default=NEVER)

    def _announce(self, event: str, counter: Counter, amount: int, *more: int, percent: int = 0) -> None:
        self.desk.announce(
            event,  # type: ignore[arg-type]  # one of the kinds above
            *self.place,
            self.limit.version,
            counter.bounds.start,
            *more,
            account=self.account,
            scope=self.scope,
            limit=self.limit.id,
            meter=self.limit.meter,
            limit_version=self.limit.version,
            window_start=counter.bounds.start,
            posted=str(counter.posted),
            amount=str(amount),
            percent=percent,
        )

    def change(self, limit: Limit) -> None:
        """Put another version of the limit in force; `judge_all` follows."""
        assert limit.amount is not None, "an unlimited limit counts nothing"
        before, self.limit, self.base = self.base, limit, limit.amount
        self._latest = None
        self.desk.changed["quota", *self.place] = self
        self.tell_changed(str(before), str(limit.amount))

    def tell_changed(self, before: str, amount: str) -> None:
        """Announce that another limit is in force; an empty amount is unlimited."""
        self.desk.announce(
            "limit_changed",
            *self.place,
            self.limit.version,
            self.desk.sequence,
            account=self.account,
            scope=self.scope,
            limit=self.limit.id,
            meter=self.limit.meter,
            limit_version=self.limit.version,
            amount=amount,
            quantity=before,
        )

    def begin(self) -> None:
        """Evaluate a new limit at once if the window has usage that was metered before."""
        if self.since and self.peek(self.desk.clock).posted:
            self.counter_at(self.desk.clock)

    def is_due(self, start: int) -> bool:
        """Whether time has done something to a window: a grace is over, or sub-buckets leave."""
        counter = self.counters.get(start)
        if counter is None:
            return False
        if self.limit.window.kind == "rolling":
            first = self.limit.window.first_bucket(self.desk.clock)
            if any(bucket < first for bucket in counter.buckets):
                return True
        is_over = counter.crossed is not None and counter.crossed + self.limit.grace_ms == self.desk.clock
        return is_over and self.limit.grace_ms > 0

    def judge_all(self) -> None:
        """Evaluate every window again: the limit, its grants or the time have changed."""
        for start in sorted(self.counters):
            self.judge(self.counters[start], self._within(self.counters[start]))

    def _within(self, counter: Counter) -> int:
        """The clock, inside the window: grants that come later fill what its usage lacks."""
        return min(max(self.desk.clock, counter.bounds.start), counter.bounds.end - 1)

    # -- admission --------------------------------------------------------------------------------

    def reserved(self, counter: Counter) -> int:
        """What the leases of a window come to, in what the limit counts."""
        if self.spend is None or not counter.held:
            return counter.held
        at = self._within(counter)
        price = self.spend.price(self.payer, at)
        return 0 if price is None else highest_cost(price, self.spend.at(at), counter.held)

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
