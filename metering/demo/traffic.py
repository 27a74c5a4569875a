"""The demo's usage events: the Azure LLM traces, stretched from an hour to a month, with defects.

Everything is seeded: each run sends the same records in the same order.
"""

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

SEED = 20231116
STRETCH = 720  # one second of the trace stands for 720: its hour becomes the 30 days of November
TRACE_START = datetime(2023, 11, 16, 18, 15, 0, tzinfo=UTC)
MONTH_START = datetime(2023, 11, 1, tzinfo=UTC)
PERIOD = "2023-11"
EVENT_TYPE = "llm.completion"
SENT_TWICE, LATE, MALFORMED = 0.03, 0.01, 0.003
LATEST_HOURS = 20  # a late event comes up to this many hours late, below the grace of a day
TRACES = {"code": "azure_llm_2023_code.csv", "conversation": "azure_llm_2023_conv.csv"}

# Customers with their weights: a few large ones, many small ones, as in most books.
CUSTOMERS = {
    "harbor-analytics": 24,
    "acme-robotics": 17,
    "northwind-legal": 12,
    "bluebird-travel": 9,
    "cedar-health": 8,
    "delta-games": 7,
    "ember-media": 6,
    "fjord-logistics": 5,
    "garnet-finance": 4,
    "heron-education": 3,
    "iris-design": 3,
    "juniper-foods": 2,
}


class Sent(NamedTuple):
    """One Kafka record: key, value, and the instant of event time at which it is sent."""

    key: bytes
    value: bytes
    at: datetime


@dataclass
class Traffic:
    """All records in sending order, and what the trace says they must come to."""

    records: list[Sent]
    requests: int
    duplicates: int
    late: int
    malformed: int
    input_tokens: int
    output_tokens: int


def traffic(folder: Path) -> Traffic:
    """The records of the demo from the trace files in a folder."""
    chance = random.Random(SEED)
    made = Traffic([], 0, 0, 0, 0, 0, 0)
    for number, (product, request) in enumerate(_requests(folder)):
        event = _event(number, product, request, chance)
        made.requests += 1
        made.input_tokens += event["data"]["context_tokens"]
        made.output_tokens += event["data"]["generated_tokens"]
        at = datetime.fromisoformat(event["time"])
        _send(made, event, at, number, chance)
    made.records.sort(key=lambda sent: sent.at)
    return made


def _requests(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for product, file in TRACES.items():
        with (folder / file).open(newline="") as lines:
            for request in csv.DictReader(lines):
                yield product, request


def _event(number: int, product: str, request: dict[str, str], chance: random.Random) -> dict[str, Any]:
    (customer,) = chance.choices(list(CUSTOMERS), weights=list(CUSTOMERS.values()))
    text = request["TIMESTAMP"].replace(" ", "T")[:26] + "+00:00"
    offset = datetime.fromisoformat(text) - TRACE_START
    at = MONTH_START + offset * STRETCH
    return {
        "id": f"{product}-{number:05d}",
        "customer": customer,
        "type": EVENT_TYPE,
        "time": at.isoformat(timespec="milliseconds"),
        "source": f"gateway/{product}",
        "data": {
            "product": product,
            "context_tokens": int(request["ContextTokens"]),
            "generated_tokens": int(request["GeneratedTokens"]),
        },
    }


def _send(made: Traffic, event: dict[str, Any], at: datetime, number: int, chance: random.Random) -> None:
    key = event["customer"].encode()
    value = json.dumps(_form(event, number)).encode()
    sent_at = at
    if chance.random() < LATE:
        made.late += 1
        sent_at = at + timedelta(hours=chance.uniform(1, LATEST_HOURS))
    made.records.append(Sent(key, value, sent_at))
    if chance.random() < SENT_TWICE:
        made.duplicates += 1
        again = sent_at + timedelta(minutes=chance.uniform(0, 600))
        made.records.append(Sent(key, value, again))
    if chance.random() < MALFORMED:
        broken = _broken(event, made.malformed)
        made.malformed += 1
        made.records.append(Sent(key, broken, at))


def _form(event: dict[str, Any], number: int) -> dict[str, Any]:
    """Two of three as CloudEvents, the others flat: both are read."""
    if number % 3 == 0:
        return event
    cloud = {k: v for k, v in event.items() if k != "customer"}
    return {"specversion": "1.0", **cloud, "subject": event["customer"]}


def _broken(event: dict[str, Any], kind: int) -> bytes:
    """A record that must be refused: each kind in turn."""
    changed = {**event, "id": event["id"] + "-broken", "data": dict(event["data"])}
    data = changed["data"]
    match kind % 8:
        case 0:
            return json.dumps(changed).encode()[:-20]
        case 1:
            return b"\xff\xfe not a usage event"
        case 2:
            del changed["customer"]
        case 3:
            changed["customer"] = "nobody-we-know"
        case 4:
            data["context_tokens"] = data["context_tokens"] + 0.5
        case 5:
            data["generated_tokens"] = -1
        case 6:
            changed["time"] = "2100-01-01T00:00:00Z"
        case _:
            changed["type"] = "llm.unknown"
    return json.dumps(changed).encode()
