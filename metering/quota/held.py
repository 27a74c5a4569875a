"""What the owner holds for one client, or was asked to hold: leases, and reservations without an answer."""

from collections.abc import Sequence
from typing import NamedTuple

from metering.quota.gate import Gate
from metering.quota.limits import ONE
from metering.quota.wire import Reply, Unseen

Place = tuple[str, str]  # customer, meter
_SMALLEST_ROOM = 64  # leases


class _Lease:
    """A lease that this client may use."""

    def __init__(self, reply: Reply) -> None:
        self.id = reply.lease
        self.granted = self.rest = int(reply.granted)
        self.requests = reply.requests
        self.expires = reply.expires


class Leases:
    """The leases of a client; quantities in micro-units, times as the owner tells them (epoch ms)."""

    def __init__(self) -> None:
        self._held: dict[Place, list[_Lease]] = {}
        self._given: dict[str, tuple[Place, _Lease]] = {}  # to the application, which says when it uses them
        self._room = _SMALLEST_ROOM

    def add(self, place: Place, reply: Reply) -> None:
        """Remember what was granted."""
        self._held.setdefault(place, []).append(_Lease(reply))

    def fitting(self, place: Place, quantity: int, requests: int, clock: int) -> str:
        """The lease that covers so much; empty when none does."""
        leases = self._held.get(place)
        if not leases:
            return ""
        leases[:] = [held for held in leases if held.expires > clock and (held.rest or held.requests)]
        fits = (held.id for held in leases if held.rest >= quantity and held.requests >= requests)
        return next(fits, "")

    def give(self, place: Place, reply: Reply, clock: int) -> None:
        """Remember a lease that the application uses as it likes; what is over is forgotten now and then."""
        if len(self._given) >= self._room:
            self._given = {name: one for name, one in self._given.items() if one[1].expires > clock}
            self._room = max(_SMALLEST_ROOM, 2 * len(self._given))
        self._given.setdefault(reply.lease, (place, _Lease(reply)))  # a repeated reply gives nothing more

    def take_back(self, lease: str) -> None:
        """Nothing is covered by a lease any more."""
        if lease in self._given:
            self._given[lease][1].expires = 0

    def use(self, place: Place, lease: str, quantity: int, requests: int, clock: int) -> bool:
        """Take from a lease; False when it is not here, is over, or does not cover all of it."""
        for held in self._held.get(place, ()):
            if held.id == lease:
                held.rest -= quantity
                held.requests -= requests
                return True
        if lease not in self._given:
            return False
        of, given = self._given[lease]
        if of != place or given.expires <= clock or given.rest < quantity or given.requests < requests:
            return False
        given.rest -= quantity
        given.requests -= requests
        return True

    def too_small(self, place: Place, quantity: int, requests: int) -> list[tuple[str, int]]:
        """Leases whose rest does not fit, with what was used of each; they are forgotten."""
        held = self._held.get(place, [])
        small = [one for one in held if one.rest < quantity or one.requests < requests]
        held[:] = [one for one in held if one not in small]
        return [(one.id, one.granted - one.rest) for one in small]


class Asked(NamedTuple):
    """A reservation that is not answered yet; micro-units and requests."""

    gates: tuple[Gate, ...]
    quantity: int
    requests: int
    unseen: Unseen | None


def ask(gates: tuple[Gate, ...], quantity: int, requests: int) -> Asked:
    """Leave room in the gates for what is being asked for, until it is answered."""
    asked = Asked(gates, quantity, requests, _unseen(gates))
    for gate in gates:
        gate.ask(gate.steps(quantity, requests))
    return asked


def answered(asked: Asked, reply: Reply | None) -> None:
    """Take a reply, or None when nobody waits for it any more; a lease takes room until a state holds it."""
    for gate in asked.gates:
        gate.ask(-gate.steps(asked.quantity, asked.requests))
        if reply is not None and reply.lease:
            gate.lend(int(reply.version), gate.steps(int(reply.granted), reply.requests))


def _unseen(gates: Sequence[Gate]) -> Unseen | None:
    """What an owner must leave room for if it has not come so far in the log of usage."""
    units = max((gate.loose for gate in gates if not gate.is_requests), default=0)
    requests = max((gate.loose for gate in gates if gate.is_requests), default=0) // ONE
    if not units and not requests:
        return None
    ends = [gate.loose_until for gate in gates]
    return Unseen(str(units), requests, -1 if -1 in ends else max(ends))
