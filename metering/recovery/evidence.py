"""What a fold's own outputs say about how it went: which revision where, and where it closed periods."""

from typing import NamedTuple

import msgspec

from metering.errors import UserError
from metering.records import EPOCH_SHIFT, OFFSET_SHIFT, PeriodClose
from metering.recovery.history import Schedule
from metering.recovery.logs import read_chunks
from metering.settings import Settings
from metering.state.log_bounds import LogBounds
from metering.topics import Names

_CLOSE = b'"kind":"close"'
_LETTER = "rejected"


class Stamp(NamedTuple):
    """A version taken apart; see `metering.records.version`."""

    epoch: int
    offset: int
    revision: int


class Stage(NamedTuple):
    """A checkpoint that closed periods, with the watermark (epoch ms) that closed them."""

    offset: int
    revision: int
    watermark: int


class _Stamped(msgspec.Struct):
    version: str
    kind: str = ""
    offset: int = 0


def stamp_of(version: str) -> Stamp:
    """The epoch, offset and catalog revision in a version."""
    number = int(version)
    offset = number >> OFFSET_SHIFT & (1 << EPOCH_SHIFT - OFFSET_SHIFT) - 1
    return Stamp(number >> EPOCH_SHIFT, offset, number & (1 << OFFSET_SHIFT) - 1)


async def meter_schedule(
    settings: Settings, bounds: LogBounds, partition: int, published: list[tuple[int, int]]
) -> Schedule:
    """The revision under which each record of `usage.events` was folded, as far as it can be known.

    Totals speak last: a dead letter of a history that was given up stays on its topic.
    """
    names, schedule = Names(settings), Schedule(published)
    for topic in (names.rejected, names.hourly):
        first, end = await bounds.of(topic, partition)
        async for chunks in read_chunks(settings.brokers(), topic, partition, first, end):
            for value in (value for chunk in chunks for value in chunk.values if value):
                _note(schedule, value, settings.epoch, is_letter=topic == names.rejected)
    return schedule


def _note(schedule: Schedule, value: bytes, epoch: int, *, is_letter: bool) -> None:
    found = msgspec.json.decode(value, type=_Stamped)
    if is_letter and found.kind != _LETTER:
        return  # what a person did about a letter
    stamp = stamp_of(found.version)
    if stamp.epoch == epoch:
        # A total includes everything before its offset, a letter is the record at its offset.
        schedule.note(found.offset if is_letter else stamp.offset - 1, stamp.revision)


async def recorded_closes(settings: Settings, bounds: LogBounds, partition: int) -> list[PeriodClose]:
    """The close records of a partition, the newest of each customer's period."""
    topic = Names(settings).charges
    newest: dict[tuple[str, str], PeriodClose] = {}
    first, end = await bounds.of(topic, partition)
    async for chunks in read_chunks(settings.brokers(), topic, partition, first, end):
        for value in (value for chunk in chunks for value in chunk.values if value and _CLOSE in value):
            close = _close(value)
            if close is None or stamp_of(close.version).epoch != settings.epoch:
                continue
            known = newest.get((close.customer, close.period))
            if known is None or int(close.version) >= int(known.version):
                newest[close.customer, close.period] = close
    return list(newest.values())


def _close(value: bytes) -> PeriodClose | None:
    try:
        return msgspec.json.decode(value, type=PeriodClose)
    except msgspec.ValidationError:
        return None  # another record that mentions it


def stages_of(closes: list[PeriodClose]) -> list[Stage]:
    """The checkpoints that closed periods, in order."""
    found: dict[tuple[int, int], int] = {}
    for close in closes:
        stamp = stamp_of(close.version)
        place = (stamp.offset, stamp.revision)
        found[place] = max(close.watermark, found.get(place, 0))
    return [Stage(*place, watermark) for place, watermark in sorted(found.items())]


async def refuse_other_revisions(
    settings: Settings, bounds: LogBounds, tp: tuple[str, int], now: int
) -> None:
    """UserError when a fold without a state would fold a log that was folded under other catalogs.

    What was rejected or closed then would be decided again, under today's catalog.
    """
    names, partition = Names(settings), tp[1]
    if tp[0] == names.events:
        schedule = await meter_schedule(settings, bounds, partition, [])
        seen = schedule.revisions
    else:
        closes = await recorded_closes(settings, bounds, partition)
        seen = {stamp_of(close.version).revision for close in closes}
    if seen - {now}:
        raise UserError(
            f"{tp[0]}, partition {partition}: its state and its journal are gone, and its log was folded"
            f" under the catalog revisions {', '.join(map(str, sorted(seen)))}; now {now} is in force",
            hint="`metering state rebuild --from log` decides again what was decided, as it was decided",
        )
