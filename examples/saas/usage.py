"""The usage of October 2026, made up: python examples/saas/usage.py > examples/saas/usage.jsonl.

The tables say what each customer uses in all; chance only decides when, and in how many pieces.
The output is the same on every run. Some events come days late, some are sent twice.
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

SEED = 202610
DAY = 86_400
MONTH = datetime(2026, 10, 1, tzinfo=UTC)
END = 32  # the day after the 31st

# Customer, from day, to day (exclusive, at 00:00), calls, events. Days may have a half: noon.
CALLS = [
    ("kestrel-kites", 1, END, 8_000, 20),
    ("lantern-library", 1, END, 12_500, 25),
    ("marble-museum", 1, END, 13_000_000, 60),
    ("nutmeg-bakery", 20.5, END, 600_000, 25),
    ("otter-ferries", 1, 15, 1_500_000, 30),
    ("otter-ferries", 15, END, 12_500_000, 40),
    ("pebble-press", 1, END, 60_000_000, 70),
    ("quince-orchards", 1, END, 12_100_000_500, 100),
    ("rowan-railways", 1, END, 80_000_000, 60),
]
# The same in MB: the meter counts GB with three decimals.
MOVED = [
    ("kestrel-kites", 1, END, 800, 8),
    ("lantern-library", 1, END, 1_200, 12),
    ("marble-museum", 1, END, 240_500, 40),
    ("nutmeg-bakery", 20.5, END, 60_000, 15),
    ("otter-ferries", 1, 15, 130_000, 20),
    ("otter-ferries", 15, END, 1_270_000, 30),
    ("pebble-press", 1, 12, 1_200_000, 25),
    ("pebble-press", 12, 22, 500_000, 20),
    ("pebble-press", 22, END, 400_000, 20),
    ("quince-orchards", 1, END, 32_000_125, 60),
    ("rowan-railways", 1, END, 12_500_000, 40),
]
# Customer, first day, GB on day d: measured each day at 18:00.
STORED: list[tuple[str, int, Callable[[int], int | str]]] = [
    ("kestrel-kites", 1, lambda d: "0.5"),
    ("lantern-library", 1, lambda d: "0.9"),
    ("marble-museum", 1, lambda d: 64 + d),
    ("nutmeg-bakery", 20, lambda d: 20 if d < 26 else 40),
    ("otter-ferries", 1, lambda d: 60 if d < 15 else 990),
    ("pebble-press", 1, lambda d: 1_840 + 10 * d),
    ("quince-orchards", 1, lambda d: 24_840 + 10 * d),
    ("rowan-railways", 1, lambda d: 3_680 + 20 * d),
]
# Customer, from day, to day, how many different adapters run: each twice.
ADAPTERS = [
    ("kestrel-kites", 1, END, 1),
    ("lantern-library", 1, END, 1),
    ("marble-museum", 1, END, 8),
    ("nutmeg-bakery", 20.5, END, 3),
    ("otter-ferries", 1, 15, 7),
    ("otter-ferries", 15, END, 30),  # the first 7 among them
    ("pebble-press", 1, END, 25),
    ("quince-orchards", 1, END, 60),
    ("rowan-railways", 1, END, 20),
]
# Customer, then the number of seats from a day on.
SEATS: list[tuple[str, dict[float, int]]] = [
    ("kestrel-kites", {1: 1}),
    ("lantern-library", {1: 1}),
    ("marble-museum", {1: 4, 9: 6, 23: 5}),
    ("nutmeg-bakery", {20.5: 1, 22: 2}),
    ("otter-ferries", {1: 3, 8: 2, 16: 15, 28: 12}),
    ("pebble-press", {1: 12, 20: 10}),
    ("quince-orchards", {1: 72, 12: 80, 27: 78}),
    ("rowan-railways", {1: 45, 19: 41}),
]


class Event(NamedTuple):
    """What happened; `second` counts from the start of the month."""

    customer: str
    type: str
    second: int
    data: dict[str, Any]


def events(chance: random.Random) -> Iterator[Event]:
    """Everything that happened in the month, each event once."""
    for customer, first, last, total, pieces in CALLS:
        for second, amount in split(chance, first, last, total, pieces):
            yield Event(customer, "api.calls", second, {"calls": amount})
    for customer, first, last, total, pieces in MOVED:
        for second, amount in split(chance, first, last, total, pieces):
            yield Event(customer, "data.moved", second, {"gb": f"{amount // 1_000}.{amount % 1_000:03}"})
    for customer, first_day, stored in STORED:
        for day in range(first_day, END):
            yield Event(customer, "storage.measured", seconds(day) + 18 * 3_600, {"gb": stored(day)})
    for customer, first, last, number in ADAPTERS:
        for run in range(2 * number):
            name = f"adapter-{run % number + 1:02}"
            yield Event(customer, "adapter.run", within(chance, first, last), {"adapter": name})
    for customer, changes in SEATS:
        for since, number in changes.items():
            yield Event(customer, "seats.changed", seconds(since) + 9 * 3_600, {"seats": number})


def seconds(day: float) -> int:
    """Seconds from the start of the month to a day's start, or its noon."""
    return int((day - 1) * DAY)


def within(chance: random.Random, first: float, last: float) -> int:
    """Some second from the day `first` on, before the day `last`."""
    return seconds(first) + int(chance.random() * (seconds(last) - seconds(first)))


def split(
    chance: random.Random, first: float, last: float, total: int, pieces: int
) -> Iterator[tuple[int, int]]:
    """A total in uneven pieces that add up to it; one at the first second and one at the last."""
    weights = [100 + int(chance.random() * 900) for _ in range(pieces)]
    amounts = [total * weight // sum(weights) for weight in weights]
    amounts[-1] += total - sum(amounts)
    moments = [within(chance, first, last) for _ in range(pieces)]
    moments[0], moments[-1] = seconds(first), seconds(last) - 1
    return zip(moments, amounts, strict=True)


def lines(chance: random.Random) -> list[str]:
    """The events as JSON in the order in which they arrive, copies among them."""
    arrivals: list[tuple[float, str]] = []
    numbers: dict[tuple[str, str], int] = {}
    for event in sorted(events(chance), key=lambda e: (e.second, e.customer, e.type)):
        number = numbers[event.customer, event.type] = numbers.get((event.customer, event.type), 0) + 1
        body = {
            "id": f"{event.type}-{number}",  # unique for its customer: nobody else's ids matter
            "customer": event.customer,
            "type": event.type,
            "time": (MONTH + timedelta(seconds=event.second)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "data": event.data,
        }
        line = json.dumps(body)
        late = 2 * DAY * chance.random() if chance.random() < 0.1 else 0
        arrivals.append((event.second + late, line))
        if chance.random() < 0.03:
            arrivals.append((event.second + late + 3 * DAY * chance.random(), line))
    return [line for _, line in sorted(arrivals, key=lambda a: a[0])]


if __name__ == "__main__":
    # Only `random()` is used: of all that `random` offers, its numbers are promised to stay the same.
    sys.stdout.write("".join(line + "\n" for line in lines(random.Random(SEED))))
