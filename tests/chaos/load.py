"""The seeded load: two months of events with copies, late ones, conflicts, noise and envelopes."""

import heapq
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from metering.state.calendar import HOUR_MS, period, period_end
from tests.chaos.catalog import CUSTOMERS, FIRST, SECOND, customer, weight
from tests.chaos.model import Fact

COPIES, LATE, VERY_LATE, CONFLICTS, MALFORMED = 0.05, 0.03, 0.0003, 0.005, 0.01
LATEST_HOURS, VERY_LATE_HOURS, COPY_HOURS = 20, 14 * 24, 60
REGIONS = ("eu", "us", "ap")
ENVELOPE_CUSTOMERS, ENVELOPE_EVENTS = 6, 24
STARTS, ENDS = period(FIRST).starts * 1_000, period_end(SECOND)
_BUSY_HOURS = range(7, 19)  # traffic has nights, and fewer hours are fewer rows
_GAP_MS = 1


class Sent(NamedTuple):
    """One Kafka record, when it is sent (0 to 1 of the load's time), and what its events say."""

    key: bytes
    value: bytes
    at: float
    facts: tuple[Fact, ...]


class _Due(NamedTuple):
    at: int
    order: int
    body: bytes
    fact: Fact
    is_alone: bool  # a broken JSON text would break its envelope


@dataclass
class Injected:
    """How many of each kind were made."""

    events: int = 0
    copies: int = 0
    late: int = 0
    conflicts: int = 0
    malformed: int = 0
    envelopes: int = 0


class Load:
    """The records in sending order; the same seed makes the same records."""

    def __init__(self, events: int, seed: int) -> None:
        self.made = Injected()
        self._events = events
        self._seed = seed
        self._chance = random.Random(seed)
        self._due: list[_Due] = []
        self._order = 0
        self._open: dict[str, list[_Due]] = {}
        self._weights = [weight(n) for n in range(CUSTOMERS)]

    def records(self) -> Iterator[Sent]:
        """Every record of the two months."""
        chance, people = self._chance, range(CUSTOMERS)
        for number in range(self._events):
            at = _busy(STARTS + (ENDS - STARTS) * number // self._events)
            (who,) = chance.choices(people, self._weights)
            self._plan(number, customer(who), at)
            yield from self._until(at)
        yield from self._until(ENDS * 2)
        for name in sorted(self._open):
            yield from self._seal(name, ENDS)

    def beyond_the_close(self, count: int) -> Iterator[Sent]:
        """Events of the first month, to be sent when it is closed: they become adjustments."""
        for number in range(count):
            at = self._chance.randrange(STARTS, period_end(FIRST))
            fact = self._fact(f"closed-{number}", customer(number % CUSTOMERS), at)
            yield _record(_Due(at, 0, _encode(fact, number), fact, True), 1.0)

    def _until(self, at: int) -> Iterator[Sent]:
        while self._due and self._due[0].at <= at:
            due = heapq.heappop(self._due)
            name = due.fact.customer
            if due.is_alone or int(name[-2:]) >= ENVELOPE_CUSTOMERS:
                yield _record(due, _share(due.at))
                continue
            waiting = self._open.setdefault(name, [])
            waiting.append(due)
            if len(waiting) == ENVELOPE_EVENTS:
                yield from self._seal(name, due.at)

    def _seal(self, name: str, at: int) -> Iterator[Sent]:
        waiting = self._open.pop(name)
        self.made.envelopes += 1
        value = b"[" + b",".join(due.body for due in waiting) + b"]"
        yield Sent(name.encode(), value, _share(at), tuple(due.fact for due in waiting))

    def _plan(self, number: int, who: str, at: int) -> None:
        chance, made = self._chance, self.made
        made.events += 1
        fact = self._fact(f"e-{number}", who, at)
        sent = at
        if chance.random() < LATE:
            made.late += 1
            sent += int(chance.uniform(1, LATEST_HOURS) * HOUR_MS)
        elif chance.random() < VERY_LATE:
            made.late += 1
            sent += int(chance.uniform(LATEST_HOURS, VERY_LATE_HOURS) * HOUR_MS)
        body = _encode(fact, number)
        self._push(sent, body, fact)
        if chance.random() < COPIES:
            made.copies += 1
            self._push(sent + self._later(), body, fact)
        if chance.random() < CONFLICTS:
            made.conflicts += 1
            other = fact._replace(thousandths=fact.thousandths + 1)
            self._push(sent + self._later(), _encode(other, number + 1), other)
        if chance.random() < MALFORMED:
            body, broken, is_alone = _broken(fact._replace(id=fact.id + "-broken"), made.malformed)
            made.malformed += 1
            self._push(at, body, broken, is_alone=is_alone)

    def _fact(self, name: str, who: str, at: int) -> Fact:
        chance = self._chance
        return Fact(
            who, chance.choice(("gw/a", "gw/b")), name, at, chance.choice(REGIONS), chance.randrange(100_000)
        )

    def _later(self) -> int:
        return _GAP_MS + int(self._chance.uniform(0, COPY_HOURS) * HOUR_MS)

    def _push(self, at: int, body: bytes, fact: Fact, *, is_alone: bool = False) -> None:
        self._order += 1
        heapq.heappush(self._due, _Due(at, self._order, body, fact, is_alone))


def _busy(at: int) -> int:
    """Squeeze a day's events into its busy hours."""
    day, within = divmod(at, 24 * HOUR_MS)
    return day * 24 * HOUR_MS + _BUSY_HOURS.start * HOUR_MS + within * len(_BUSY_HOURS) // 24


def _share(at: int) -> float:
    return min(1.0, (at - STARTS) / (ENDS - STARTS))


def _record(due: _Due, at: float) -> Sent:
    return Sent(due.fact.customer.encode(), due.body, at, (due.fact,))


def _plain(fact: Fact) -> dict[str, Any]:
    return {
        "id": fact.id,
        "customer": fact.customer,
        "type": "use",
        "time": fact.at,
        "source": fact.source,
        "data": {"n": f"{fact.thousandths / 1_000:.3f}", "region": fact.region},
    }


def _encode(fact: Fact, number: int) -> bytes:
    """One of two as CloudEvents, one of three with a text time and a JSON number."""
    body = _plain(fact)
    if number % 3 == 0:
        text = datetime.fromtimestamp(fact.at / 1_000, UTC).isoformat(timespec="milliseconds")
        body["time"] = text.replace("+00:00", "Z")
    if number % 2:
        body["subject"] = body.pop("customer")
        body["specversion"] = "1.0"
    return json.dumps(body).encode()


def _broken(fact: Fact, kind: int) -> tuple[bytes, Fact, bool]:
    """A record that must be refused, each kind in turn; whether it must stand alone."""
    body, unreadable = _plain(fact), fact._replace(is_good=False, is_readable=False)
    readable = fact._replace(is_good=False)
    match kind % 8:
        case 0:
            return json.dumps(body).encode()[:-9], unreadable, True
        case 1:
            return b"\xff\xfe noise", unreadable, True
        case 2:
            del body["customer"]
            return json.dumps(body).encode(), unreadable, False
        case 3:
            body["time"] = "2026-01-05T10:00:00"
            return json.dumps(body).encode(), unreadable, False
        case 4:
            body["data"]["n"] = "1.0001"
        case 5:
            body["data"]["n"] = -1
        case 6:
            body["time"] = "2100-01-01T00:00:00Z"
        case _:
            body["type"] = "unknown"
    return json.dumps(body).encode(), readable, False
