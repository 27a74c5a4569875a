"""One limit as a client sees it: the last state, and the client's own usage that it lacks."""

from collections import deque
from dataclasses import dataclass, field

from metering.quota.limits import ONE
from metering.quota.windows import Bounds, Window
from metering.quota.wire import LimitCard, QuotaProgress, QuotaState, Standing

NO_BOUND = 1 << 200  # above every amount


@dataclass(slots=True)
class Beat:
    """How fresh a partition is: the client's time at which its last heartbeat was sent (epoch ms)."""

    seen: int | None = None
    offset: int = 0
    version: int = 0  # all states of before it were heard
    fresh_ms: int = 1_500  # a view of this age is what strict zones are made for


@dataclass(slots=True)
class Clock:
    """How wrong a client's clock is: `skew` is what to add to it."""

    ahead: int | None = None  # the furthest that a heartbeat was ahead of the client's clock
    is_set: bool = False  # by a heartbeat of now
    skew: int = 0

    def hear(self, record: QuotaProgress, now_ms: int, *, is_now: bool) -> None:
        """Every heartbeat can show that the client's clock is behind.

        That it is ahead only one that comes now, of a fold that has read its log: an old heartbeat, and one
        of a fold that is behind, look the same as a clock that is ahead.
        """
        ahead = record.emitted - now_ms
        self.ahead = ahead if self.ahead is None else max(self.ahead, ahead)
        self.is_set = self.is_set or (is_now and record.emitted > record.at)
        self.skew = self.ahead if self.is_set else max(0, self.ahead)


@dataclass(slots=True, eq=False)
class Own:
    """Usage that this client has sent, or is sending, and that no lease covers."""

    gates: tuple["Gate", ...]
    quantity: int
    requests: int
    offset: int = -1


