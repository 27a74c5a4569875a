"""A state machine against a naive model that keeps every fact and adds up from scratch each time."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from metering.quota.limits import ONE, mark
from metering.quota.quotas import Quotas, Taken
from metering.quota.wire import Commit, LimitFact, QuotaState, Release, Reply, Reserve
from tests.quota.world import DAY, HOUR, START, catalog, events, quotas, states

POOL, OWN = 100, 60  # units a day; the model counts in micro-units, as integers
MORE = {
    "customers": [{"id": "a", "pool": "p"}, {"id": "b", "pool": "p"}],
    "pools": [{"id": "p", "limits": [{"id": "all", "meter": "tokens", "units": POOL, "window": "day"}]}],
    "limits": [{"id": "own", "meter": "tokens", "units": OWN, "window": "day"}],
}
CATALOG = catalog(MORE)
CUSTOMERS = st.sampled_from(["a", "b"])
UNITS = st.integers(1, 50)


@dataclass
class Promise:
    customer: str
    held: int
    opened: int
    ends: int


@dataclass
class Naive:
    """Everything that happened, and sums over it."""

    uses: list[tuple[str, int, int]] = field(default_factory=list)  # customer, at, units
    promises: dict[str, Promise] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=lambda: {"a": OWN * ONE, "b": OWN * ONE, "p": POOL * ONE})
    crossed: set[tuple[str, int, int, int]] = field(default_factory=set)

    def posted(self, scope: str, day: int) -> int:
        return sum(u for c, at, u in self.uses if at // DAY == day and scope in (c, "p"))

    def reserved(self, scope: str, day: int, clock: int) -> int:
        return sum(
            p.held
            for p in self.promises.values()
            if p.ends > clock and p.opened // DAY <= day <= p.ends // DAY and scope in (p.customer, "p")
        )

    def room(self, customer: str, days: set[int], clock: int) -> int:
        return min(
            max(0, self.limits[scope] - self.posted(scope, day) - self.reserved(scope, day, clock))
            for scope in (customer, "p")
            for day in days
        )

    def cross(self) -> None:
        """Thresholds reached by now, for each limit, day and amount of the limit."""
        for day in {at // DAY for _, at, _ in self.uses}:
            for scope, limit in self.limits.items():
                for percent in (50, 80, 100):
                    posted = self.posted(scope, day)
                    if posted >= max(1, mark(limit, percent)):
                        self.crossed.add((scope, day, limit, percent))


def decided(taken: Taken) -> dict[tuple[str, int], QuotaState]:
    """States without what is a hint of the moment at which they were taken."""
    hints = {"at": 0, "rate": "", "strict_below": "", "lease_hint": ""}
    return {(s.scope, s.window_start): msgspec.structs.replace(s, **hints) for s in states(taken)}


class Machine(RuleBasedStateMachine):
    """`owner` runs straight through, `twin` is taken from and restarted at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.owner, self.twin = quotas(CATALOG), quotas(CATALOG)
        self.naive = Naive()
        self.clock = START
        self.number = 0
        self.replies: dict[str, Reply] = {}
        self.was_loose = False  # whether something passed a limit by right: loose usage, or a lower limit
        self.entries: dict[bytes, bytes] = {}
        self.fired: list[tuple[str, int, int, int]] = []
        self.published: dict[tuple[str, int], Any] = {}
        self.twins_events: list[Any] = []

    def both(self, call: Any) -> Any:
        first, second = call(self.owner), call(self.twin)
        assert first == second
        return first

    # -- rules ------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 900, 5_000, 61_000, HOUR, 7 * HOUR]))
    def wait(self, ms: int) -> None:
        self.clock += ms
        self.both(lambda q: q.advance(self.clock))

    @rule(customer=CUSTOMERS, units=UNITS, late=st.sampled_from([0, 0, 0, HOUR, 30 * HOUR]))
    def use(self, customer: str, units: int, late: int) -> None:
        self.was_loose = True
        self.post(customer, units * ONE, self.clock - late, "")

    @precondition(lambda self: self.naive.uses)
    @rule(data=st.data())
    def correct(self, data: st.DataObject) -> None:
        """Take back what was used before."""
        customer, at, units = data.draw(st.sampled_from(self.naive.uses))
        if units > 0 and self.clock - at < 3 * DAY:
            self.post(customer, -units, at, "")

    @rule(customer=CUSTOMERS, units=UNITS, whole=st.booleans(), client=st.sampled_from("xyz"))
    def reserve(self, customer: str, units: int, whole: bool, client: str) -> None:
        self.number += 1
        request = Reserve(
            f"r{self.number}", client, customer, "tokens", str(units * ONE), whole=whole, validity_ms=30_000
        )
        days = {self.clock // DAY, (self.clock + 60_000) // DAY}
        room = self.naive.room(customer, days, self.clock)
        reply = self.both(lambda q: q.ask(request))
        assert self.both(lambda q: q.ask(request)) == reply, "a repeated request has the same reply"
        if not reply.ok:
            assert reply.reason == "settling" or room < (units * ONE if whole else ONE // 100)
            return
        granted = int(reply.granted)
        assert 0 < granted <= min(units * ONE, room)
        assert not whole or granted == units * ONE
        self.naive.promises[reply.lease] = Promise(customer, granted, self.clock, self.clock + 60_000)
        self.replies[reply.lease] = reply

    @precondition(lambda self: self.replies)
    @rule(data=st.data(), share=st.integers(1, 5), late=st.sampled_from([0, 0, 2_000]))
    def use_lease(self, data: st.DataObject, share: int, late: int) -> None:
        lease = data.draw(st.sampled_from(sorted(self.replies)))
        promise = self.naive.promises[lease]
        units = min(share * 10 * ONE, promise.held)
        at = max(self.clock - late, promise.opened)
        if not units or promise.ends <= self.clock:
            return
        promise.held -= units
        self.post(promise.customer, units, at, lease)

    @precondition(lambda self: self.replies)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.replies)))
        promise = self.naive.promises[lease]
        self.number += 1
        reply = self.both(lambda q: q.ask(Release(f"r{self.number}", "x", promise.customer, lease)))
        if reply.ok:
            promise.held = 0

    @precondition(lambda self: self.replies)
    @rule(data=st.data(), used=st.integers(0, 60))
    def commit(self, data: st.DataObject, used: int) -> None:
        lease = data.draw(st.sampled_from(sorted(self.replies)))
        promise = self.naive.promises[lease]
        self.number += 1
        request = Commit(f"r{self.number}", "x", promise.customer, lease, self.number, str(used * ONE), True)
        if self.both(lambda q: q.ask(request)).ok:
            counted = int(self.replies[lease].granted) - promise.held
            promise.held = min(promise.held, max(0, used * ONE - counted))

    @rule(scope=st.sampled_from("abp"), units=st.sampled_from([20, 60, 100, 150]))
    def set_limit(self, scope: str, units: int) -> None:
        self.was_loose = self.was_loose or units * ONE < self.naive.limits[scope]
        self.naive.limits[scope] = units * ONE
        fact = LimitFact(scope, "all" if scope == "p" else "own", str(units * ONE))
        assert self.both(lambda q: q.learn(fact))
        self.naive.cross()

    @rule()
    def take_and_restart(self) -> None:
        taken = self.twin.take(0)
        for key, value in taken.entries:
            self.entries.pop(key, None) if value is None else self.entries.update({key: value})
        self.twins_events += taken.events
        self.published |= decided(taken)
        header = self.twin.header()
        self.twin = Quotas(0, lambda _: True)
        self.twin.restore(header, list(self.entries.items()))
        self.twin.adopt(CATALOG)

    def post(self, customer: str, units: int, at: int, lease: str) -> None:
        requests = 1 if units > 0 else -1
        self.both(lambda q: q.post(customer, "tokens", (), at, units, requests, lease))
        self.naive.uses.append((customer, at, units))
        self.naive.cross()

    # -- laws -------------------------------------------------------------------------------------

    @invariant()
    def counts_what_the_model_counts(self) -> None:
        for (scope, _), quota in self.owner._accounts["p"].quotas.items():
            for start, counter in quota.counters.items():
                day = start // DAY
                assert counter.posted == self.naive.posted(scope, day)
                assert quota.reserved(counter) == self.naive.reserved(scope, day, self.clock)

    @invariant()
    def never_reserves_beyond_a_hard_limit(self) -> None:
        if not self.was_loose:
            for quota in self.owner._accounts["p"].quotas.values():
                for counter in quota.counters.values():
                    assert counter.posted + quota.reserved(counter) <= quota.amount(counter)

    @invariant()
    def state_follows_from_what_is_posted(self) -> None:
        for quota in self.owner._accounts["p"].quotas.values():
            for counter in quota.counters.values():
                amount = quota.amount(counter)
                warned = counter.posted >= max(1, mark(amount, 80))
                wanted = "blocked" if counter.posted >= amount else "warn" if warned else "ok"
                assert counter.state == wanted

    def teardown(self) -> None:
        self.take_and_restart()
        taken = self.owner.take(0)
        assert taken.events == self.twins_events
        assert decided(taken) == self.published
        assert self.owner.header() == self.twin.header()
        fired = [
            (e.scope, e.window_start // DAY, int(e.amount), e.percent)
            for e in events(taken)
            if e.event == "threshold"
        ]
        assert set(fired) == self.naive.crossed
        ids = [e.id for e in events(taken)]
        assert len(ids) == len(set(ids)), "an id names one thing that happened"


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestMachine = Machine.TestCase
