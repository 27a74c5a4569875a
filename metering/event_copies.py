"""Every copy of one event that Kafka ever held, what became of each, and what corrected it later."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from metering.errors import UserError
from metering.sinks.queries import Books
from metering.state.amendments import CORRECTIONS
from metering.state.dedupe import HORIZON_DAYS
from metering.state.late import APPROVE, QUARANTINED, UNRESTATED

NO_SOURCE = "-"  # how a person writes that an event has no source
_SHOWN = 5

Outcome = Literal["accepted", "duplicate", "refused", "waiting"]
Spot = tuple[str, int, int, int]  # topic, partition, offset, index in the envelope


class Identity(NamedTuple):
    """What makes two records the same event, besides the id."""

    customer: str
    source: str


class Copy(NamedTuple):
    """A copy of an event. `time` is epoch ms; it and `data` are missing when it could not be read.

    `backfill` is the one that sent it.
    """

    spot: Spot
    appended: datetime
    outcome: Outcome
    type: str
    time: int | None
    data: str
    reason: str = ""
    detail: str = ""
    state: str = ""
    backfill: str = ""


class Correction(NamedTuple):
    """What voided, amended, restored or approved an event.

    `instead` is the data that counts then; `counts_as` how an approval lets it count. `backfill` and its
    `step` are empty for the correction of a single event.
    """

    event_id: str
    type: str
    appended: datetime
    outcome: Outcome
    actor: str
    reason: str
    instead: dict[str, Any] | None
    counts_as: str = ""
    backfill: str = ""
    step: str = ""


class _Letter(NamedTuple):
    customer: str
    type: str
    appended: datetime
    reason: str
    detail: str
    state: str


_SPOT = "k_topic, k_partition, k_offset, k_index"
# Rows of one place are equal, so that FINAL is not needed; without it the index on ids is used.
_ARCHIVED = (
    f"SELECT {_SPOT}, customer, source, backfill, appended, type, toUnixTimestamp64Milli(time), data"
    " FROM events WHERE id = {id:String} AND ({customer:String} = '' OR customer = {customer:String})"
    f" ORDER BY {_SPOT} LIMIT 1 BY {_SPOT}"
)
_CORRECTIONS = (
    "SELECT DISTINCT id, source FROM events WHERE customer = {customer:String}"
    " AND type IN {types:Array(String)} AND JSONExtractString(data, 'event', 'id') = {id:String}"
    " AND JSONExtractString(data, 'event', 'source') = {source:String}"
)
_REFUSED = (
    f"SELECT {_SPOT}, customer, event_type, appended, reason, detail, state FROM rejected_letters"
    " WHERE event_id = {id:String} AND k_index >= -1"
    " AND ({customer:String} = '' OR customer = {customer:String})"
)


def copies_of(
    client: Any, event_id: str, customer: str = "", source: str = ""
) -> tuple[Identity, list[Copy]]:
    """The copies of the one event that has this id; UserError when there is none, or more than one."""
    parameters = {"id": event_id, "customer": customer}
    letters = {
        tuple(row[:4]): _Letter(*row[4:]) for row in client.query(_REFUSED, parameters=parameters).result_rows
    }
    found: defaultdict[Identity, list[Copy]] = defaultdict(list)
    for *spot, name, of, backfill, appended, kind, time, data in client.query(
        _ARCHIVED, parameters=parameters
    ).result_rows:
        letter = letters.pop(tuple(spot), None)
        copy = _copy(tuple(spot), appended, kind, int(time), data, letter)
        found[Identity(name, of)].append(copy._replace(backfill=backfill))
    for spot, letter in letters.items():
        unread = _copy(spot, letter.appended, letter.type, None, "", letter)
        found[_whose(letter.customer, found)].append(unread)
    identity = _the_one(event_id, found, source)
    return identity, _outcomes(found[identity], Books(client).folded())


def corrections_of(client: Any, event_id: str, identity: Identity) -> list[Correction]:
    """What let an event count, voided, amended or restored it, in the order in which it came."""
    place = {"id": event_id, "customer": identity.customer, "source": identity.source}
    types = [APPROVE, *CORRECTIONS]
    names = client.query(_CORRECTIONS, parameters={**place, "types": types}).result_rows
    found: list[tuple[datetime, Spot, Correction]] = []
    for name, source in names:
        _, copies = copies_of(client, name, identity.customer, source or NO_SOURCE)
        copy = next((c for c in copies if c.outcome == "accepted"), copies[-1])
        said = msgspec.json.decode(copy.data)
        actor, reason, counts_as, backfill, step = (
            str(said.get(field, "")) for field in ("actor", "reason", "as", "backfill", "step")
        )
        what = (name, copy.type, copy.appended, copy.outcome)
        made = Correction(*what, actor, reason, said.get("instead"), counts_as, backfill, step)
        found.append((copy.appended, copy.spot, made))
    return [made for _, _, made in sorted(found, key=lambda one: one[:2])]


def approved_copy(copies: list[Copy], corrections: list[Correction]) -> Copy | None:
    """The copy that waited and counts by an approval; None when there is none."""
    approved = any(c.type == APPROVE and c.outcome == "accepted" for c in corrections)
    return next((c for c in copies if c.reason in (QUARANTINED, UNRESTATED)), None) if approved else None


def _copy(
    spot: Any, appended: datetime, kind: str, time: int | None, data: str, letter: _Letter | None
) -> Copy:
    if letter is None:
        return Copy(spot, appended, "accepted", kind, time, data)
    return Copy(spot, appended, "refused", kind, time, data, letter.reason, letter.detail, letter.state)


def _whose(customer: str, found: Mapping[Identity, Any]) -> Identity:
    """The event that an unreadable copy belongs to: its source is not known."""
    same = [identity for identity in found if identity.customer == customer]
    return same[0] if len(same) == 1 else Identity(customer, "")


def _the_one(event_id: str, found: Mapping[Identity, Any], source: str) -> Identity:
    wanted = "" if source == NO_SOURCE else source
    known = [identity for identity in found if not source or identity.source == wanted]
    if len(known) == 1:
        return known[0]
    if known:
        these = "; ".join(
            f"--customer {i.customer or NO_SOURCE} --source {i.source or NO_SOURCE}"
            for i in sorted(known)[:_SHOWN]
        )
        raise UserError(f"`{event_id}` is the id of {len(known)} events", hint=f"say which: {these}")
    raise UserError(
        f"no event `{event_id}` is in the books" + (" of this customer and source" if found else ""),
        hint="is the id written as it was sent? Sent just now, it waits for the sink: `metering status`",
    )


def _outcomes(copies: list[Copy], folded: Mapping[int, int]) -> list[Copy]:
    """The first copy that was not refused counts; others are duplicates while its id is remembered."""
    made, counted = [], None
    for copy in sorted(copies, key=lambda c: (c.appended, c.spot)):
        _, partition, offset, _ = copy.spot
        if copy.outcome != "refused":
            if offset >= folded.get(partition, 0):
                copy = copy._replace(outcome="waiting")  # the worker has not come to it
            elif counted is not None and (copy.appended.date() - counted).days <= HORIZON_DAYS:
                copy = copy._replace(outcome="duplicate")
            else:
                counted = copy.appended.date()
        made.append(copy)
    return made
