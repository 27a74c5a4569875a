"""The topics of a deployment: their names, their settings, and making the broker match them."""

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from metering.errors import UserError
from metering.settings import Settings
from metering.state.dedupe import HORIZON_DAYS

_DAY_MS = 86_400_000
_EVENT_DAYS = 40
_RECORD_BYTES = str(16 << 20)
_ADMIN_MS = 15_000
_KNOWN_PAUSE = 0.05


class Names:
    """The full topic and group names of one deployment."""

    def __init__(self, settings: Settings) -> None:
        self.events = settings.topic("usage.events")
        self.hourly = settings.topic("usage.hourly")
        self.charges = settings.topic("usage.charges")
        self.rejected = settings.topic("usage.rejected")
        self.catalog = settings.topic("catalog")
        self.quota_state = settings.topic("quota.state")
        self.quota_events = settings.topic("quota.events")
        self.quota_checks = settings.topic("quota.checks")
        self.quota_replies = settings.topic("quota.replies")
        self.quota_facts = settings.topic("quota.facts")
        self.progress = settings.topic("pipeline.progress")
        self.epochs = settings.topic("pipeline.epochs")
        self.meter_segments = settings.topic("journal.meter.segments")
        self.meter_state = settings.topic("journal.meter.state")
        self.rate_state = settings.topic("journal.rate.state")
        self.worker_group = settings.topic("metering-worker")
        self.sink_group = settings.topic("metering-sink")


class TopicSpec(NamedTuple):
    """What one topic must be."""

    name: str
    partitions: int
    config: dict[str, str]


class TopicState(NamedTuple):
    """What was found and done for one topic: created, unchanged, or the settings that differed."""

    name: str
    action: str
    differences: dict[str, tuple[str, str]]  # setting → found, wanted


def specs(settings: Settings) -> list[TopicSpec]:
    """Every topic of a deployment with the settings it needs."""
    names, count = Names(settings), settings.partitions
    # The broker's clock, not the producer's: ids expire by it, late events are kept by it, and a worker
    # with a clock ahead would be refused by the broker, one with a clock behind see its journal expire.
    appended = {"message.timestamp.type": "LogAppendTime"}
    deleted = {"cleanup.policy": "delete", **appended}
    # A zombie's late write must not replace a newer record before readers have seen both.
    compacted = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(3_600_000), **appended}
    large = {"max.message.bytes": _RECORD_BYTES}
    return [
        TopicSpec(
            names.events,
            count,
            {
                **deleted,
                "retention.ms": str(_EVENT_DAYS * _DAY_MS),
                # A dead letter carries the record in base64, so it must stay well below 16 MiB.
                "max.message.bytes": str(8 << 20),
            },
        ),
        TopicSpec(names.hourly, count, {**compacted, **large}),
        TopicSpec(names.charges, count, {**compacted, **large}),
        TopicSpec(
            names.rejected,
            count,
            {**deleted, "retention.ms": str(180 * _DAY_MS), **large},
        ),
        # Every revision stays: what was decided under one can only be decided again under the same.
        TopicSpec(names.catalog, 1, {**deleted, "retention.ms": "-1", **large}),
        TopicSpec(names.quota_state, count, compacted),
        TopicSpec(names.quota_events, count, {**deleted, "retention.ms": str(180 * _DAY_MS)}),
        # Who asked longer ago than a lease lasts has given up.
        TopicSpec(names.quota_checks, count, {**deleted, "retention.ms": str(_DAY_MS)}),
        TopicSpec(names.quota_replies, count, {**deleted, "retention.ms": str(_DAY_MS)}),
        # Grants and limits set at run time stay, as an audit. The catalog cannot hold them: its offset is
        # a revision.
        TopicSpec(names.quota_facts, 1, {**deleted, "retention.ms": "-1"}),
        TopicSpec(names.progress, count, compacted),
        TopicSpec(names.epochs, 1, {**deleted, "retention.ms": "-1"}),
        TopicSpec(
            names.meter_segments,
            count,
            # A worker that was away folds events as old as the broker keeps them, and needs their horizon.
            {**deleted, "retention.ms": str((_EVENT_DAYS + HORIZON_DAYS) * _DAY_MS), **large},
        ),
        TopicSpec(names.meter_state, count, {**compacted, **large}),
        TopicSpec(names.rate_state, count, {**compacted, **large}),
    ]


