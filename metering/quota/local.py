"""What a client answers from its own memory: the records of `quota.state`, less its own late usage.

Pure: the reader of the topic calls `apply`, the sender of usage `begin`, `delivered` and `failed`, the
application `check`. Nothing here raises for what a record or a caller says.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from metering.quota.gate import NO_BOUND, Beat, Clock, Gate, Own
from metering.quota.held import Asked, Leases, ask
from metering.quota.limits import ONE
from metering.quota.wire import (
    FORMAT,
    QuotaProfile,
    QuotaProgress,
    QuotaState,
    Reply,
    Reserve,
    decode_state,
)
from metering.state.partitioning import partition_of

Verdict = Literal["allow", "reserve", "deny"]
_Unreadable = (msgspec.MsgspecError, ValueError, RecursionError)


class Answer(NamedTuple):
    """What to do: serve, ask the owner first (`reserve`), or refuse.

    `reason` is ok, warn, over, no_limit, lease, strict_zone, behind, unknown,
    limit_reached, denied, stale, not_ready, bad_quantity or newer_format. `limit` decided, `lease`
    covers the usage.
    """

    verdict: Verdict
    reason: str
    limit: str = ""
    lease: str = ""
    retry_after_ms: int = 0


ALLOWED = Answer("allow", "ok")
_NO_LIMIT = Answer("allow", "no_limit")
_FREE = ALLOWED._replace(reason="free")
_BAD = Answer("deny", "bad_quantity")
_NOT_READY = Answer("reserve", "not_ready")
_NEWER = Answer("reserve", "newer_format")


class LocalView:
    """The quotas that a client knows; quantities in micro-units, times in the client's own epoch ms."""

    def __init__(self) -> None:
        self.is_ready = False  # set it when the topic was read to its end
        self.partitions = 0  # of the topic; set it, so that a record of where a customer was is told apart
        self._beats: dict[int, Beat] = {}
        self._gates: dict[tuple[str, str, str], Gate] = {}
        self._spots: dict[tuple[str, str], tuple[Gate, ...]] = {}
        self._meters: dict[str, set[str]] = {}
        self._profiles: dict[str, int] = {}
        self._unreadable: set[str] = set()
        self._leases = Leases()
        self._clock = Clock()
        self._skew = 0  # what to add to the client's clock

    # -- reading ----------------------------------------------------------------------------------

    def apply(
        self, key: bytes, value: bytes | None, partition: int, now_ms: int, is_old: bool = False
    ) -> None:
        """Take a record of `quota.state`; a tombstone has no value.

        `is_old` is one that stood there when the reader began, or began again.
        """
        try:
            kind, *place = msgspec.json.decode(key)
            record = None if value is None else decode_state(value)
        except _Unreadable:
            record = None
            try:
                kind, *place = msgspec.json.decode(key)
            except _Unreadable:
                return
        if record is not None and record.v > FORMAT:
            record = None
        if kind == "progress":
            self._take_progress(record, partition, now_ms, is_old)
        elif kind == "profile" and len(place) == 2:
            self._take_profile(place[1], record, partition, is_gone=value is None)
        elif kind == "state" and len(place) == 4:
            self._take_state(place, record, partition)

    def _take_progress(self, record: object, partition: int, now_ms: int, is_old: bool) -> None:
        if not isinstance(record, QuotaProgress):
            return  # a heart that cannot be read does not beat
        self._clock.hear(record, now_ms, is_now=self.is_ready and not is_old)
        self._skew = self._clock.skew
        beat = self._beat(partition)
        beat.seen = record.emitted - self._skew
        beat.offset = max(beat.offset, record.offset)
        beat.version = max(beat.version, int(record.version))
        beat.fresh_ms = record.lag_ms * 3 // 2
        for gate in self._gates.values():
            if gate.beat is beat and gate.pending:
                gate.prune(beat.offset)
                gate.settle(beat.version)

    def _take_profile(self, customer: str, record: object, partition: int, *, is_gone: bool) -> None:
        if not isinstance(record, QuotaProfile):
            (self._unreadable.discard if is_gone else self._unreadable.add)(customer)
            record = None
        elif int(record.version) < self._profiles.get(customer, -1):
            return
        else:
            self._unreadable.discard(customer)
            self._profiles[customer] = int(record.version)
        for meter in self._meters.pop(customer, ()):
            del self._spots[customer, meter]
        if record is None:
            return
        spots: dict[str, tuple[Gate, ...]] = {}
        for card in record.limits:
            home = self._home(record.account, partition)
            gate = self._gate(record.account, card.scope, card.id, home)
            gate.follow(self._beat(home))  # the customer may have moved to another partition
            gate.take_card(card)
            spots[card.meter] = (*spots.get(card.meter, ()), gate)
        self._meters[customer] = set(spots)
        self._spots.update({(customer, meter): gates for meter, gates in spots.items()})

    def _take_state(self, place: Sequence[object], record: object, partition: int) -> None:
        account, scope, limit, start = place
        state = record if isinstance(record, QuotaState) else None
        home = self._home(str(account), partition)
        gate = self._gate(str(account), str(scope), str(limit), home)
        if isinstance(start, int):
            gate.take_state(start, state)
        if state is not None and gate.pending and partition == home:
            gate.prune(state.as_of.get(str(partition), 0))
            if start == gate.start:
                gate.settle(int(state.version))

    def _home(self, account: str, partition: int) -> int:
        """Whose heartbeats are an account's: a record elsewhere is of before the partitions grew."""
        return partition_of(account, self.partitions) if self.partitions else partition

    def _gate(self, account: str, scope: str, limit: str, partition: int) -> Gate:
        place = (account, scope, limit)
        if place not in self._gates:
            self._gates[place] = Gate(self._beat(partition))
        return self._gates[place]

    def silent_ms(self, partitions: int, now_ms: int) -> int | None:
        """How long the quietest of the partitions 0 … n-1 was not heard of; None when one never was."""
        seen = [self._beat(partition).seen for partition in range(partitions)]
        heard = [at for at in seen if at is not None]
        return now_ms - min(heard, default=now_ms) if len(heard) == partitions else None

    def _beat(self, partition: int) -> Beat:
        return self._beats.setdefault(partition, Beat())

    # -- answering --------------------------------------------------------------------------------

    def check(
        self,
        customer: str,
        meter: str,
        quantity: int,
        now_ms: int,
        requests: int = 1,
        dimensions: dict[str, str] | None = None,
    ) -> Answer:
        """Whether the customer may use so much now: from memory, without a side effect."""
        gates = self._spots.get((customer, meter))
        if gates is None or quantity < 0 or requests < 0:
            return self._without_gates(customer, quantity, requests)
        clock = now_ms + self._skew
        found = ALLOWED
        for gate in gates:
            beat = gate.beat
            if beat.seen is None or (age := now_ms - beat.seen) > gate.reuse_ms:
                return self._stale(gate, gate.steps(quantity, requests), clock)
            if not gate.start <= clock < gate.until:
                gate.turn(clock)
            steps = requests * ONE if gate.is_requests else quantity
            is_behind = age > beat.fresh_ms and gate.is_short(steps, age)
            if is_behind or steps + gate.pending > gate.free:
                if dimensions and not gate.covers(dimensions):
                    continue
                answer = self._near(gate, (customer, meter), quantity, requests, now_ms)
                if is_behind and answer.verdict == "reserve" and steps + gate.pending <= gate.free:
                    return answer._replace(reason="behind")
                if answer is not _FREE:
                    return answer  # a lease holds in all limits
            elif gate.standing != "ok" and gate.card is not None:
                found = Answer("allow", gate.standing, gate.card.id)
        return found

    def policy(
        self, customer: str, meter: str, quantity: int, now_ms: int, requests: int = 1
    ) -> tuple[Verdict, str]:
        """What a meter's limits say when nobody can be asked, and which one; none: "deny"."""
        found: tuple[Verdict, str] = ("deny", "")
        for gate in self._spots.get((customer, meter), ()):
            if gate.card is not None:
                clock = now_ms + self._skew
                found = self._stale(gate, gate.steps(quantity, requests), clock)[0], gate.card.id
                if found[0] == "deny":
                    return found
        return found

    def check_many(self, wanted: Iterable[tuple[str, str, int]], now_ms: int) -> list[Answer]:
        """The answers to many questions at once; each by itself, as if the others did not ask."""
        spots, skew, slow = self._spots, self._skew, self.check
        clock = now_ms + skew
        found = []
        for customer, meter, quantity in wanted:
            gates = spots.get((customer, meter))
            if gates is not None and quantity >= 0:
                for gate in gates:
                    beat = gate.beat
                    if (
                        beat.seen is None
                        or (age := now_ms - beat.seen) > gate.reuse_ms
                        or age > beat.fresh_ms
                        or not gate.start <= clock < gate.until
                        or (ONE if gate.is_requests else quantity) + gate.pending > gate.free
                        or gate.standing != "ok"
                    ):
                        break
                else:
                    found.append(ALLOWED)
                    continue
            found.append(slow(customer, meter, quantity, now_ms))
        return found

    def _without_gates(self, customer: str, quantity: int, requests: int) -> Answer:
        if quantity < 0 or requests < 0:
            return _BAD
        if not self.is_ready:
            return _NOT_READY
        return _NEWER if customer in self._unreadable else _NO_LIMIT

    def _stale(self, gate: Gate, steps: int, clock: int) -> Answer:
        """The view is older than the limit allows, or nothing was heard yet: its policy answers.

        One that allows does so for this client's fair share of what was left.
        """
        if gate.beat.seen is None and not self.is_ready:
            return _NOT_READY
        assert gate.card is not None, "a spot has a card"
        if not gate.start <= clock < gate.until:
            gate.turn(clock)
        is_open = gate.card.when_stale == "allow" and gate.has_share(steps)
        return Answer("allow" if is_open else "deny", "stale", gate.card.id)

    def _near(self, gate: Gate, place: tuple[str, str], quantity: int, requests: int, now_ms: int) -> Answer:
        """In the strict zone or behind the limit: a lease, a reservation, or no."""
        assert gate.card is not None, "a spot has a card"
        steps = gate.steps(quantity, requests)
        if steps == 0:
            return _FREE
        lease = self._leases.fitting(place, quantity, requests, now_ms + self._skew)
        if lease:
            return Answer("allow", "lease", gate.card.id, lease)
        if gate.denied_version == gate.version and now_ms < gate.denied_until:
            return Answer("deny", "denied", gate.card.id, retry_after_ms=gate.denied_until - now_ms)
        if steps + gate.pending - gate.asked > gate.room:
            return Answer("deny", "limit_reached", gate.card.id)
        reason = "unknown" if gate.room == NO_BOUND else "strict_zone"
        return Answer("reserve", reason, gate.card.id)

    # -- leases -----------------------------------------------------------------------------------

    def ask(self, request: Reserve) -> Asked:
        """What is being asked for is not promised to others, until it is `answered`."""
        spots = self._spots.get((request.customer, request.meter), ())
        gates = tuple(g for g in spots if not request.dimensions or g.covers(request.dimensions))
        return ask(gates, int(request.quantity), request.requests)

    def give(self, customer: str, meter: str, reply: Reply, now_ms: int) -> None:
        """The application has a lease of its own: usage that it covers is held already."""
        self._leases.give((customer, meter), reply, now_ms + self._skew)

    def take_back(self, lease: str) -> None:
        """The application has given a lease back."""
        self._leases.take_back(lease)

    def take_reply(self, customer: str, meter: str, reply: Reply, now_ms: int) -> None:
        """Remember a lease, or a denial until the state changes or its time is over."""
        if reply.ok and reply.lease:
            self._leases.add((customer, meter), reply)
        elif not reply.ok:
            for gate in self._spots.get((customer, meter), ()):
                if gate.card is not None and gate.card.id == reply.limit:
                    gate.turn(now_ms + self._skew)
                    gate.denied_version, gate.denied_until = gate.version, now_ms + reply.retry_after_ms

    def too_small(self, customer: str, meter: str, quantity: int, requests: int = 1) -> list[tuple[str, int]]:
        """Leases whose rest does not fit, with what was used of each: to be committed; they are forgotten."""
        return self._leases.too_small((customer, meter), quantity, requests)

    # -- own usage --------------------------------------------------------------------------------

    def begin(
        self, customer: str, meter: str, quantity: int, requests: int = 1, lease: str = "", now_ms: int = 0
    ) -> Own:
        """Usage that is being sent: it counts here until a state includes it, or until it fails."""
        if self._leases.use((customer, meter), lease, quantity, requests, now_ms + self._skew):
            return Own((), quantity, requests)  # its hold is in the state, or in what was lent
        gates = self._spots.get((customer, meter), ())
        for gate in gates:
            gate.begin(gate.steps(quantity, requests))
        return Own(gates, quantity, requests)

    def delivered(self, own: Own, offset: int) -> None:
        """Kafka has it at this offset of the customer's partition."""
        own.offset = offset
        for gate in own.gates:
            gate.sent(own)

    def failed(self, own: Own) -> None:
        """It was not sent, and never will be."""
        for gate in own.gates:
            gate.failed(gate.steps(own.quantity, own.requests))
