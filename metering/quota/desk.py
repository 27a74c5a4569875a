"""What all quotas of a partition share: the stream's clock, the sequence, the agenda, what has changed.

Time is the broker's append time, never a clock of a machine. What is due is done in order of its time
before anything later is looked at, so the same log gives the same state however it was cut.
"""

import heapq
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from metering.quota.wire import EventKind, QuotaEvent, version
from metering.records import key


class Due(NamedTuple):
    """Something to do at an append time (epoch ms): the order is the fields'."""

    at: int
    what: str  # judge, lease, reply, forget, grants, limits
    account: str
    scope: str = ""
    name: str = ""
    start: int = 0


@dataclass
class Desk:
    """One partition's; `offset` is the next event's, `lag_ms` the delay that readers see."""

    partition: int
    epoch: int = 1
    lag_ms: int = 1_000
    clock: int = 0
    sequence: int = 0
    offset: int = 0
    is_urgent: bool = False
    events: list[QuotaEvent] = field(default_factory=list)
    changed: dict[tuple[Any, ...], Any] = field(default_factory=dict)  # what `take` has to write
    _agenda: list[Due] = field(default_factory=list)
    _planned: set[Due] = field(default_factory=set)

    def plan(self, due: Due) -> None:
        """Put something on the agenda, once."""
        if due not in self._planned:
            self._planned.add(due)
            heapq.heappush(self._agenda, due)

    def next_due(self, clock: int) -> Due | None:
        """Take what is due first, at the latest at `clock`; None when nothing is."""
        if not self._agenda or self._agenda[0].at > clock:
            return None
        due = heapq.heappop(self._agenda)
        self._planned.discard(due)
        return due

    @property
    def next_at(self) -> int | None:
        """When something is due next (epoch ms); None when nothing is planned."""
        return self._agenda[0].at if self._agenda else None

    def step(self) -> int:
        """The next sequence number: one for each input that changes something."""
        self.sequence += 1
        return self.sequence

    def stamp(self, sequence: int) -> str:
        """The version of a record, as text."""
        return str(version(self.epoch, sequence))

    def announce(self, event: EventKind, *identity: str | int, **fields: Any) -> None:
        """Put an event on `quota.events`; its id names what happened, so a replay repeats it.

        What may happen more than once is told apart by the sequence.
        """
        name = key(event, *identity).decode()
        record = QuotaEvent(id=name, event=event, at=self.clock, version=self.stamp(self.sequence), **fields)
        self.events.append(record)
        self.is_urgent = True
