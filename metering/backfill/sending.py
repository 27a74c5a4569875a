"""Sending what was prepared, between two looks at an archive that has caught up.

The records of all customers go first, and only then what they announce: a run that is cut off can
be seen to be incomplete. Every id follows from the backfill, so that what is sent twice counts once.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from metering.backfill.preparing import Prepared
from metering.errors import UserError
from metering.producer import UsageProducer
from metering.settings import Settings
from metering.sinks.queries import Books
from metering.state.log_bounds import LogBounds
from metering.topics import Names

CAUGHT_UP_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.2


def send(settings: Settings, prepared: Iterable[Prepared], announced: Iterable[str]) -> int:
    """Send the records and then the operations; how many. `announced` customers have their record."""
    parts, known = list(prepared), set(announced)
    first = [
        (one.account.encode(), record)
        for one in parts
        for customer, record in one.manifests.items()
        if customer not in known
    ]
    return asyncio.run(_send(settings, first, [(p.account.encode(), r) for p in parts for r in p.records]))


async def _send(settings: Settings, *batches: Sequence[tuple[bytes, bytes]]) -> int:
    try:
        async with UsageProducer(settings.brokers(), Names(settings).events) as producer:
            sent = [await producer.send(batch) for batch in batches]
    except KafkaError as error:
        raise UserError(
            f"the broker did not take all records: {error!r}",
            hint="run the same command again: it sends what is missing, and nothing counts twice",
        ) from error
    return sent[-1]


def catch_up(client: Any, settings: Settings, seconds: float = CAUGHT_UP_SECONDS) -> None:
    """Wait until the worker has read, and the sink has stored, all that is in Kafka now."""
    names, deadline = Names(settings), time.monotonic() + seconds
    ends = asyncio.run(_ends(settings, [names.events]))
    _wait(client, ends, deadline, folded=names.events)
    # What the worker made of it stands in these topics by now.
    _wait(client, asyncio.run(_ends(settings, [names.rejected, names.hourly])), deadline)


async def _ends(settings: Settings, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    bounds = LogBounds(settings.brokers())
    try:
        return {
            (topic, partition): (await bounds.of(topic, partition)).end
            for topic in topics
            for partition in range(settings.partitions)
        }
    except KafkaError as error:
        raise UserError(
            f"no broker answers at {settings.brokers()}: {error!r}", hint="run `metering local up`"
        ) from error
    finally:
        await bounds.close()


def _wait(client: Any, ends: Mapping[tuple[str, int], int], deadline: float, folded: str = "") -> None:
    while behind := _behind(client, ends, folded):
        if time.monotonic() > deadline:
            raise UserError(
                f"the books have not caught up: {behind}", hint="do worker and sink run? `metering status`"
            )
        time.sleep(_LOOK_AGAIN_SECONDS)


def _behind(client: Any, ends: Mapping[tuple[str, int], int], folded: str) -> str:
    books = Books(client)
    stored, read = books.stored(), books.folded()
    for (topic, partition), end in ends.items():
        if stored.get((topic, partition), 0) < end:
            at = stored.get((topic, partition), 0)
            return f"the sink is at {at:,} of {end:,} in {topic}, partition {partition}"
        if topic == folded and read.get(partition, 0) < end:
            return f"the worker is at {read.get(partition, 0):,} of {end:,} in partition {partition}"
    return ""