async def apply(settings: Settings, *, dry_run: bool = False) -> list[TopicState]:
    """Create missing topics and correct settings that differ; says what it found.

    The number of partitions is never changed here: customers would move between partitions.
    """
    wanted = specs(settings)
    if settings.is_simulated():
        return await _touch_simulated(settings, wanted)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers(), request_timeout_ms=_ADMIN_MS)
    try:
        await admin.start()
        return await _apply(admin, wanted, settings.replication_factor, dry_run)
    except (KafkaError, OSError) as error:
        raise UserError(
            f"the topics cannot be applied at {settings.brokers()}: {error}",
            hint="is the broker running? `metering local status`",
        ) from error
    finally:
        await admin.close()


async def _apply(admin: Any, wanted: list[TopicSpec], replication: int, dry_run: bool) -> list[TopicState]:
    present = set(await admin.list_topics())
    missing = [spec for spec in wanted if spec.name not in present]
    if missing and not dry_run:
        await _create(admin, missing, replication)
    states = [TopicState(spec.name, "missing" if dry_run else "created", {}) for spec in missing]
    return states + [await _correct(admin, s, dry_run) for s in wanted if s.name in present]


async def _create(admin: Any, missing: list[TopicSpec], replication: int) -> None:
    answer = await admin.create_topics(
        [NewTopic(s.name, s.partitions, replication, topic_configs=s.config) for s in missing]
    )
    for topic, code, *rest in answer.topic_errors:
        error = for_code(code)
        if code and error.__name__ != "TopicAlreadyExistsError":
            said = f"topic {topic} was not created: {error.__name__} {rest}"
            raise UserError(
                said, hint="METERING_REPLICATION_FACTOR must not exceed the brokers; see their log"
            )
    await _wait_until_known(admin, {spec.name for spec in missing})


async def _wait_until_known(admin: Any, names: set[str]) -> None:
    """A created topic is known to the broker a moment later."""
    async with asyncio.timeout(_ADMIN_MS / 1_000):
        while not names <= set(await admin.list_topics()):  # noqa: ASYNC110 - nobody can tell us
            await asyncio.sleep(_KNOWN_PAUSE)


async def _correct(admin: Any, spec: TopicSpec, dry_run: bool) -> TopicState:
    found = await _describe(admin, spec)
    differences = {
        setting: (found.get(setting, ""), value)
        for setting, value in spec.config.items()
        if found.get(setting, "") != value
    }
    partitions = int(found["partitions"])
    if differences and not dry_run:
        resource = ConfigResource(ConfigResourceType.TOPIC, spec.name, spec.config)
        await admin.alter_configs([resource])
    action = ("differs" if dry_run else "corrected") if differences else "unchanged"
    if partitions != spec.partitions:
        differences["partitions"] = (str(partitions), str(spec.partitions))
        action = "partitions differ, not changed"
    return TopicState(spec.name, action, differences)


async def _describe(admin: Any, spec: TopicSpec) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.TOPIC, spec.name)
    answers = await admin.describe_configs([resource])
    found: dict[str, str] = {}
    for answer in answers:
        for *_, entries in answer.resources:
            found.update({entry[0]: str(entry[1]) for entry in entries})
    (topic,) = await admin.describe_topics([spec.name])
    return {**found, "partitions": str(len(topic["partitions"]))}


async def _touch_simulated(settings: Settings, wanted: Iterable[TopicSpec]) -> list[TopicState]:
    """The simulated broker makes a topic when it is asked for; it has no settings."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers())
    await producer.start()
    try:
        for spec in wanted:
            await producer.partitions_for(spec.name)
    finally:
        await producer.stop()
    return [TopicState(spec.name, "simulated", {}) for spec in wanted]
