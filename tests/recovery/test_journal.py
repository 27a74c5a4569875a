"""A journal that is replaced: what was there before does not come back, whatever the broker keeps."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from metering.errors import UserError
from metering.settings import Settings
from metering.state import journal as module
from metering.state import opening
from metering.state.checkpoint import DurableFold
from metering.state.dedupe import DAY_MS, HORIZON_DAYS
from metering.state.fold import Changes, Entry, Output, Saved, Segment, place_in_log
from metering.state.formats import FORMAT
from metering.state.journal import Journal
from metering.state.journal_records import Pending, key_at
from metering.state.log_reader import LogReader
from metering.state.publish import BATCH_BYTES, Publisher
from metering.state.store import Identity, Store
from metering.topics import Names, apply, specs
from tests.state.folding import meter_fold

TEN = place_in_log(1, 10)
BEFORE = Changes(
    epoch=1,
    offset=10,
    header=b"before",
    entries=[Entry(b'["stays"]', b"1", TEN), Entry(b'["goes"]', b"1", TEN)],
    segments=[Segment(1, place_in_log(1, 0), TEN, b"i" * 16)],
    expired_before=0,
    outputs=[Output("somewhere", b"k", b"v")],
)
AFTER = Saved(
    10, b"after", [Entry(b'["stays"]', b"2", TEN)], [Segment(1, place_in_log(1, 0), TEN, b"j" * 16)]
)


def with_journal(settings: Settings, work: Callable[[Journal], Awaitable[None]]) -> None:
    async def run() -> None:
        await apply(settings)
        publisher = Publisher(settings.brokers())
        await publisher.start()
        try:
            await work(opening.journal(settings, publisher, Names(settings).events))
        finally:
            await publisher.stop()

    asyncio.run(run())


def test_what_was_struck_out_is_gone(deployment: Settings) -> None:
    async def work(journal: Journal) -> None:
        await journal.append(0, BEFORE)
        await journal.strike_out(0)
        assert await journal.position(0, 1) is None
        assert await journal.read(0, 1) is None

    with_journal(deployment, work)


def test_a_whole_state_takes_the_place_of_entries_and_pending_outputs(deployment: Settings) -> None:
    async def work(journal: Journal) -> None:
        await journal.append(0, BEFORE)
        await journal.strike_out(0)
        await journal.write_whole(0, 1, AFTER)
        found = await journal.read(0, 1)
        assert found is not None
        saved, outputs = found
        assert (saved.offset, saved.header, list(saved.entries), outputs) == (10, b"after", AFTER.entries, [])
        assert await journal.position(0, 1) == 10

    with_journal(deployment, work)


def test_pending_outputs_of_a_worker_that_was_replaced_take_nothing_away(deployment: Settings) -> None:
    """Its checkpoint lies behind ours or beside it: at the same offset, but cut elsewhere."""
    ours = msgspec.structs.replace(BEFORE, offset=20, outputs=[Output("somewhere", b"k", b"ours")])
    late = [BEFORE, msgspec.structs.replace(ours, outputs=[Output("somewhere", b"k", b"theirs")])]

    async def work(journal: Journal) -> None:
        await journal.append(0, ours)
        replaced = opening.journal(deployment, journal._publisher, Names(deployment).events)
        for other in late:
            parts = [Output(replaced._state_topic, k, v) for k, v in Pending.of(other).parts.items()]
            await replaced._publisher.publish(0, parts)  # it dies before its position is there
        found = await journal.read(0, 1)
        assert found is not None
        assert (found[0].offset, found[1]) == (20, ours.outputs)

    with_journal(deployment, work)


def test_pending_outputs_are_struck_out_by_the_next_position(deployment: Settings) -> None:
    async def work(journal: Journal) -> None:
        await journal.append(0, BEFORE)
        await journal.append(0, msgspec.structs.replace(BEFORE, offset=20, outputs=[]))
        reader = LogReader(deployment.brokers(), journal._state_topic, 0)
        held = {key: value async for key, value in reader.records()}
        assert [value for key, value in held.items() if key.startswith(b"o")] == [None]
        found = await journal.read(0, 1)
        assert found is not None
        assert found[1] == []

    with_journal(deployment, work)


def test_a_position_that_lands_late_finds_its_pending_outputs(deployment: Settings) -> None:
    """Its request was on the way when its worker died, and its successor began from the position before."""
    late = msgspec.structs.replace(BEFORE, offset=30, outputs=[Output("somewhere", b"k", b"late")])

    async def work(journal: Journal) -> None:
        await journal.append(0, BEFORE)
        parts = [Output(journal._state_topic, k, v) for k, v in Pending.of(late).parts.items()]
        await journal._publisher.publish(0, parts)
        successor = opening.journal(deployment, journal._publisher, Names(deployment).events)
        found = await successor.read(0, 1)
        assert found is not None
        assert found[0].offset == 10
        await journal.append(0, late)
        await successor.append(0, msgspec.structs.replace(BEFORE, offset=20))
        found = await successor.read(0, 1)
        assert found is not None
        assert (found[0].offset, found[1]) == (30, late.outputs)

    with_journal(deployment, work)


@pytest.mark.parametrize(("spared", "left"), [(0.0, [40, 50]), (60.0, [10, 20, 40, 50])])
def test_a_stale_position_behind_a_newer_one_does_not_outlive_it(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch, spared: float, left: list[int]
) -> None:
    """Compaction keeps the last record of each key: of two positions it must keep both, for a while."""
    monkeypatch.setattr(module, "SPARED_SECONDS", spared)

    async def work(journal: Journal) -> None:
        replaced = opening.journal(deployment, journal._publisher, Names(deployment).events)
        await journal.append(0, msgspec.structs.replace(BEFORE, offset=20))
        await replaced.append(0, BEFORE)
        reader = LogReader(deployment.brokers(), journal._state_topic, 0)
        kept = list({key: value async for key, value in reader.records()}.items())
        await journal.strike_out(0)
        await journal._publisher.append(journal._state_topic, 0, kept)
        found = await journal.read(0, 1)
        assert found is not None
        assert found[0].offset == 20
        for offset in (40, 50):  # the one before stays until the next one
            await journal.append(0, msgspec.structs.replace(BEFORE, offset=offset))
            assert await journal.overlaid(0) is None
        held = {key: value async for key, value in reader.records()}
        positions = sorted(key for key, value in held.items() if key.startswith(b"p") and value)
        assert [key[:9] for key in positions] == [key_at(b"p", place_in_log(1, o)) for o in left]

    with_journal(deployment, work)


def test_a_state_of_before_does_not_go_on_with_less_than_the_revision_that_another_owner_had(
    deployment: Settings,
) -> None:
    """Its rows would lose against those that are rated under the newer one, for ever once it closes."""

    async def work(journal: Journal) -> None:
        held = Store(deployment.home / "state", Identity(FORMAT, "r", "hourly", 0, 1))
        ours = msgspec.structs.replace(BEFORE, outputs=[], revision=1)
        held.write(ours)
        held.settle(ours, journal.known(0))
        await journal.append(0, ours)
        other = opening.journal(deployment, journal._publisher, Names(deployment).events)
        await other.append(0, msgspec.structs.replace(ours, revision=2))
        fresh = opening.journal(deployment, journal._publisher, Names(deployment).events)
        assert await fresh.position(0, 1) == 10
        assert fresh.revision(0) == 2
        await fresh.append(0, msgspec.structs.replace(ours, revision=1))  # of a worker that was replaced
        found = await fresh.read(0, 1)
        assert found is not None
        assert fresh.revision(0) == 2
        held.close()

    with_journal(deployment, work)


def test_a_new_revision_at_the_same_place_keeps_its_pending_outputs(deployment: Settings) -> None:
    """The worker died before it had published them, and a late copy of the position before landed behind."""
    newer = msgspec.structs.replace(BEFORE, outputs=[Output("somewhere", b"k", b"newer")], revision=2)

    async def work(journal: Journal) -> None:
        for one in (BEFORE, newer, BEFORE):
            await journal.append(0, one)
        found = await journal.read(0, 1)
        assert found is not None
        assert found[1] == newer.outputs

    with_journal(deployment, work)


def test_a_state_larger_than_a_record_batch_is_written_too(deployment: Settings) -> None:
    large = [Entry(b'["%d"]' % n, bytes([n]) * (BATCH_BYTES // 4), TEN) for n in range(6)]

    async def work(journal: Journal) -> None:
        await journal.write_whole(0, 1, AFTER._replace(entries=large))
        found = await journal.read(0, 1)
        assert found is not None
        assert sorted(found[0].entries, key=lambda e: e.key) == large

    with_journal(deployment, work)


def test_ids_of_another_epoch_do_not_count(deployment: Settings) -> None:
    async def work(journal: Journal) -> None:
        await journal.append(0, BEFORE)
        await journal.write_whole(0, 2, AFTER)
        found = await journal.read(0, 2)
        assert found is not None
        assert [s.ids for s in found[0].segments] == [b"j" * 16]

    with_journal(deployment, work)


def test_entries_of_another_epoch_do_not_come_back(deployment: Settings) -> None:
    async def work(journal: Journal) -> None:
        await journal.append(0, BEFORE)
        store = Store(deployment.home / "state", Identity(FORMAT, "m", "events", 0, 2))
        durable = DurableFold(meter_fold(), 0, 2, store, journal, journal._publisher)
        assert await durable.load() is None
        durable.close()
        fresh = [Entry(b'["new"]', b"3", place_in_log(2, 5))]
        await journal.append(0, msgspec.structs.replace(BEFORE, epoch=2, offset=5, entries=fresh))
        found = await journal.read(0, 2)
        assert found is not None
        assert list(found[0].entries) == fresh

    with_journal(deployment, work)


def test_a_journal_of_a_later_epoch_or_another_number_of_partitions_is_refused(deployment: Settings) -> None:
    async def work(journal: Journal) -> None:
        await journal.append(0, msgspec.structs.replace(BEFORE, epoch=2))
        for read in (journal.position(0, 1), journal.read(0, 1)):
            with pytest.raises(UserError, match="is of epoch 2, METERING_EPOCH is 1") as caught:
                await read
            assert "METERING_EPOCH=2" in caught.value.hint
        eight = deployment.model_copy(update={"partitions": 8})
        other = opening.journal(eight, journal._publisher, Names(eight).events)
        for read in (other.position(0, 2), other.read(0, 2)):
            with pytest.raises(UserError, match="is of 4 partitions, METERING_PARTITIONS is 8"):
                await read

    with_journal(deployment, work)


def test_ids_outlive_every_event_that_a_worker_may_still_have_to_fold() -> None:
    settings = Settings(kafka_brokers="nowhere:9092")
    kept = {spec.name: int(spec.config.get("retention.ms", 0)) for spec in specs(settings)}
    names = Names(settings)
    assert kept[names.meter_segments] >= kept[names.events] + HORIZON_DAYS * DAY_MS
