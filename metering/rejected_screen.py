"""How dead letters look on a terminal, and as JSON."""

import base64
from collections import Counter
from datetime import datetime
from typing import Any

import msgspec
from rich.table import Column

from metering.console import Table, console, literal
from metering.redrive import Forecast
from metering.rejected import STATES, Action, Letter, State

SHOWN = 30
_OUTCOMES = {
    "counts": "would count",
    "duplicate": "would be a duplicate",
    "refused": "would be refused again",
}


def show_letters(found: list[Letter], counts: dict[str, dict[State, int]], events_topic: str) -> None:
    """Letters, and how many there are by reason and state."""
    table = Table("Letter", "Appended (UTC)", "State", "Reason", "Customer", "Event", "Type")
    for x in found:
        place = x.place.named(events_topic)
        outside = (literal(text) for text in (x.customer, x.event_id, x.event_type))
        table.add_row(place, f"{x.appended:%Y-%m-%d %H:%M:%S}", x.state, x.reason, *outside)
    if found:
        console.print(table)
    show_counts(counts)
    total = sum(sum(states.values()) for states in counts.values())
    if len(found) < total:
        console.print(f"{len(found):,} of {total:,} are shown; narrow the filter, or raise --limit")


def show_counts(counts: dict[str, dict[State, int]]) -> None:
    """How many letters there are by reason and state."""
    if not counts:
        console.print("no dead letters")
        return
    table = Table("Reason", *(Column(state.title(), justify="right") for state in STATES))
    for reason, states in counts.items():
        table.add_row(reason, *(f"{states[state]:,}" for state in STATES))
    console.print(table)


def show_whole(found: Letter, payload: bytes, actions: list[Action]) -> None:
    """One letter with everything that is known of it."""
    place = found.place
    within = f", event {place.within} of its envelope" if place.within >= 0 else ""
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("place", f"{place.topic}, partition {place.partition}, offset {place.offset}{within}"),
        ("appended", f"{found.appended:%Y-%m-%d %H:%M:%S.%f} UTC"),
        ("state", found.state),
        ("reason", found.reason),
        ("detail", found.detail),
        ("customer", found.customer or "-"),
        ("event", found.event_id or "-"),
        ("type", found.event_type or "-"),
    ):
        table.add_row(name, literal(value))
    console.print(table)
    for action in actions:
        console.print(literal(action_words(action)), soft_wrap=True)
    console.print(f"payload, {len(payload):,} bytes:")
    console.print(literal(_pretty(payload)), soft_wrap=True)


def action_words(action: Action) -> str:
    """What somebody did about a letter, as a sentence."""
    sent = f", now at {action.sent_partition}:{action.sent_offset}" if action.sent_offset >= 0 else ""
    because = f": {action.reason}" if action.reason else ""
    return f"{action.action} {action.acted:%Y-%m-%d %H:%M:%S} UTC by {action.actor}{sent}{because}"


def _pretty(payload: bytes) -> str:
    """JSON with line breaks, its digits as they are; anything else as it came."""
    try:
        return msgspec.json.format(payload, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return payload.decode("utf-8", "backslashreplace")


def show_forecasts(forecasts: list[Forecast], events_topic: str) -> None:
    """What a retry of each letter would come to, and the sum of it."""
    table = Table("Letter", "Customer", "Event", "Was refused for", "A retry")
    for f in forecasts[:SHOWN]:
        said = literal(": ".join(part for part in (_OUTCOMES[f.outcome], f.reason, f.detail) if part))
        x = f.letter
        table.add_row(x.place.named(events_topic), literal(x.customer), literal(x.event_id), x.reason, said)
    console.print(table)
    if len(forecasts) > SHOWN:
        console.print(f"… and {len(forecasts) - SHOWN:,} more")
    number = Counter(f.outcome for f in forecasts)
    parts = ", ".join(f"{count:,} {_OUTCOMES[outcome]}" for outcome, count in number.most_common())
    console.print(f"{len(forecasts):,} dead letters: {parts}")


def letter_plain(found: Letter, events_topic: str) -> dict[str, Any]:
    """A letter as JSON values."""
    place = found.place
    return {
        "letter": place.named(events_topic),
        "topic": place.topic,
        "partition": place.partition,
        "offset": place.offset,
        "index": place.within,
        "appended": _instant(found.appended),
        "state": found.state,
        "reason": found.reason,
        "detail": found.detail,
        "customer": found.customer,
        "event_id": found.event_id,
        "event_type": found.event_type,
    }


def whole_plain(found: Letter, payload: bytes, actions: list[Action], events_topic: str) -> dict[str, Any]:
    """A letter with its payload and actions as JSON values; base64 for what is not UTF-8."""
    try:
        body: dict[str, Any] = {"payload": payload.decode()}
    except UnicodeDecodeError:
        body = {"payload": None, "payload_base64": base64.b64encode(payload).decode()}
    done = [{**action._asdict(), "acted": _instant(action.acted)} for action in actions]
    return {**letter_plain(found, events_topic), **body, "actions": done}


def forecast_plain(forecast: Forecast, events_topic: str, *, sent: bool) -> dict[str, Any]:
    """A forecast as JSON values."""
    now = {"outcome": forecast.outcome, "reason": forecast.reason, "detail": forecast.detail}
    return {**letter_plain(forecast.letter, events_topic), "retry": now, "sent": sent}


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"
