"""Replacing a state by what the journal or the log says it is.

Nothing is taken away before what takes its place is known to be right: outputs first (they are absolute,
so saying them twice is harmless), then the local folder, then the journal.
"""

import shutil
from collections.abc import Iterable
from typing import Literal, NamedTuple

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from metering.errors import UserError
from metering.records import PeriodClose
from metering.recovery.canonical import canonical, place_of
from metering.recovery.copies import Copies, Part
from metering.recovery.evidence import recorded_closes, stamp_of
from metering.recovery.guards import refuse_while_running
from metering.recovery.history import Unavailable
from metering.recovery.refold import Place
from metering.settings import Settings
from metering.state import opening
from metering.state.fold import Changes, Saved
from metering.state.store import Store

log = structlog.get_logger()

Source = Literal["journal", "log"]


class Rebuilt(NamedTuple):
    """What a partition's state is now; without an offset nothing was done, and `note` says why."""

    part: Part
    offset: int | None
    digest: str
    note: str


async def rebuild(settings: Settings, source: Source, only: int | None = None) -> list[Rebuilt]:
    """Replace the local states of this instance, of all partitions or of one."""
    with opening.held(settings):
        return await _rebuild(settings, source, only)


async def _rebuild(settings: Settings, source: Source, only: int | None) -> list[Rebuilt]:
    async with Copies.of(settings) as copies:
        parts = copies.parts(only)
        await refuse_while_running(settings, copies.names.worker_group, "workers")
        await copies.publisher.start()
        try:
            await opening.check_partitions(settings, copies.publisher)
            work = _from_journal if source == "journal" else _from_log
            return [await work(copies, part) for part in parts]
        finally:
            await copies.publisher.stop()


async def _from_journal(copies: Copies, part: Part) -> Rebuilt:
    found = await copies.journal(part)
    if found is None:
        return Rebuilt(part, None, "", "the journal is empty; nothing was changed")
    saved, outputs = found
    _put_on_disk(copies, part, saved)
    await copies.publisher.publish_results(part.partition, outputs)
    return Rebuilt(part, saved.offset, canonical(saved).digest, "")


async def _from_log(copies: Copies, part: Part) -> Rebuilt:
    place = await _target(copies, part)
    if place is None:
        return Rebuilt(part, None, "", "the log is empty; nothing was changed")
    try:
        refolded = await copies.log(part, [place])
        if part.fold == "rate":
            _refuse_changed_closes(part, await _closes_before(copies, part, place), refolded.closes)
        saved = refolded.saved[place]
        await copies.log(part, [place], lambda changes: _publish(copies, part, changes))
    except Unavailable as error:
        raise UserError(
            f"{part}: the state cannot be folded from its log: {error}",
            hint="`metering state rebuild --from journal` if there is one; see docs/recovery.md",
        ) from error
    _put_on_disk(copies, part, saved)
    await _put_into_journal(copies, part, saved)
    return Rebuilt(part, saved.offset, canonical(saved).digest, "")


async def _publish(copies: Copies, part: Part, changes: Changes) -> None:
    await copies.publisher.publish_results(part.partition, changes.outputs)


async def _target(copies: Copies, part: Part) -> Place | None:
    """Where the newest copy stands, so that nothing that was published is undone; else the log's end."""
    end = (await copies.bounds.of(part.topic, part.partition)).end
    if end == 0:
        return None
    journal = await copies.journal(part)
    found = [saved for saved in (_readable(copies, part), journal and journal[0]) if saved is not None]
    newest = max((place_of(saved) for saved in found), default=None)
    if newest is None:
        return end, copies.catalogs.revisions[-1] if part.fold == "rate" else 0
    if newest[0] > end:
        raise UserError(
            f"{part}: the state is at {newest[0]:,}, the log ends at {end:,}: its topic was created anew",
            hint="raise METERING_EPOCH: the log is then folded from its beginning",
        )
    return newest


def _readable(copies: Copies, part: Part) -> Saved | None:
    try:
        return copies.local(part)
    except Exception as error:  # a folder that cannot be read is what this command is for
        log.warning("state_folder_unreadable", folder=str(copies.folder(part)), error=str(error))
        return None


async def _closes_before(copies: Copies, part: Part, place: Place) -> list[PeriodClose]:
    closes = await recorded_closes(copies.settings, copies.bounds, part.partition)
    return [close for close in closes if stamp_of(close.version).offset <= place[0]]


def _refuse_changed_closes(part: Part, recorded: Iterable[PeriodClose], made: Iterable[PeriodClose]) -> None:
    """A closed period never changes: a log that closes one differently is not the one it was made from."""
    now = {(close.customer, close.period): close for close in made}
    for close in recorded:
        again = now.get((close.customer, close.period))
        if again is None or _content(again) != _content(close):
            found = "nothing" if again is None else f"{again.rows} rows, {again.amount}"
            raise UserError(
                f"{part}: {close.period} of `{close.customer}` was closed with {close.rows} rows,"
                f" {close.amount}; folded again it would be {found}",
                hint="the log has lost records to compaction or a catalog revision is gone:"
                " `metering state rebuild --from journal`",
            )


def _content(close: PeriodClose) -> tuple[object, ...]:
    return close.currency, close.rows, close.errors, close.amount, close.digest


def _put_on_disk(copies: Copies, part: Part, saved: Saved) -> None:
    folder = copies.folder(part)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(opening.ids_folder(copies.settings, part.topic, part.partition), ignore_errors=True)
    store = Store(folder, opening.identity(copies.settings, part.topic, part.partition))
    try:
        store.replace(saved)
    finally:
        store.close()


async def _put_into_journal(copies: Copies, part: Part, saved: Saved) -> None:
    journal = opening.journal(copies.settings, copies.publisher, part.topic)
    await journal.strike_out(part.partition)
    if part.fold == "meter" and not copies.settings.is_simulated():
        await _forget_segments(copies, part.partition)
    await journal.write_whole(part.partition, copies.settings.epoch, saved)


async def _forget_segments(copies: Copies, partition: int) -> None:
    """Ids that were wrong would stay for 35 days: their topic is emptied."""
    topic = copies.names.meter_segments
    end = (await copies.bounds.of(topic, partition)).end
    admin = AIOKafkaAdminClient(bootstrap_servers=copies.settings.brokers())
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=end)})
    finally:
        await admin.close()
