"""What follows from what one limit has counted: thresholds, the state, grants drawn, what to announce.

Judging the same counter twice at one moment changes nothing the second time.
"""

from metering.quota.counter import Counter
from metering.quota.desk import Desk, Due
from metering.quota.grants import Grants
from metering.quota.history import Spend
from metering.quota.limits import Limit, mark
from metering.quota.spend import highest_cost
from metering.quota.wire import EventKind, Standing

NEVER = 1 << 200  # above every amount


class Judge:
    """Judges one limit of one scope. `since` is when it began to count (append time, epoch ms)."""

    def __init__(
        self,
        desk: Desk,
        account: str,
        scope: str,
        limit: Limit,
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

    @property
    def place(self) -> tuple[str, str, str]:
        """What names it in a partition."""
        return self.account, self.scope, self.limit.id

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

    def _plan_roll(self, counter: Counter) -> None:
        if counter.buckets:
            window = self.limit.window
            leaves = (min(counter.buckets) + 1 - window.first_bucket(0)) * window.bucket_ms
            self.desk.plan(Due(leaves, "judge", *self.place, counter.bounds.start))

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

    def _announce(
        self, event: EventKind, counter: Counter, amount: int, *more: int, percent: int = 0
    ) -> None:
        self.desk.announce(
            event,
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
        self.desk.changed["quota", *self.place] = self
        self.tell_changed(str(before), str(limit.amount))

    def end(self) -> None:
        """The limit is no more: say so, and that whom it has blocked may go on."""
        self.tell_changed(str(self.base), "")
        for counter in self.counters.values():
            if counter.state == "blocked":
                self._announce("unblocked", counter, counter.posted, self.desk.sequence)

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

    def reserved(self, counter: Counter) -> int:
        """What the leases of a window come to, in what the limit counts."""
        if self.spend is None or not counter.held:
            return counter.held
        at = self._within(counter)
        price = self.spend.price(self.payer, at)
        return 0 if price is None else highest_cost(price, self.spend.at(at), counter.held)
