"""Reading the catalog topic: the latest revision once, or every new one while running."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.catalog.resolved import Catalog
from metering.catalog.wire import from_record
from metering.errors import UserError
from metering.stopping import stop

log = structlog.get_logger()

_LONGEST_PAUSE = 5.0


async def read_latest(brokers: str, topic: str, timeout_seconds: float = 20.0) -> Catalog | None:
    """The revision in force; None when nothing was published yet."""
    latest = None
    consumer = _consumer(brokers)
    try:
        async with asyncio.timeout(timeout_seconds):
            await consumer.start()
            tp = TopicPartition(topic, 0)
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            while await consumer.position(tp) < end:
                latest = next(_readable(await consumer.getmany(tp, timeout_ms=500)), latest)
    except (KafkaError, TimeoutError, OSError) as error:
        raise UserError(
            f"the catalog topic {topic} cannot be read at {brokers}: {error!r}",
            hint="is the broker running (`metering local status`), and were the topics applied?",
        ) from error
    finally:
        await stop(consumer)
    return latest


async def follow(
    brokers: str, topic: str, after_revision: int, *, every: bool = False
) -> AsyncIterator[Catalog]:
    """The newest revision behind `after_revision`, then each new one; never ends by itself.

    With `every`, older ones come first, oldest first. A broker that cannot be reached is tried again; the
    catalog in force stays so.
    """
    pause, revision = 0.2, after_revision
    while True:
        consumer = _consumer(brokers)
        try:
            await consumer.start()
            tp = TopicPartition(topic, 0)
            consumer.assign([tp])
            while True:
                found = _readable(await consumer.getmany(tp, timeout_ms=250))
                pause = 0.2
                for catalog in reversed(list(found if every else islice(found, 1))):
                    if catalog.revision > revision:
                        revision = catalog.revision
                        yield catalog
        except (KafkaError, OSError) as error:
            log.warning("catalog_unreachable", topic=topic, error=repr(error), retry_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            await stop(consumer)


def _consumer(brokers: str) -> Any:
    # `earliest` instead of a seek: the default reset, on its way when a partition is assigned, can
    # land behind a seek to the beginning and skip what is there.
    return AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest")


def _readable(fetched: dict[Any, list[Any]]) -> Iterator[Catalog]:
    """The catalogs of some records, newest first."""
    records = [record for found in fetched.values() for record in found]
    for record in reversed(records):
        try:
            yield from_record(record.value, record.offset)
        except (ValueError, KeyError, TypeError) as error:
            log.error(
                "catalog_record_unreadable",
                topic=record.topic,
                offset=record.offset,
                error=str(error),
                hint="the revision before it stays in force; publish a correct catalog",
            )
