"""Late usage that waits for a person: it came when its period was closed, and a meter does not adjust.

The event is a dead letter that keeps its bytes; what is remembered here is its identity and content, so
that an approval counts exactly what was held, and once. An approval is an event of the customer
(`metering.approve`) that carries the original, who approves, why, and as what: so a replay counts the
same. It is possible until the period is beyond correction.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from metering.catalog.models import LatePolicy
from metering.events import Refusal, UsageEvent, event_of
from metering.records import Approved
from metering.state.amendments import RESERVED
from metering.state.calendar import hour_of, period_of
from metering.state.dedupe import content_of, identity_of
from metering.state.fold import Entry
from metering.state.measure import Measure, refuse

APPROVE = "metering.approve"
QUARANTINED, UNRESTATED = "late_quarantined", "late_restatement"  # reasons of letters that wait
HELD = b"held:"  # in front of an identity; totals have JSON arrays as keys
_STRICTER: tuple[LatePolicy, ...] = ("adjust", "restate", "quarantine")
_LONGEST_REASON = 1_000


class Approval(NamedTuple):
    """An approval that can be read: the event as it was held, and whether its period is restated."""

    original: UsageEvent
    restates: bool
    approved: Approved


def read_approval(event: UsageEvent) -> Approval | Refusal:
    """What an approval says, or why it cannot be used."""
    data = event.data or {}
    for field in ("actor", "reason"):
        text = data.get(field)
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_REASON:
            detail = f"`data.{field}` must be text of 1 to {_LONGEST_REASON:,} characters: who approves, why."
            return refuse(event, "bad_approval", detail)
    if data.get("as") not in ("adjustment", "restatement"):
        return refuse(event, "bad_approval", "`data.as` must be `adjustment` or `restatement`.")
    original = event_of(data.get("event"))
    if isinstance(original, Refusal):
        return refuse(
            event, "bad_approval", f"`data.event` must be the event as it was sent: {original.detail}"
        )
    if original.customer != event.customer or original.type.startswith(RESERVED):
        return refuse(event, "bad_approval", "`data.event` must be a usage event of the same customer.")
    approved = Approved(original.id, original.source, data["actor"], data["reason"], event.at)
    return Approval(original, data["as"] == "restatement", approved)


class _Waiting(NamedTuple):
    content: int
    period: str


class Held:
    """The late events that wait, by identity; every change is an entry for the journal."""

    def __init__(self) -> None:
        self._held: dict[bytes, _Waiting] = {}
        self._changed: set[bytes] = set()

    def hold(self, event: UsageEvent, identity: bytes, measures: Sequence[Measure]) -> Refusal | None:
        """Refuse an event of a closed period, if a meter of it wants that: the strictest decides.

        Each copy is a letter of its own, so that none is counted by itself.
        """
        strictest = max(measures, key=lambda m: _STRICTER.index(m.meter.late), default=None)
        if strictest is None or strictest.meter.late == "adjust":
            return None
        content, period = content_of(event), period_of(hour_of(event.at))
        held = self._held.get(identity)
        if held is not None and held.content != content:
            text = f"Event `{event.id}` came before with another type, time or data; the first copy waits."
            return refuse(event, "conflict", text)
        if held is None:
            self._held[identity] = _Waiting(content, period)
            self._changed.add(identity)
        closed = f"Billing period {period} is closed, and late usage of meter `{strictest.meter.id}` waits"
        if strictest.meter.late == "restate":
            text = f"{closed} for an approval to restate it: `metering late list`."
            return refuse(event, "late_restatement", text)
        text = f"{closed} in quarantine: approve it (`metering late list`), or discard the letter."
        return refuse(event, "late_quarantined", text)

    def missing(self, event: UsageEvent, original: UsageEvent) -> Refusal | None:
        """Why an approval is of nothing that waits."""
        held = self._held.get(identity_of(original))
        if held is None:
            return refuse(event, "unknown_event", f"No late event `{original.id}` waits for an approval.")
        if held.content != content_of(original):
            text = f"`data.event` differs from the event `{original.id}` that waits: send it as it came."
            return refuse(event, "bad_approval", text)
        return None

    def release(self, original: UsageEvent) -> None:
        """Forget an event that counts by now."""
        identity = identity_of(original)
        del self._held[identity]
        self._changed.add(identity)

    def take(self, is_final: Callable[[str], bool], upto: int) -> list[Entry]:
        """The entries changed since the last call; what can no longer be corrected is dropped."""
        for identity in [i for i, held in self._held.items() if is_final(held.period)]:
            del self._held[identity]
            self._changed.add(identity)
        changed, self._changed = sorted(self._changed), set()
        return [Entry(HELD + i, _value(self._held.get(i)), upto) for i in changed]

    def restore(self, place: bytes, value: bytes) -> bool:
        """Take back an entry; False when it is not one of these."""
        if not place.startswith(HELD):
            return False
        self._held[place.removeprefix(HELD)] = msgspec.msgpack.decode(value, type=_Waiting)
        return True


def _value(held: _Waiting | None) -> bytes | None:
    return None if held is None else msgspec.msgpack.encode(held)
