"""Every total that a deployment published, compared with the naive model: lost and double-counted events."""

import time
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from bench.load import DIMENSION, UNIT_PRICE, Expected, Place
from metering.records import Charge, HourlyTotal, Progress, decode
from metering.settings import Settings
from metering.topics import Names

_COUNTERS = ("read", "accepted", "duplicates", "rejected")
_BATCH, _LOOK_SECONDS, _SECONDS = 5_000, 0.2, 60.0


class Verdict(NamedTuple):
    """Events lost and counted twice; `wrong` says in words what else differs."""

    lost: int
    doubled: int
    wrong: list[str]


def verify(deployment: Settings, expected: Expected) -> Verdict:
    """Hourly totals, charges and counters of a deployment against the model."""
    names = Names(deployment)
    wrong = []
    totals = hourly_totals(deployment)
    verdict = compare(totals, expected)
    wrong += verdict.wrong
    charged = _charges(deployment, names.charges)
    for customer, quantity in _by_customer(expected).items():
        amount = charged.pop(customer, Decimal(0))
        if amount != quantity * Decimal(UNIT_PRICE):
            wrong.append(f"{customer} was charged {amount} for {quantity} units")
    wrong += [f"{customer} was charged {amount} for nothing" for customer, amount in charged.items()]
    counters = progress(deployment)
    found = tuple(sum(getattr(c, n) for c in counters) for n in _COUNTERS)
    wanted = (expected.read, expected.accepted, expected.duplicates, expected.rejected)
    if found != wanted:
        wrong.append(f"read, accepted, duplicates, rejected are {found}, not {wanted}")
    return Verdict(verdict.lost, verdict.doubled, wrong)


def compare(found: dict[Place, tuple[int, int]], expected: Expected) -> Verdict:
    """Totals (quantity, events) against the model's."""
    lost = doubled = 0
    wrong = [f"{place} was never sent" for place in found.keys() - expected.totals.keys()]
    for place, (quantity, events) in expected.totals.items():
        has_quantity, has_events = found.get(place, (0, 0))
        lost += max(0, events - has_events)
        doubled += max(0, has_events - events)
        if has_quantity != quantity:
            wrong.append(f"{place} has {has_quantity} units, not {quantity}")
    return Verdict(lost, doubled, wrong)


def hourly_totals(deployment: Settings) -> dict[Place, tuple[int, int]]:
    """The newest total of each place."""
    newest: dict[Place, HourlyTotal] = {}
    for value in values(deployment, Names(deployment).hourly):
        record = decode(value)
        if isinstance(record, HourlyTotal):
            place = (record.customer, record.dimensions[DIMENSION], record.hour)
            held = newest.get(place)
            if held is None or int(held.version) < int(record.version):
                newest[place] = record
    return {place: (int(Decimal(r.quantity)), r.events) for place, r in newest.items()}


def _charges(deployment: Settings, topic: str) -> dict[str, Decimal]:
    newest: dict[tuple[str, str, int], Charge] = {}
    for value in values(deployment, topic):
        record = decode(value)
        if isinstance(record, Charge):
            place = (record.customer, record.price, record.hour)
            held = newest.get(place)
            if held is None or int(held.version) < int(record.version):
                newest[place] = record
    amounts: defaultdict[str, Decimal] = defaultdict(Decimal)
    for (customer, *_), record in newest.items():
        amounts[customer] += Decimal(record.amount)
    return dict(amounts)


def _by_customer(expected: Expected) -> dict[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for (customer, *_), (quantity, _events) in expected.totals.items():
        sums[customer] += quantity
    return dict(sums)


def progress(deployment: Settings) -> list[Progress]:
    """The last report of each partition's meter fold."""
    newest: dict[int, Progress] = {}
    for value in values(deployment, Names(deployment).progress):
        record = decode(value)
        if isinstance(record, Progress) and record.fold == "meter":
            newest[record.partition] = record
    return list(newest.values())


def values(deployment: Settings, topic: str) -> Iterator[bytes]:
    """Every value of a topic, from its beginning to the end it has now."""
    consumer = Consumer(
        {"bootstrap.servers": deployment.brokers(), "group.id": "verify", "enable.partition.eof": True}
    )
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in range(deployment.partitions)])
        read, deadline = set[int](), time.monotonic() + _SECONDS  # a partition that grows ends many times
        while len(read) < deployment.partitions:
            messages = consumer.consume(_BATCH, _LOOK_SECONDS)  # returns when full, or at its time
            deadline = time.monotonic() + _SECONDS if messages else deadline
            assert time.monotonic() < deadline, f"nothing of {topic} came for {_SECONDS:.0f} s"
            for message in messages:
                error = message.error()
                if error is None:
                    value = message.value()
                    if value is not None:
                        yield value
                elif error.code() == KafkaError._PARTITION_EOF:
                    read.add(message.partition() or 0)
                else:
                    raise AssertionError(f"{topic}: {error}")
    finally:
        consumer.close()
