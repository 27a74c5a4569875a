"""Leases: usage that was promised to a client. Metering is the only counter; a lease only holds.

An event that carries its lease shrinks the hold. A client may use its lease for the validity; the hold
lasts twice as long, so that what was used in time is still covered when it is metered.
"""

import re
from dataclasses import dataclass
from typing import Literal

import msgspec

from metering.quota.limits import ONE, Dimensions

SHORTEST_MS = 1_000
LONGEST_MS = 600_000
REPLY_KEPT_MS = 600_000  # how long a repeated request gets the same reply
_INTEGER = re.compile(r"-?[0-9]{1,40}")

Ended = Literal["", "done", "released", "expired"]


@dataclass(slots=True)
class Lease:
    """`granted` micro-units and `requests` for a client; `held` is what is not yet metered of them.

    Times are append times (epoch ms): the client's end, and the hold's.
    """

    id: str
    client: str
    customer: str
    meter: str
    dimensions: Dimensions
    granted: int
    requests: int
    held: int
    held_requests: int
    opened: int
    expires: int
    ends: int
    ended: Ended = ""
    n: int = 0
    used: int = 0

    @property
    def is_live(self) -> bool:
        """Whether it may still be used."""
        return not self.ended

    def take(self, quantity: int, requests: int) -> tuple[int, int]:
        """Shrink the hold by metered usage; what it shrank by."""
        units = min(self.held, max(0, quantity))
        calls = min(self.held_requests, max(0, requests))
        self.held -= units
        self.held_requests -= calls
        return units, calls

    def saved(self) -> bytes:
        """The lease as an entry of the journal."""
        return msgspec.msgpack.encode(
            (
                *(self.id, self.client, self.customer, self.meter, self.dimensions, str(self.granted)),
                *(self.requests, str(self.held), self.held_requests, self.opened, self.expires, self.ends),
                *(self.ended, self.n, str(self.used)),
            )
        )

    @classmethod
    def restored(cls, raw: bytes) -> "Lease":
        """The lease of an entry."""
        name, client, customer, meter, dimensions, granted, requests, held, *rest = msgspec.msgpack.decode(
            raw
        )
        calls, opened, expires, ends, ended, n, used = rest
        pairs = tuple((key, value) for key, value in dimensions)
        return cls(
            *(name, client, customer, meter, pairs, int(granted), requests, int(held), calls),
            *(opened, expires, ends, ended, n, int(used)),
        )


def quantity_of(text: str) -> int | None:
    """An amount on the wire; None when it is none or below zero."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if value >= 0 else None


def block(want: int, least: int, room: int | None, clients: int, step: int) -> int:
    """How much to grant of what is wanted: a block that shrinks towards the limit, min(want, room/2N).

    At least `least`; 0 when not even that fits.
    """
    if room is None:
        return want
    share = room // (2 * clients) // step * step
    granted = min(want, max(share, least, min(step, want)))
    return granted if granted <= room else 0


def calls(want: int, room: int | None, clients: int) -> int:
    """The same in requests; `room` in 10^-6."""
    return want if want == 0 else block(want * ONE, ONE, room, clients, ONE) // ONE
