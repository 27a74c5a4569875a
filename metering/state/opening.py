"""What a deployment's fold of a partition is: its rules, the folder of its state, its journal.

The worker and everything that verifies or rebuilds its states ask here, so that both fold alike.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metering.errors import UserError
from metering.settings import Settings
from metering.state.formats import FORMAT
from metering.state.journal import Journal
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.publish import Publisher
from metering.state.quota_part import QuotaRules
from metering.state.rate_fold import RateFold, RateRules
from metering.state.store import Identity
from metering.topics import Names

HELD_HINT = (
    "stop the worker of this METERING_INSTANCE first; two workers must not share a folder: give each its own"
    " METERING_INSTANCE"
)


def new_fold(
    settings: Settings, topic: str, partition: int, ids_folder: Path | None = None
) -> MeterFold | RateFold:
    """A fold without a state; `ids_folder` is where a meter fold may move ids out of memory."""
    if topic == Names(settings).events:
        return MeterFold(
            _meter_rules(settings, partition), ids_folder=ids_folder, memory_ids=settings.memory_ids
        )
    return RateFold(_rate_rules(settings, partition))


def _meter_rules(settings: Settings, partition: int) -> MeterRules:
    names = Names(settings)
    return MeterRules(
        partition=partition,
        partitions=settings.partitions,
        events_topic=names.events,
        hourly_topic=names.hourly,
        rejected_topic=names.rejected,
        epoch=settings.epoch,
        grace_hours=settings.close_grace_hours,
        max_future_ms=settings.max_future_seconds * 1_000,
        compiled=settings.compiled,
        quotas=QuotaRules(names.quota_state, names.quota_events, names.quota_replies, settings.quota_lag_ms),
    )


def _rate_rules(settings: Settings, partition: int) -> RateRules:
    return RateRules(
        partition=partition,
        partitions=settings.partitions,
        charges_topic=Names(settings).charges,
        epoch=settings.epoch,
        grace_hours=settings.close_grace_hours,
    )


def state_folder(settings: Settings, topic: str, partition: int) -> Path:
    """Where this instance keeps the state of a partition."""
    return settings.home / "state" / settings.instance / f"{topic}-{partition}"


def ids_folder(settings: Settings, topic: str, partition: int) -> Path:
    """Where this instance keeps the ids that a meter fold has moved out of memory."""
    folder = state_folder(settings, topic, partition)
    return folder.with_name(f"{folder.name}.ids")


def identity(settings: Settings, topic: str, partition: int) -> Identity:
    """What the state folder of a partition must say it is."""
    kind = "MeterFold" if topic == Names(settings).events else "RateFold"
    return Identity(FORMAT, kind, topic, partition, settings.epoch, settings.partitions)


def journal(settings: Settings, publisher: Publisher, topic: str) -> Journal:
    """The journal of the fold that reads a topic."""
    names = Names(settings)
    brokers, count = settings.brokers(), settings.partitions
    if topic == names.events:
        return Journal(brokers, publisher, names.meter_state, names.meter_segments, partitions=count)
    return Journal(brokers, publisher, names.rate_state, partitions=count)


async def check_partitions(settings: Settings, publisher: Publisher) -> None:
    """UserError when `usage.events` has another number of partitions than the settings say."""
    topic = Names(settings).events
    found = await publisher.partitions(topic)
    if found != settings.partitions:
        raise UserError(
            f"{topic} has {found} partitions, METERING_PARTITIONS says {settings.partitions}",
            hint="set METERING_PARTITIONS to the topic's number: customers are placed by it",
        )


@contextmanager
def held(settings: Settings) -> Iterator[None]:
    """Hold the state folders of this instance; UserError when another process does."""
    folder = settings.home / "state" / settings.instance
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process holds the state folder {folder}", hint=HELD_HINT) from error
        yield
