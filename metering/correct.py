"""Corrections of single events, made from the archive: what to send, and what it would change."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from metering.catalog.resolved import Catalog
from metering.errors import UserError
from metering.events import Refusal, UsageEvent, event_of
from metering.rating.money import MICRO, format_exact
from metering.rating.period import rate_period
from metering.rating.usage import HourUse
from metering.rating.windows import HOUR
from metering.records import HourlyTotal
from metering.rerate import read_usage
from metering.state import calendar
from metering.state.amendments import AMEND, VOID, measures_of
from metering.state.calendar import hour_of, period_of
from metering.state.measure import Measure
from metering.state.totals import Total, record_of, usage_of

_STATED = frozenset({"max", "min", "latest", "unique"})  # what cannot be subtracted from


class Change(NamedTuple):
    """One figure before and after a correction."""

    what: str
    before: str
    after: str


class Correction(NamedTuple):
    """The event to send, with its key, and what it changes."""

    customer: str
    event: dict[str, Any]
    changes: list[Change]


class Request(NamedTuple):
    """What a person asks for; `instead` None voids the event."""

    event_id: str
    customer: str
    source: str
    actor: str
    reason: str
    made_at: int  # epoch ms; part of the correction's own id
    instead: Mapping[str, Any] | None = None


def correct(client: Any, catalog: Catalog, wanted: Request) -> Correction:
    """The correction of an event that counts now; UserError when there is none, or several."""
    plain = _current(client, wanted)
    original = _event(plain)
    after = None if wanted.instead is None else _event({**plain, "data": dict(wanted.instead)})
    old, new = _measures(original, catalog), _measures(after, catalog)
    data: dict[str, Any] = {"event": plain, "actor": wanted.actor, "reason": wanted.reason}
    if wanted.instead is not None:
        data["instead"] = dict(wanted.instead)
    stated = [_without(client, catalog, original, one) for one in old if one.meter.aggregation in _STATED]
    if stated:
        data["restated"] = stated
    event = {
        "id": f"correction:{wanted.source}:{wanted.event_id}:{wanted.made_at}",
        "customer": original.customer,
        "source": "metering/correct",
        "type": VOID if wanted.instead is None else AMEND,
        "time": wanted.made_at,
        "data": data,
    }
    return Correction(original.customer, event, _changes(client, catalog, original, old, after, new))


def _current(client: Any, wanted: Request) -> dict[str, Any]:
    rows = client.query(
        "SELECT customer, source, type, toUnixTimestamp64Milli(time), data FROM audit_accepted"
        " WHERE id = {id:String} AND ({customer:String} = '' OR customer = {customer:String})"
        " AND ({source:String} = '' OR source = {source:String}) ORDER BY customer, source",
        parameters={"id": wanted.event_id, "customer": wanted.customer, "source": wanted.source},
    ).result_rows
    if not rows:
        raise UserError(
            f"no event `{wanted.event_id}` counts now",
            hint="was it refused or voided before? `metering events show` tells its story",
        )
    if len(rows) > 1:
        found = ", ".join(f"{customer} {source or '-'}" for customer, source, *_ in rows)
        raise UserError(f"several events have this id: {found}", hint="add --customer and --source")
    customer, source, kind, time, data = rows[0]
    plain = {"id": wanted.event_id, "customer": customer, "type": kind, "time": int(time)}
    return {**plain, "source": source, "data": json.loads(data)}


def _event(plain: Mapping[str, Any]) -> UsageEvent:
    found = event_of(dict(plain))
    if isinstance(found, Refusal):
        raise UserError(f"the event would be refused: {found.detail}", hint="correct its data")
    return found


def _measures(event: UsageEvent | None, catalog: Catalog) -> tuple[Measure, ...]:
    found = measures_of(event, catalog)
    if isinstance(found, Refusal):
        raise UserError(f"the event would be refused: {found.detail}", hint="correct its data")
    return found


def _without(client: Any, catalog: Catalog, original: UsageEvent, one: Measure) -> dict[str, Any]:
    """A total as it is without the event: counted again from the other events of its hour."""
    total = Total(one.meter.aggregation)
    for other in _others(client, original, one.meter.event_type):
        for found in _measures(other, catalog):
            if (found.meter.id, found.dimensions) == (one.meter.id, one.dimensions):
                total.add(found, other)
    hour = hour_of(original.at)
    record = record_of(total, original.customer, one.meter.id, one.dimensions, hour, "0")
    plain: dict[str, Any] = msgspec.to_builtins(record)
    kept: dict[str, Any] = {k: plain[k] for k in ("quantity", "events", "values", "last") if k in plain}
    digest = _digest(client, original.customer, one, hour)
    return {"meter": one.meter.id, "dimensions": dict(one.dimensions), **kept, "digest": digest}


def _others(client: Any, original: UsageEvent, event_type: str) -> Iterable[UsageEvent]:
    hour = hour_of(original.at)
    rows = client.query(
        "SELECT id, source, toUnixTimestamp64Milli(time), data FROM audit_accepted"
        " WHERE customer = {customer:String} AND type = {type:String}"
        " AND time >= toDateTime64({hour:UInt32}, 3, 'UTC') AND time < toDateTime64({next:UInt32}, 3, 'UTC')",
        parameters={"customer": original.customer, "type": event_type, "hour": hour, "next": hour + HOUR},
    ).result_rows
    for event_id, source, time, data in rows:
        if (event_id, source) != (original.id, original.source):
            plain = {"id": event_id, "source": source, "customer": original.customer, "type": event_type}
            yield _event({**plain, "time": int(time), "data": json.loads(data)})


def _digest(client: Any, customer: str, one: Measure, hour: int) -> str:
    rows = client.query(
        "SELECT digest FROM hourly_current WHERE customer = {customer:String} AND meter = {meter:String}"
        " AND toUnixTimestamp(hour) = {hour:UInt32} AND dimensions = {dimensions:String}",
        parameters={
            "customer": customer,
            "meter": one.meter.id,
            "hour": hour,
            "dimensions": json.dumps(dict(one.dimensions), sort_keys=True, ensure_ascii=False),
        },
    ).result_rows
    return str(rows[0][0]) if rows else ""


def _changes(
    client: Any,
    catalog: Catalog,
    original: UsageEvent,
    old: Iterable[Measure],
    after: UsageEvent | None,
    new: Iterable[Measure],
) -> list[Change]:
    """Quantities of the event, and charges of its period, before and after."""
    lost = {_name(m): format_exact(m.quantity, MICRO) for m in old}
    found = {_name(m): format_exact(m.quantity, MICRO) for m in new}
    changes = [Change(n, lost.get(n, "0"), found.get(n, "0")) for n in sorted(lost.keys() | found.keys())]
    members = catalog.members(catalog.account_of(original.customer))
    period = calendar.period(period_of(hour_of(original.at)))
    hours = list(range(period.starts, period.ends, HOUR))
    uses = [u for name in members for u in read_usage(client, hours, period, name)]
    before = _charges(rate_period(members, uses, period, closing=True).rows)
    moved = _moved(client, catalog, original, after, uses)
    then = _charges(rate_period(members, moved, period, closing=True).rows)
    for price in sorted(before.keys() | then.keys()):
        if before.get(price, 0) != then.get(price, 0):
            amounts = (format_exact(charges.get(price, 0), MICRO) for charges in (before, then))
            changes.append(Change(f"charge of {price}", *amounts))
    return changes


def _name(found: Measure) -> str:
    values = ", ".join(value for _, value in found.dimensions)
    return f"{found.meter.id} ({values})" if values else found.meter.id


def _charges(rows: Iterable[Any]) -> dict[str, int]:
    charges: dict[str, int] = {}
    for row in rows:
        charges[f"{row.customer} {row.price}"] = charges.get(f"{row.customer} {row.price}", 0) + row.amount
    return charges


def _moved(
    client: Any, catalog: Catalog, original: UsageEvent, after: UsageEvent | None, uses: list[HourUse]
) -> list[HourUse]:
    """The usage of the period with the event's hour counted again, without or with the new data."""
    hour = hour_of(original.at)
    totals: dict[tuple[str, Any], Total] = {}
    events = [*_others(client, original, original.type), *([after] if after is not None else [])]
    for event in events:
        for found in _measures(event, catalog):
            place = (found.meter.id, found.dimensions)
            totals.setdefault(place, Total(found.meter.aggregation)).add(found, event)
    meters = {meter.id for meter in catalog.meters_for(original.type)}
    kept = [u for u in uses if (u.customer, u.hour) != (original.customer, hour) or u.meter not in meters]
    for (meter, dimensions), total in totals.items():
        record: HourlyTotal = record_of(total, original.customer, meter, dimensions, hour, "0")
        kept.append(HourUse(hour, original.customer, meter, dimensions, usage_of(record)))
    return kept
