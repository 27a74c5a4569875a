"""What a deployment's fold of a partition is: its rules, the folder of its state, its journal.

The worker and everything that verifies or rebuilds its states ask here, so that both fold alike.
"""

from pathlib import Path

from metering.settings import Settings
from metering.state.formats import FORMAT
from metering.state.journal import Journal
from metering.state.meter_fold import MeterFold, MeterRules
from metering.state.publish import Publisher
from metering.state.rate_fold import RateFold, RateRules
from metering.state.store import Identity
from metering.topics import Names


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
    return Identity(FORMAT, kind, topic, partition, settings.epoch)


def journal(settings: Settings, publisher: Publisher, topic: str) -> Journal:
    """The journal of the fold that reads a topic."""
    names = Names(settings)
    if topic == names.events:
        return Journal(settings.brokers(), publisher, names.meter_state, names.meter_segments)
    return Journal(settings.brokers(), publisher, names.rate_state)
