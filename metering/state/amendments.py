"""Corrections of single events: void takes one back, amend gives it other data, restore lets it count again.

A correction is an event of the customer, with an id of its own, and carries the whole original: so the
fold needs no archive, and proves by the original's content that it corrects what was counted. Who, why
and when travel with it; nothing is deleted.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from metering.catalog.resolved import Catalog
from metering.events import Refusal, UsageEvent, event_of
from metering.rating.usage import Dimensions
from metering.state.measure import Measure, measure

VOID, AMEND, RESTORE = "metering.void", "metering.amend", "metering.restore"
CORRECTIONS = (VOID, AMEND, RESTORE)
BACKFILL = "metering.backfill"  # says who backfills what, and why; it counts nothing itself
RESERVED = "metering."  # event types of our own


class Amendment(NamedTuple):
    """A correction that can be read: the original, and what stands in its place (None: nothing).

    The original is what counts now; of a restored event, which counts nowhere, what was sent first.
    """

    original: UsageEvent
    instead: UsageEvent | None
    restated: dict[tuple[str, Dimensions], Mapping[str, Any]]
    restores: bool = False


def read_amendment(event: UsageEvent) -> Amendment | Refusal:
    """What a correction says, or why it cannot be used."""
    data = event.data or {}
    refusal = _unsigned(event, "actor", "reason")
    if refusal is not None:
        return refusal
    original = event_of(data.get("event"))
    if isinstance(original, Refusal):
        return _bad(event, f"`data.event` must be the event as it was sent: {original.detail}")
    if original.customer != event.customer or original.type.startswith(RESERVED):
        return _bad(event, "`data.event` must be a usage event of the same customer.")
    if event.type == VOID:
        return Amendment(original, None, _restated(data))
    if not isinstance(data.get("instead"), dict):
        return _bad(event, "`data.instead` must be the event's new `data`.")
    instead = UsageEvent(
        id=original.id,
        source=original.source,
        type=original.type,
        customer=original.customer,
        data=data["instead"],
        at=original.at,
    )
    return Amendment(original, instead, _restated(data), event.type == RESTORE)


def unusable_manifest(event: UsageEvent) -> Refusal | None:
    """Why the record of a backfill cannot be used."""
    return _unsigned(event, "actor", "reason", "backfill")


def _unsigned(event: UsageEvent, *fields: str) -> Refusal | None:
    data = event.data or {}
    for field in fields:
        if not isinstance(data.get(field), str) or not data[field]:
            return _bad(event, f"`data.{field}` is missing: a correction says who made it, and why.")
    return None


def _restated(data: Mapping[str, Any]) -> dict[tuple[str, Dimensions], Mapping[str, Any]]:
    """Totals as they are without the original, for meters that cannot be subtracted from."""
    found: dict[tuple[str, Dimensions], Mapping[str, Any]] = {}
    for one in data.get("restated") or []:
        if isinstance(one, dict) and isinstance(one.get("dimensions", {}), dict):
            dimensions = tuple((str(k), str(v)) for k, v in one.get("dimensions", {}).items())
            found[str(one.get("meter")), dimensions] = one
    return found


def _bad(event: UsageEvent, detail: str) -> Refusal:
    return Refusal("bad_correction", detail, event.customer, event.id, event.type)


def measures_of(event: UsageEvent | None, catalog: Catalog) -> tuple[Measure, ...] | Refusal:
    """What an event counts for; nothing for the place of one that was voided."""
    return () if event is None else measure(event, catalog)
