"""The wire format of usage events: a whole batch of Kafka values in, events and refusals out.

Three forms are read, told apart by their fields, never by configuration:

- CloudEvents 1.0 JSON: `specversion`, `id`, `source`, `type`, `subject` (the customer), `time`, `data`
- flat: `id`, `customer`, `type`, `time`, `data`, and optionally `source`
- an envelope: a JSON array of 1 to 1,000 of them

`time` is RFC 3339 with a zone, or epoch milliseconds. JSON numbers with a fraction become `Decimal`
from their digits, so no quantity passes through a float.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

ENVELOPE_LIMIT = 1_000
NAME_LIMIT = 256  # characters of an id, source, type or customer
TICK_TYPE = "metering.tick"  # appended by the owner of an idle partition; see state/meter_fold.py

_NAMES = ("id", "source", "type", "customer")
SENDERS = ("backfill", "lease")  # what says how an event came, not what it says
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LATEST_MS = 253_402_300_799_999  # 9999-12-31, the last instant a datetime can hold


class UsageEvent(msgspec.Struct, gc=False):
    """One usage event after `decode_values`: `customer` and `at` (epoch ms) are always filled.

    `backfill` names the backfill that sends it, `lease` the reservation that covers it: no part of what it
    says. `data` holds str, int, Decimal, bool, None, lists and dicts; never a float.
    """

    id: str = ""
    source: str = ""
    type: str = ""
    subject: str = ""
    customer: str = ""
    time: datetime | int | None = None
    data: dict[str, Any] | None = None
    specversion: str = ""
    at: int = 0
    backfill: str = ""
    lease: str = ""


class Refusal(NamedTuple):
    """Why an event is not counted: a reason code, and one sentence that says what to fix."""

    reason: str
    detail: str
    customer: str = ""
    event_id: str = ""
    event_type: str = ""


class Item(NamedTuple):
    """One event of a batch: which value it is in, its place in an envelope (-1: none)."""

    value: int
    place: int
    event: UsageEvent | Refusal
    raw: bytes


FLOATS = Decimal  # what a JSON number with a fraction becomes
UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError, ArithmeticError)
_whole = msgspec.json.Decoder(UsageEvent | list[msgspec.Raw], float_hook=FLOATS)
_single = msgspec.json.Decoder(UsageEvent, float_hook=FLOATS)


def decode_values(values: Sequence[bytes | None]) -> Iterator[Item]:
    """Decode the values of a fetch batch in order; each event or broken value yields one `Item`."""
    decoded = _decode_together(values) if values else []
    for number, (value, what) in enumerate(zip(values, decoded, strict=True)):
        raw = value or b""
        if isinstance(what, list):
            yield from _open_envelope(number, raw, what)
        else:
            yield Item(number, -1, what if isinstance(what, Refusal) else _normal(what), raw)


def are_objects(values: Sequence[bytes | None]) -> bool:
    """Whether each value begins and ends as an object or an array does.

    Then they can be decoded in one call, as lines: a line break is legal JSON white space but not legal
    inside a JSON string, and values with brackets cannot run into each other. So an equal count proves
    that each line is its own value.
    """
    return all(v and v[0] in b"{[" and v[-1] in b"}]" for v in values)


def _decode_together(
    values: Sequence[bytes | None],
) -> Sequence[UsageEvent | list[msgspec.Raw] | Refusal]:
    try:
        if are_objects(values):
            together = _whole.decode_lines(b"\n".join(values))  # type: ignore[arg-type]  # no None here
            if len(together) == len(values):
                return together
    except UNDECODABLE:
        pass  # at least one value is broken: find out which
    return [_decode_alone(value) for value in values]


def _decode_alone(value: bytes | None) -> UsageEvent | list[msgspec.Raw] | Refusal:
    if not value or not value.strip():
        return Refusal("empty", "The record has no value; send one JSON object or an array of them.")
    try:
        decoded: UsageEvent | list[msgspec.Raw] = _whole.decode(value)
        return decoded
    except UNDECODABLE as error:
        return _explain(value, error)


def _explain(value: bytes, error: Exception) -> Refusal:
    if isinstance(error, UnicodeDecodeError):
        return Refusal("not_utf8", f"The record is not UTF-8 ({error.reason}); encode JSON as UTF-8.")
    if isinstance(error, msgspec.ValidationError):
        return _name(value, Refusal("wrong_type", f"{error}; see the wire format for its type."))
    if isinstance(error, RecursionError):
        return Refusal("not_json", "The JSON is nested too deeply; send a flat `data` object.")
    return Refusal("not_json", f"{error}; send one JSON object or an array of up to 1,000.")


def _name(value: bytes, refusal: Refusal) -> Refusal:
    """Add what can still be read of who sent it, so that a person can find it."""
    try:
        loose = msgspec.json.decode(value)
    except UNDECODABLE:
        return refusal
    if not isinstance(loose, dict):
        return refusal
    text = {k: v for k, v in loose.items() if isinstance(v, str) and len(v) <= NAME_LIMIT}
    return refusal._replace(
        customer=text.get("subject" if "specversion" in loose else "customer", ""),
        event_id=text.get("id", ""),
        event_type=text.get("type", ""),
    )


def event_of(plain: object) -> UsageEvent | Refusal:
    """A usage event from plain values, e.g. one that another event carries."""
    try:
        return _normal(msgspec.convert(plain, UsageEvent))
    except (msgspec.ValidationError, ValueError) as error:
        return Refusal("wrong_type", f"{error}; see the wire format.")


def _open_envelope(number: int, raw: bytes, parts: list[msgspec.Raw]) -> Iterator[Item]:
    if not 0 < len(parts) <= ENVELOPE_LIMIT:
        refusal = Refusal(
            "envelope_size",
            f"The envelope holds {len(parts):,} events; send 1 to {ENVELOPE_LIMIT:,} in one record.",
        )
        yield Item(number, -1, refusal, raw)
        return
    for index, part in enumerate(parts):
        body = bytes(part)
        try:
            yield Item(number, index, _normal(_single.decode(body)), body)
        except UNDECODABLE as error:
            yield Item(number, index, _explain(body, error), body)


def _normal(event: UsageEvent) -> UsageEvent | Refusal:
    """Fill `customer` and `at` from either form, or say what is missing."""
    if event.specversion:
        event.customer = event.subject
    problem = _missing(event) or _unusable_name(event) or _set_time(event)
    if problem is None:
        return event
    return problem._replace(
        customer=event.customer[:NAME_LIMIT],
        event_id=event.id[:NAME_LIMIT],
        event_type=event.type[:NAME_LIMIT],
    )


def _missing(event: UsageEvent) -> Refusal | None:
    if event.id and event.type and event.customer and event.data is not None and event.time is not None:
        return None
    customer = "subject" if event.specversion else "customer"
    fields = {
        "id": event.id,
        "type": event.type,
        customer: event.customer,
        "time": event.time is not None,
        "data": event.data is not None,
    }
    names = ", ".join(f"`{name}`" for name, value in fields.items() if not value)
    return Refusal("missing_field", f"The event lacks {names}; every event needs them.")


def _unusable_name(event: UsageEvent) -> Refusal | None:
    for field in _NAMES if not (event.backfill or event.lease) else _NAMES + SENDERS:
        text: str = getattr(event, field)
        if len(text) > NAME_LIMIT or not (text.isprintable() or not text):
            return Refusal(
                "unusable_name",
                f"`{field}` must be up to {NAME_LIMIT} printable characters, without control codes.",
            )
    return None


def _set_time(event: UsageEvent) -> Refusal | None:
    time = event.time
    if isinstance(time, datetime):
        if time.tzinfo is None:
            return Refusal("time_without_zone", "`time` has no zone; end it with Z or an offset.")
        event.at = (time - _EPOCH) // _MILLISECOND
    elif isinstance(time, int):
        event.at = time
    if not 0 <= event.at <= _LATEST_MS:
        return Refusal("time_out_of_range", f"`time` {time} is not an instant from 1970 to 9999 in epoch ms.")
    return None
