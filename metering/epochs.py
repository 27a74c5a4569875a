"""The epochs of a deployment: who raised them, when, and with how many partitions (`pipeline.epochs`).

The topic keeps every record. The last one says what workers must be set to; a deployment whose topic is
empty is in its first epoch.
"""

import asyncio
from typing import Any, Literal

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.errors import UserError
from metering.settings import Settings
from metering.stopping import stop
from metering.topics import Names

_READ_SECONDS = 30.0

# begun: topics may have grown, states are still of the epoch before.
# divided: the new partitions have their states, the old ones still hold everyone's.
Step = Literal["begun", "divided", "done"]


class Epoch(msgspec.Struct, frozen=True):
    """A move to more partitions, and how far it has come; `at` is epoch ms.

    `states` says which partitions have got a state, by the topic that its fold reads.
    """

    epoch: int
    before: int
    partitions: int
    step: Step
    at: int
    states: dict[str, list[int]] = {}


async def latest_epoch(settings: Settings) -> Epoch | None:
    """The last record of `pipeline.epochs`; None while nothing was ever moved."""
    topic = Names(settings).epochs
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=settings.brokers(), auto_offset_reset="earliest")
    tp = TopicPartition(topic, 0)
    try:
        async with asyncio.timeout(_READ_SECONDS):
            await consumer.start()
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            latest = None
            while await consumer.position(tp) < end:
                for records in (await consumer.getmany(tp, timeout_ms=500)).values():
                    latest = records[-1].value
            return msgspec.json.decode(latest, type=Epoch) if latest else None
    except (KafkaError, TimeoutError) as error:
        raise UserError(
            f"the topic {topic} cannot be read: {error!r}",
            hint="is the broker reachable, and were the topics created (`metering topics apply`)?",
        ) from error
    finally:
        await stop(consumer)


def refuse_other_epoch(settings: Settings, latest: Epoch | None) -> None:
    """UserError when this process is set to another epoch than the deployment is in."""
    if latest is None:
        return
    if latest.step != "done":
        raise UserError(
            f"the move to {latest.partitions} partitions is not complete ({latest.step})",
            hint=f"`metering topics grow --partitions {latest.partitions}` goes on where it stopped",
        )
    if settings.epoch < latest.epoch:
        raise UserError(
            f"METERING_EPOCH is {settings.epoch}; this deployment is in epoch {latest.epoch}"
            f" since it moved to {latest.partitions} partitions",
            hint=f"set METERING_EPOCH={latest.epoch} and METERING_PARTITIONS={latest.partitions}",
        )


def refuse_lost_state(settings: Settings, latest: Epoch | None, topic: str, partition: int) -> None:
    """UserError when a partition without a state has got one by a move: its log alone does not give it."""
    if latest is None or latest.epoch != settings.epoch or partition not in latest.states.get(topic, ()):
        return
    raise UserError(
        f"{topic}, partition {partition}: folder and journal of its state are lost, and since the move to"
        f" {latest.partitions} partitions its log does not begin with its customers' usage",
        hint="put the archive into new topics: docs/recovery.md, Kafka lost",
    )
