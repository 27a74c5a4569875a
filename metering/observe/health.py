"""How a process is: starting, ready, degraded or dead; what each asks of whoever looks after it.

starting: wait. ready: it works. degraded: it works on, something outside is away; restarting helps
nothing. dead: start it again. A process whose loop stands still does not answer at all: dead, too.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

Status = Literal["starting", "ready", "degraded", "dead"]
STUCK_SECONDS = 60.0


class Health(NamedTuple):
    """A status, and why it is not `ready`."""

    status: Status
    reason: str = ""

    @property
    def is_live(self) -> bool:
        """Whether it should be left alone."""
        return self.status != "dead"

    @property
    def is_ready(self) -> bool:
        """Whether it does its work."""
        return self.status in ("ready", "degraded")


class Facts(NamedTuple):
    """What decides: seconds are since the last success, `away` names what does not answer."""

    is_stopping: bool
    is_assigned: bool
    is_loading: bool
    has_loaded: bool
    has_catalog: bool
    away: str = ""
    seconds_behind: float = 0.0


Ask = Callable[[], Facts]


def health_of(facts: Facts) -> Health:
    """The status that the facts add up to."""
    if facts.is_stopping:
        return Health("dead", "it is stopping, or has crashed")
    if not facts.has_catalog:
        return Health("starting", "no catalog yet: metering catalog publish DIR")
    if not facts.is_assigned:
        return Health("starting", "no partitions yet: the group is rebalancing, or the broker is away")
    if facts.is_loading:
        return Health("degraded" if facts.has_loaded else "starting", "states are being loaded")
    if facts.away:
        return Health("degraded", facts.away)
    if facts.seconds_behind > STUCK_SECONDS:
        return Health("degraded", f"nothing became durable for {facts.seconds_behind:.0f} s")
    return Health("ready")
