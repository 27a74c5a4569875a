"""One client alone never passes a hard limit, whatever is late: usage, requests, replies or states."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from metering.quota.gate import Own
from metering.quota.held import Asked, answered
from metering.quota.limits import ONE
from metering.quota.local import LocalView
from metering.quota.wire import Reply, Reserve
from tests.quota.world import START, catalog, quotas

LIMIT = 100
CATALOG = catalog({"limits": [{"id": "l", "meter": "tokens", "units": LIMIT, "window": "day"}]})
SOME = st.integers(1, 4)


class OneClient(RuleBasedStateMachine):
    """Each of the four topics is a queue of its own; nobody knows when it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = quotas(CATALOG, lag_ms=10)
        self.view = LocalView()
        self.now, self.named, self.served = START, 0, 0
        self.sending: deque[tuple[int, str, Own]] = deque()
        self.usage: deque[tuple[int, str]] = deque()
        self.appended = self.metered = 0
        self.waiting: dict[str, Asked] = {}
        self.requests: deque[Reserve] = deque()
        self.replies: deque[Reply] = deque()
        self.states: deque[tuple[bytes, bytes | None]] = deque()
        self.given: dict[str, int] = {}  # leases of the application, and what is left of each
        self.publishes()
        self.hears(len(self.states))
        self.view.is_ready = True

    @rule(units=st.integers(1, 30), block=st.sampled_from([1, 2, 16]))
    def uses(self, units: int, block: int) -> None:
        answer = self.view.check("a", "tokens", units * ONE, self.now)
        if answer.verdict == "allow":
            own = self.view.begin("a", "tokens", units * ONE, 1, answer.lease)
            self.sending.append((units, answer.lease, own))
            self.served += units
        elif answer.verdict == "reserve":
            self.named += 1
            self.asks(f"r{self.named}", units * block, str(units * ONE), block)

    @rule(units=st.integers(1, 60))
    def reserves(self, units: int) -> None:
        self.named += 1
        self.asks(f"own{self.named}", units, "", 5)

    def asks(self, name: str, units: int, least: str, requests: int) -> None:
        request = Reserve(name, "x", "a", "tokens", str(units * ONE), least, requests=requests)
        self.waiting[name] = asked = self.view.ask(request)
        self.requests.append(replace(request, unseen=asked.unseen, validity_ms=600_000))

    @precondition(lambda self: self.given)
    @rule(units=st.integers(1, 30))
    def uses_its_own(self, units: int) -> None:
        lease = next(iter(self.given))
        units = min(units, self.given[lease])
        own = self.view.begin("a", "tokens", units * ONE, 1, lease, self.now)
        self.sending.append((units, lease, own))
        self.served += units
        self.given[lease] -= units
        if not self.given[lease]:
            del self.given[lease]

    @precondition(lambda self: self.sending)
    @rule(n=SOME)
    def delivers(self, n: int) -> None:
        for _ in range(min(n, len(self.sending))):
            units, lease, own = self.sending.popleft()
            self.usage.append((units, lease))
            self.view.delivered(own, self.appended)
            self.appended += 1

    @precondition(lambda self: self.usage)
    @rule(n=SOME)
    def meters(self, n: int) -> None:
        self.owner.advance(self.now)
        for _ in range(min(n, len(self.usage))):
            units, lease = self.usage.popleft()
            self.owner.post("a", "tokens", (), self.now, units * ONE, lease=lease)
            self.metered += 1

    @precondition(lambda self: self.requests)
    @rule()
    def answers(self) -> None:
        self.owner.advance(self.now)
        self.owner.desk.offset = self.metered
        self.replies.append(self.owner.ask(self.requests.popleft()))

    @precondition(lambda self: self.replies)
    @rule()
    def gets_reply(self) -> None:
        reply = self.replies.popleft()
        asked = self.waiting.pop(reply.request, None)
        if asked is not None:
            answered(asked, reply)
            if not reply.request.startswith("own"):
                self.view.take_reply("a", "tokens", reply, self.now)
            elif reply.lease and int(reply.granted) >= ONE:
                self.view.give("a", "tokens", reply, self.now)
                self.given[reply.lease] = int(reply.granted) // ONE

    @precondition(lambda self: self.waiting)
    @rule()
    def gives_up(self) -> None:
        answered(self.waiting.pop(next(iter(self.waiting))), None)

    @rule()
    def publishes(self) -> None:
        self.owner.advance(self.now)
        self.states.extend(self.owner.take(self.metered).states)
        self.states.append(self.owner.heartbeat(self.now))

    @precondition(lambda self: self.states)
    @rule(n=SOME)
    def hears(self, n: int) -> None:
        for _ in range(min(n, len(self.states))):
            self.view.apply(*self.states.popleft(), 0, self.now)

    @rule(ms=st.sampled_from([1, 1_100, 2_500]))
    def waits(self, ms: int) -> None:
        self.now += ms

    @invariant()
    def holds(self) -> None:
        assert self.served <= LIMIT

    def teardown(self) -> None:
        """Once everything is read, nothing is kept back that is not held by the owner."""
        self.delivers(len(self.sending))
        self.meters(len(self.usage))
        while self.requests:
            self.answers()
        while self.replies:
            self.gets_reply()
        self.publishes()
        self.hears(len(self.states))
        assert all(gate.pending == 0 for gate in self.view._spots["a", "tokens"])


TestOneClient = OneClient.TestCase
TestOneClient.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
