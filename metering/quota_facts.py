"""Grants and limits that people set at run time: the topic `quota.facts`, one partition, kept.

A topic of its own, because an offset of the catalog's is a revision. Every worker follows it; each
partition's state remembers how far it has learnt, so a fact is announced once.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from metering.errors import UserError
from metering.quota.wire import Fact, GrantFact, decode_fact, encode
from metering.records import key
from metering.stopping import stop

log = structlog.get_logger()

_READ_SECONDS = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
Placed = tuple[int, Fact]  # an offset, and what stands there


def place_of(fact: Fact) -> bytes:
    """The key of a fact: the last one of a grant, or of a limit's amount, counts."""
    if isinstance(fact, GrantFact):
        return key("grant", fact.scope, fact.limit, fact.id)
    return key("limit", fact.scope, fact.limit)


async def publish(brokers: str, topic: str, fact: Fact) -> int:
    """Put a fact in force in every worker; its offset."""
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", enable_idempotence=True)
    try:
        await producer.start()
        sent = await producer.send_and_wait(topic, encode(fact), key=place_of(fact), partition=0)
    except (KafkaError, OSError) as error:
        raise UserError(
            f"{topic} cannot be written at {brokers}: {error!r}",
            hint="is the broker running, and were the topics created (`metering topics apply`)?",
        ) from error
    finally:
        await producer.stop()
    offset: int = sent.offset
    return offset


async def read(brokers: str, topic: str) -> list[Fact]:
    """The facts in force, oldest first."""
    found: dict[bytes, Fact] = {}
    consumer = _consumer(brokers)
    tp = TopicPartition(topic, 0)
    try:
        async with asyncio.timeout(_READ_SECONDS):
            await consumer.start()
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            while await consumer.position(tp) < end:
                for _, fact in _readable(await consumer.getmany(tp, timeout_ms=500)):
                    found.pop(place_of(fact), None)
                    found[place_of(fact)] = fact
    except (KafkaError, TimeoutError, OSError) as error:
        raise UserError(
            f"{topic} cannot be read at {brokers}: {error!r}",
            hint="is the broker running, and were the topics created (`metering topics apply`)?",
        ) from error
    finally:
        await stop(consumer)
    return list(found.values())


async def follow(brokers: str, topic: str) -> AsyncIterator[Placed]:
    """Every fact from the first on, then each new one; never ends by itself."""
    pause, upto = _FIRST_PAUSE, 0
    while True:
        consumer = _consumer(brokers)
        try:
            await consumer.start()
            tp = TopicPartition(topic, 0)
            consumer.assign([tp])
            while True:
                for offset, fact in _readable(await consumer.getmany(tp, timeout_ms=250)):
                    if offset >= upto:
                        upto = offset + 1
                        yield offset, fact
                pause = _FIRST_PAUSE
        except (KafkaError, OSError) as error:
            log.warning("facts_unreachable", topic=topic, error=repr(error), retry_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            await stop(consumer)


def _consumer(brokers: str) -> Any:
    return AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest")


def _readable(fetched: dict[Any, list[Any]]) -> list[Placed]:
    placed = []
    for record in (record for records in fetched.values() for record in records):
        if record.value is None:
            continue
        try:
            placed.append((record.offset, decode_fact(record.value)))
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("fact_unreadable", topic=record.topic, offset=record.offset, error=str(error))
    return placed