@dataclass(slots=True, eq=False)
class Gate:
    """A limit of a scope. Amounts are room: what a caller counts, 10^-6.

    `free` is what may be used without asking, `room` what may be admitted at all; both before `pending`:
    what the state does not include of the client's own usage and its leases, and what it has asked for.
    """

    beat: Beat
    card: LimitCard | None = None
    states: dict[int, QuotaState | None] = field(default_factory=dict)  # None: unreadable or gone
    start: int = 0
    until: int = 0
    free: int = -1
    room: int = NO_BOUND
    share: int = NO_BOUND  # of the room: what is this client's while nobody can be asked
    standing: Standing = "ok"
    pending: int = 0
    is_requests: bool = False
    reuse_ms: int = 0
    denied_version: str | None = None
    denied_until: int = 0
    asked: int = 0  # of `pending`: nobody has answered yet
    _sending: int = 0  # of `pending`: without an offset yet
    _sent: deque[Own] = field(default_factory=deque)
    _lent: list[tuple[int, int]] = field(default_factory=list)  # version, steps

    def follow(self, beat: Beat) -> None:
        """Listen to another partition: what was sent to the one before is in the states that moved."""
        if beat is self.beat:
            return
        self.beat = beat
        self.prune(NO_BOUND)
        self.settle(NO_BOUND)

    def take_card(self, card: LimitCard) -> None:
        """Take the definition of the limit."""
        self.card = card
        self.is_requests = card.counts == "requests"
        self.reuse_ms = card.reuse_ms
        self.until = 0

    def covers(self, dimensions: dict[str, str]) -> bool:
        """Whether usage with these dimension values counts; unknown values may."""
        if self.card is None:
            return True
        return all(
            name not in dimensions or dimensions[name] in wanted for name, wanted in self.card.where.items()
        )

    def take_state(self, start: int, state: QuotaState | None) -> None:
        """Take a state that is newer; a window without a readable one is unknown, not fine."""
        held = self.states.get(start)
        if state is not None and held is not None and int(state.version) <= int(held.version):
            return
        for old in [s for s in self.states if s < self.start]:
            del self.states[old]
        self.states[start] = state
        self.until = 0

    @property
    def version(self) -> str:
        """The version of the state in force; a denial is remembered as long as it lasts."""
        state = self.states.get(self.start)
        return state.version if state is not None else ""

    def turn(self, clock: int) -> None:
        """Go to the window of an instant: with its state, or as it begins."""
        if self.card is None:
            return
        bounds = _bounds(self.card, clock)
        self.start, self.until = bounds
        self.standing, self.share = "ok", NO_BOUND
        if bounds.start not in self.states:
            self._begin()
            return
        state = self.states[bounds.start]
        if state is None:
            self.free, self.room = -1, NO_BOUND
            return
        self.standing = state.state
        self.room = int(state.room) if state.room else NO_BOUND
        self.free = self.room - int(state.strict_below) if state.room else NO_BOUND
        # The hint is half of a client's share of the room.
        self.share = min(self.room, 2 * int(state.lease_hint)) if state.room else NO_BOUND

    def _begin(self) -> None:
        assert self.card is not None
        amount = int(self.card.amount)
        if self.card.kind == "grace" and self.card.grace_percent:
            amount = amount * (100 + self.card.grace_percent) // 100
        elif self.card.kind != "hard":
            self.free = self.room = NO_BOUND
            return
        if self.card.counts == "money":  # what it buys is for the owner to say
            self.free, self.room = -1, NO_BOUND
            return
        self.free, self.room, self.share = amount - amount // 100, amount, amount

    def has_share(self, steps: int) -> bool:
        """Whether usage fits into this client's fair share, with what it has used since the last view."""
        return steps + self.pending <= self.share

    def is_short(self, steps: int, age_ms: int) -> bool:
        """Whether a view of this age cannot admit usage alone: the strict zone grows with the age."""
        if self.room == NO_BOUND or not self.beat.fresh_ms:
            return False
        zone = (self.room - self.free) * age_ms // self.beat.fresh_ms
        return steps + self.pending > self.room - zone

    # -- own usage --------------------------------------------------------------------------------

    def steps(self, quantity: int, requests: int) -> int:
        """Usage in what this limit's caller counts."""
        return requests * ONE if self.is_requests else quantity

    def begin(self, steps: int) -> None:
        """Usage that is being sent."""
        self.pending += steps
        self._sending += steps

    def failed(self, steps: int) -> None:
        """It was not sent, and never will be."""
        self.pending -= steps
        self._sending -= steps

    def sent(self, own: Own) -> None:
        """Usage whose offset is known."""
        self._sending -= self.steps(own.quantity, own.requests)
        self._sent.append(own)
        self.prune(self.beat.offset)

    def prune(self, offset: int) -> None:
        """Drop what a state includes by now: exact, by offset."""
        while self._sent and self._sent[0].offset < offset:
            own = self._sent.popleft()
            self.pending -= self.steps(own.quantity, own.requests)

    def ask(self, steps: int) -> None:
        """Ask the owner to hold so much; below 0, when it has answered or nobody waits any more."""
        self.pending += steps
        self.asked += steps

    def lend(self, version: int, steps: int) -> None:
        """A lease of a reply: a reply may come before the state that holds it."""
        if version > max(self.beat.version, int(self.version or 0)):
            self._lent.append((version, steps))
            self.pending += steps

    def settle(self, version: int) -> None:
        """Drop the leases that a state of this version holds."""
        if self._lent:
            self.pending -= sum(steps for made, steps in self._lent if made <= version)
            self._lent = [lent for lent in self._lent if lent[0] > version]

    @property
    def loose(self) -> int:
        """Own usage that the state does not include and no lease covers."""
        return self.pending - self.asked - sum(steps for _, steps in self._lent)

    @property
    def loose_until(self) -> int:
        """The offset behind the last of it; -1 while some of it has none yet."""
        if self._sending:
            return -1
        return self._sent[-1].offset + 1 if self._sent else 0


def _bounds(card: LimitCard, clock: int) -> Bounds:
    return Window(card.window, card.zone, card.anchor, card.length_ms).bounds(clock)
