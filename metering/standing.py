"""Where each partition stands: its position, how far its time has come, and whether anybody owns it.

The owner of a partition reports each second, also when nothing comes: quiet is not dead.
"""

import asyncio
from collections.abc import Mapping
from typing import Literal, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.errors import UserError
from metering.records import Progress, decode
from metering.settings import Settings
from metering.state.log_bounds import Bounds
from metering.stopping import stop
from metering.topics import Names

DEAD_SECONDS = 15.0  # silence; a report is due each second
_ANSWER_SECONDS = 30.0
_TICK = 1  # a tick may be under way in a quiet partition

TopicPlace = tuple[str, int]
State = Literal["live", "quiet", "dead"]


class Look(NamedTuple):
    """What Kafka says at one moment: the bounds of the logs, the latest report of each partition."""

    bounds: Mapping[TopicPlace, Bounds]
    reports: Mapping[int, Progress]


class Standing(NamedTuple):
    """One partition of `usage.events`; times are epoch ms, 0 is none.

    live: its owner reports. quiet: it reports, is at the log's end, and no usage has come for the time
    after which a partition is idle. dead: nobody has reported for 15 s. `watermark` is how far time has
    come: of a quiet partition as far as a tick would bring it, because nothing older is on its way.
    """

    partition: int
    state: State
    owner: str
    offset: int
    lag: int
    watermark: int
    usage_at: int
    reported_at: int


def standings(settings: Settings, found: Look, now: int) -> list[Standing]:
    """How each partition stands at `now` (epoch ms)."""
    return [_standing(settings, found, partition, now) for partition in range(settings.partitions)]


def _standing(settings: Settings, found: Look, partition: int, now: int) -> Standing:
    end = found.bounds[Names(settings).events, partition].end
    report = found.reports.get(partition)
    if report is None:
        return Standing(partition, "dead", "", 0, end, 0, 0, 0)
    lag = max(0, end - report.offset)
    idle_since = report.at - int(settings.tick_idle_seconds * 1_000)
    state: State = "live"
    watermark = report.watermark
    if now - report.at > DEAD_SECONDS * 1_000:
        state = "dead"
    elif report.usage_at <= idle_since and lag <= _TICK:
        state, watermark = "quiet", max(watermark, idle_since)
    place = (report.instance, report.offset, lag, watermark)
    return Standing(partition, state, *place, report.usage_at, report.at)


def holding_back(found: list[Standing]) -> Standing:
    """The partition whose watermark is that of the whole pipeline: the lowest one."""
    return min(found, key=lambda one: (one.watermark, one.partition))


def look(settings: Settings, seconds: float = _ANSWER_SECONDS) -> Look:
    """Ask Kafka, and wait for its answer no longer than some seconds."""
    try:
        return asyncio.run(_ask(settings, seconds))
    except (KafkaError, TimeoutError, OSError) as error:
        raise UserError(
            f"Kafka at {settings.brokers()} does not answer: {error!r}",
            hint="run `metering local status`, or check KAFKA_BROKERS",
        ) from error


async def _ask(settings: Settings, seconds: float) -> Look:
    names, partitions = Names(settings), range(settings.partitions)
    topics = (names.events, names.hourly, names.charges, names.rejected, names.progress)
    tps = [TopicPartition(topic, partition) for topic in topics for partition in partitions]
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.brokers(), auto_offset_reset="earliest")
    try:
        async with asyncio.timeout(seconds):
            await consumer.start()
            first, end = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            bounds = {(tp.topic, tp.partition): Bounds(first[tp], end[tp]) for tp in tps}
            wanted = {tp: end[tp] - 1 for tp in tps if tp.topic == names.progress and end[tp] > first[tp]}
            return Look(bounds, await _records_at(consumer, wanted))
    finally:
        await stop(consumer)


async def _records_at(
    consumer: AIOKafkaConsumer, wanted: Mapping[TopicPartition, int]
) -> dict[int, Progress]:
    """The reports at some offsets, or later ones."""
    found: dict[int, Progress] = {}
    consumer.assign(list(wanted))
    for tp, offset in wanted.items():
        consumer.seek(tp, offset)
    while len(found) < len(wanted):
        for tp, records in (await consumer.getmany(*wanted, timeout_ms=500)).items():
            report = decode(records[-1].value)
            assert isinstance(report, Progress), f"{tp.topic} holds {type(report)}"
            found[tp.partition] = report
    return found
