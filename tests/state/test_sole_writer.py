"""Two workers that both think they own a partition: what was decided is answered by one alone."""

from pathlib import Path

import pytest

from metering.quota.wire import Reserve, decode_reply, encode
from metering.settings import Settings
from metering.state.checkpoint import DurableFold
from metering.state.fold import Output
from metering.state.formats import FORMAT
from metering.state.journal import Journal, Replaced
from metering.state.journal_found import Found
from metering.state.log_reader import LogReader
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.quota_part import QuotaRules
from metering.state.store import Identity, Store
from tests.state.folding import NOW, chunk
from tests.state.test_durable import Bench, bench
from tests.state.test_quota_part import BOOK, ONE, use


async def worker(made: Bench, folder: Path) -> DurableFold:
    """A worker with a disk of its own that takes the partition over."""
    names = made.names
    quotas = QuotaRules(names.quota_state, names.quota_events, names.quota_replies)
    rules = MeterRules(0, 1, names.events, names.hourly, names.rejected, quotas=quotas)
    journal = Journal(made.settings.brokers(), made.publisher, names.meter_state, names.meter_segments)
    store = Store(folder, Identity(FORMAT, "m", names.events, 0, 1))
    durable = DurableFold(MeterFold(rules), 0, 1, store, journal, made.publisher)
    await durable.load()
    durable.fold.adopt(BOOK)
    return durable


def ask(durable: DurableFold, name: str, client: str, offset: int, appended: int = NOW + 5_000) -> None:
    assert isinstance(durable.fold, MeterFold)
    assert durable.fold.quotas is not None
    request = Reserve(name, client, "a", "tokens", str(60 * ONE), whole=True)
    assert durable.fold.quotas.ask([chunk(offset, [encode(request)], appended)], BOOK, 0)


async def granted(made: Bench) -> list[str]:
    reader = LogReader(made.settings.brokers(), made.names.quota_replies, 0)
    replies = [decode_reply(value) async for _, value in reader.records() if value]
    return [reply.client for reply in replies if reply.ok]


def test_a_worker_that_was_replaced_grants_nothing(deployment: Settings, tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        old = await worker(made, tmp_path / "old")
        old.offer([chunk(0, [use(1, 10)])], BOOK)
        await old.checkpoint()
        new = await worker(made, tmp_path / "new")
        ask(new, "n", "client of the new", 0)
        await new.checkpoint()
        ask(old, "o", "client of the old", 0)
        with pytest.raises(Replaced):
            await old.checkpoint()
        assert await granted(made) == ["client of the new"]
        ask(new, "m", "greedy", 1)
        await new.checkpoint()  # what the old one decided counts for nothing
        old.close()
        new.close()
        for folder in ("new", "old", "another"):
            again = await worker(made, tmp_path / folder)
            ask(again, folder, "greedy", 2)
            await again.checkpoint()
            again.close()
        assert set(await granted(made)) == {"client of the new"}

    bench(deployment, work)


async def compacted(made: Bench, topic: str) -> Found:
    """What a reader finds when compaction has left the last record of each key."""
    reader, last, found = LogReader(made.settings.brokers(), topic, 0), {}, Found()
    async for key, value in reader.records():
        last[key] = reader.at, value
    for key, (offset, value) in sorted(last.items(), key=lambda item: item[1][0]):
        found.take(offset, key, value)
    found.finish()
    return found


@pytest.mark.parametrize("is_idle", [False, True])
def test_a_late_entry_is_not_the_one_that_compaction_keeps(
    deployment: Settings, tmp_path: Path, is_idle: bool
) -> None:
    """A worker that was replaced writes the total of an hour as it was one event before."""

    async def work(made: Bench) -> None:
        old = await worker(made, tmp_path / "old")
        old.offer([chunk(0, [use(1, 10)])], BOOK)
        await old.checkpoint()
        new = await worker(made, tmp_path / "new")
        new.offer([chunk(1, [use(2, 20), use(3, 30)])], BOOK)
        await new.checkpoint()
        old.offer([chunk(1, [use(2, 20)])], BOOK)
        with pytest.raises(Replaced):
            await old.checkpoint()
        if is_idle:
            await new.mend()
        else:
            ask(new, "n", "client", 0)  # its checkpoint does not touch the total
            await new.checkpoint()
        ours = new._store.load()
        assert ours is not None
        expected = {entry.key: entry.value for entry in ours.entries}
        old.close()
        new.close()
        left = await compacted(made, made.names.meter_state)
        assert {key: value for key, (_, value) in left.entries.items()} == expected

    bench(deployment, work)


def test_nothing_is_lost_when_a_late_copy_is_what_compaction_keeps(
    deployment: Settings, tmp_path: Path
) -> None:
    """A first delivery lands behind the next checkpoint, and no worker is there to write again."""

    async def work(made: Bench) -> None:
        durable = await worker(made, tmp_path / "one")
        durable.offer([chunk(0, [use(1, 10)])], BOOK)
        await durable.checkpoint()
        reader = LogReader(made.settings.brokers(), made.names.meter_state, 0)
        first = [record async for record in reader.records()]
        durable.offer([chunk(1, [use(2, 20)])], BOOK)
        await durable.checkpoint()
        await made.publisher.append_at_once(made.names.meter_state, 0, first)
        ours = durable._store.load()
        assert ours is not None
        expected = {entry.key: entry.value for entry in ours.entries}
        durable.close()
        left = await compacted(made, made.names.meter_state)
        assert {key: value for key, (_, value) in left.entries.items()} == expected

    bench(deployment, work)


def test_what_a_retry_wrote_twice_is_no_other_worker(deployment: Settings, tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        durable = await worker(made, tmp_path / "one")
        durable.offer([chunk(0, [use(1, 10)])], BOOK)
        await durable.checkpoint()
        reader = LogReader(made.settings.brokers(), made.names.meter_state, 0)
        last = [(key, value) async for key, value in reader.records(-1)]
        await made.publisher.publish(0, [Output(made.names.meter_state, k, v) for k, v in last])
        ask(durable, "n", "client", 0)
        await durable.checkpoint()
        assert await granted(made) == ["client"]
        durable.close()

    bench(deployment, work)


def test_requests_at_one_offset_are_not_lost_with_an_older_disk(deployment: Settings, tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        first = await worker(made, tmp_path / "first")
        first.offer([chunk(0, [use(1, 10)])], BOOK)
        await first.checkpoint()
        second = await worker(made, tmp_path / "second")
        ask(second, "n", "client", 0)
        await second.checkpoint()
        first.close()
        second.close()
        back = await worker(made, tmp_path / "first")  # same offset, older decisions
        ask(back, "m", "greedy", 1)
        await back.checkpoint()
        assert set(await granted(made)) == {"client"}  # the same reply may come twice
        assert not await first.is_current()
        back.close()

    bench(deployment, work)
