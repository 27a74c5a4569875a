"""The events that a plan is sent as: its own record for each customer, corrections, new usage events."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from metering.backfill.archive import plain_of
from metering.backfill.plan import Operation, Plan
from metering.backfill.request import Identity, identity
from metering.catalog.resolved import Catalog
from metering.events import Refusal, UsageEvent
from metering.rating.usage import Dimensions
from metering.records import HourlyTotal
from metering.state.amendments import AMEND, BACKFILL, RESTORE, VOID
from metering.state.calendar import hour_of
from metering.state.dedupe import digest_of, fingerprint
from metering.state.measure import Measure, measure
from metering.state.totals import DIGESTS, Total, record_of

SOURCE = "metering/backfill"
Step = Literal["apply", "revert"]
_TYPES = {"void": VOID, "amend": AMEND, "restore": RESTORE}
_STATED = frozenset({"max", "min", "latest"})
# Digits stay as they are: a Decimal is written as a JSON number, as it was sent.
_encode = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode


class Stamp(NamedTuple):
    """What every record of one step of a backfill says; `made_at` is epoch ms."""

    backfill: str
    step: Step
    actor: str
    reason: str
    made_at: int


def manifest(stamp: Stamp, customer: str, facts: Mapping[str, Any]) -> bytes:
    """The record that stands in front of a customer's part: who, why, and how much of what."""
    data = {"backfill": stamp.backfill, "step": stamp.step, "actor": stamp.actor, "reason": stamp.reason}
    return _encode(
        {
            "id": f"{stamp.backfill}:{stamp.step}",
            "customer": customer,
            "source": SOURCE,
            "type": BACKFILL,
            "time": stamp.made_at,
            "data": {**data, **facts},
        }
    )


def records_of(stamp: Stamp, plan: Plan, counted: Iterable[UsageEvent], catalog: Catalog) -> list[bytes]:
    """The records of a plan, in its order; `counted` are all events of the hours that it touches."""
    hours = _Hours(catalog, counted)
    return [_record(stamp, operation, hours) for operation in plan.operations]


def _record(stamp: Stamp, operation: Operation, hours: "_Hours") -> bytes:
    event = operation.event
    if operation.kind == "add":
        hours.add(event)
        # The bytes of the file stay as they are, behind one more field.
        return b'{"backfill":"%s",' % stamp.backfill.encode() + operation.raw.lstrip()[1:]
    data: dict[str, Any] = {"event": plain_of(event), "actor": stamp.actor, "reason": stamp.reason}
    if operation.instead is not None:
        data["instead"] = operation.instead
    restated = hours.take(event) if operation.kind != "restore" else []
    if operation.instead is not None:
        hours.add(msgspec.structs.replace(event, data=operation.instead))
    if restated:
        data["restated"] = restated
    return _encode(
        {
            "id": f"{stamp.backfill}:{stamp.step}:{fingerprint(*identity(event)).hex()}",
            "customer": event.customer,
            "source": SOURCE,
            "type": _TYPES[operation.kind],
            "time": stamp.made_at,
            "data": {**data, "backfill": stamp.backfill, "step": stamp.step},
        }
    )


_Place = tuple[str, str, Dimensions, int]


class _Hours:
    """Totals that cannot be subtracted from, as they are while one record follows another."""

    def __init__(self, catalog: Catalog, counted: Iterable[UsageEvent]) -> None:
        self._catalog = catalog
        self._totals: dict[_Place, Total] = {}
        self._events: defaultdict[_Place, dict[Identity, tuple[Measure, UsageEvent]]] = defaultdict(dict)
        for event in counted:
            self.add(event)

    def _measured(self, event: UsageEvent) -> list[tuple[_Place, Measure]]:
        found = measure(event, self._catalog)
        if isinstance(found, Refusal):
            return []  # the fold refuses it too, and says why
        return [
            ((event.customer, one.meter.id, one.dimensions, hour_of(event.at)), one)
            for one in found
            if one.meter.aggregation in _STATED
        ]

    def add(self, event: UsageEvent) -> None:
        """Count an event."""
        for place, one in self._measured(event):
            total = self._totals.setdefault(place, Total(one.meter.aggregation))
            total.add(one, event)
            total.digest = (total.digest + _digest(event)) % DIGESTS
            self._events[place][identity(event)] = (one, event)

    def take(self, event: UsageEvent) -> list[dict[str, Any]]:
        """Take an event away; the totals that have to be stated, because they cannot lose it."""
        stated = []
        for place, one in self._measured(event):
            total = self._totals[place]
            before = f"{total.digest:016x}"
            del self._events[place][identity(event)]
            if not total.take_back(one, event):
                self._totals[place] = total = self._without(place, total)
                stated.append(_statement(place, total, before))
            total.digest = (total.digest - _digest(event)) % DIGESTS
        return stated

    def _without(self, place: _Place, total: Total) -> Total:
        made = Total(total.kind)
        for one, event in self._events[place].values():
            made.add(one, event)
        made.digest = total.digest
        return made


def _digest(event: UsageEvent) -> int:
    return digest_of(fingerprint(*identity(event)))


def _statement(place: _Place, total: Total, before: str) -> dict[str, Any]:
    customer, meter, dimensions, hour = place
    record: HourlyTotal = record_of(total, customer, meter, dimensions, hour, "0")
    plain: dict[str, Any] = msgspec.to_builtins(record)
    kept: dict[str, Any] = {k: plain[k] for k in ("quantity", "events", "values", "last") if k in plain}
    return {"meter": meter, "dimensions": dict(dimensions), **kept, "digest": before}
