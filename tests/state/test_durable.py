"""The checkpoint on a real Kafka: whatever step a crash falls into, the next load is exact."""

import asyncio
import resource
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from metering.errors import UserError
from metering.records import decode
from metering.settings import Settings
from metering.state import journal
from metering.state.checkpoint import PIECE_VALUES, DurableFold, Verdict, pieces
from metering.state.fold import Changes, Entry
from metering.state.formats import FORMAT
from metering.state.journal import Journal
from metering.state.log_bounds import Bounds
from metering.state.log_reader import LogReader
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.publish import Publisher
from metering.state.store import DISK_HINT, Identity, Store
from metering.topics import Names, apply
from tests.state.folding import catalog, chunk, event, latest_totals

CATALOG = catalog()
VALUES = [event(n % 7, hour=n % 7 % 3, n=n % 7) for n in range(12)] + [b"noise"]


@pytest.fixture(autouse=True, params=[journal.MOST_ENTRY_BYTES, 1], ids=["whole", "in parts"])
def entries_in_a_batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint's entries fit its batch, or each follows in one of its own."""
    monkeypatch.setattr(journal, "MOST_ENTRY_BYTES", request.param)


class Crash(Exception):
    """The process dies here."""


class Bench:
    """One partition's durable fold, made anew for each life of the process."""

    def __init__(self, settings: Settings, publisher: Publisher) -> None:
        self.settings = settings
        self.names = Names(settings)
        self.publisher = publisher
        self.lives = 0
        self.folder = settings.home / "state"
        self._store: Store | None = None

    async def live(self, *, lost_disk: bool = False) -> DurableFold:
        if self._store is not None:
            self._store.close()
        self.lives += lost_disk
        self._store = Store(self.folder / str(self.lives), Identity(FORMAT, "m", self.names.events, 0, 1))
        rules = MeterRules(0, 1, self.names.events, self.names.hourly, self.names.rejected)
        own = Journal(
            self.settings.brokers(), self.publisher, self.names.meter_state, self.names.meter_segments
        )
        durable = DurableFold(MeterFold(rules), 0, 1, self._store, own, self.publisher)
        await durable.load()
        return durable

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    async def published(self, topic: str) -> list[Any]:
        reader = LogReader(self.settings.brokers(), topic, 0)
        return [decode(value) async for _, value in reader.records() if value]


def bench(settings: Settings, work: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        await apply(settings)
        publisher = Publisher(settings.brokers())
        await publisher.start()
        made = Bench(settings, publisher)
        try:
            await work(made)
        finally:
            made.close()
            await publisher.stop()

    asyncio.run(run())


async def feed(durable: DurableFold, upto: int) -> None:
    start = durable.fold.offset or 0
    assert durable.offer([chunk(start, VALUES[start:upto])], CATALOG) is Verdict.FOLDED
    await durable.checkpoint()


async def expect_exact(made: Bench, durable: DurableFold) -> None:
    fold = durable.fold
    assert isinstance(fold, MeterFold)
    assert (fold.counters.read, fold.counters.accepted, fold.counters.rejected) == (13, 7, 1)
    totals = latest_totals(await made.published(made.names.hourly))
    assert sum(q for (_, meter, _), q in totals.items() if meter == "tokens") == sum(range(7))
    letters = {(r.offset, r.index) for r in await made.published(made.names.rejected)}
    assert letters == {(12, -1)}


def crash_at(durable: DurableFold, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(*_: object) -> None:
        raise Crash

    def die_now(*_: object) -> None:
        raise Crash

    if step == "store":
        monkeypatch.setattr(durable._store, "write", die_now)
    elif step == "journal":
        monkeypatch.setattr(durable._journal, "append", die)
    elif step == "outputs":
        monkeypatch.setattr(durable._publisher, "publish_results", die)
    else:
        monkeypatch.setattr(durable._store, "settle", die_now)


@pytest.mark.parametrize("step", ["store", "journal", "outputs", "settle"])
@pytest.mark.parametrize("lost_disk", [False, True])
def test_a_crash_in_any_step_of_a_checkpoint_is_exact(
    deployment: Settings, step: str, lost_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(made: Bench) -> None:
        durable = await made.live()
        await feed(durable, 5)
        with monkeypatch.context() as patch:
            crash_at(durable, step, patch)
            durable.offer([chunk(5, VALUES[5:])], CATALOG)
            with pytest.raises(Crash):
                await durable.checkpoint()
        again = await made.live(lost_disk=lost_disk)
        start = again.fold.offset or 0
        if start < len(VALUES):
            await feed(again, len(VALUES))
        await expect_exact(made, again)

    bench(deployment, work)


def test_a_crash_while_a_state_is_rebuilt_loses_no_pending_outputs(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(made: Bench) -> None:
        durable = await made.live()
        with monkeypatch.context() as patch:
            crash_at(durable, "outputs", patch)
            durable.offer([chunk(0, VALUES)], CATALOG)
            with pytest.raises(Crash):
                await durable.checkpoint()
        with monkeypatch.context() as patch:
            crash_at(durable, "outputs", patch)  # the publisher is the same
            with pytest.raises(Crash):
                await made.live(lost_disk=True)
        await expect_exact(made, await made.live())

    bench(deployment, work)


def test_a_state_is_rebuilt_from_the_journal_with_its_ids(deployment: Settings) -> None:
    async def work(made: Bench) -> None:
        await feed(await made.live(), len(VALUES))
        again = await made.live(lost_disk=True)
        again.offer([chunk(13, [event(1, hour=1, n=1)])], CATALOG)
        assert isinstance(again.fold, MeterFold)
        assert again.fold.counters.duplicates == 6

    bench(deployment, work)


def test_a_batch_already_covered_is_skipped_and_a_gap_never_folded(deployment: Settings) -> None:
    async def work(made: Bench) -> None:
        durable = await made.live()
        await feed(durable, 5)
        assert durable.offer([chunk(0, VALUES[:5])], CATALOG) is Verdict.COVERED
        assert durable.offer([chunk(6, VALUES[6:])], CATALOG) is Verdict.GAP
        assert durable.offer([chunk(3, VALUES[3:7])], CATALOG) is Verdict.FOLDED
        assert durable.fold.offset == 7

    bench(deployment, work)


def test_a_folder_of_another_topic_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "s", Identity(FORMAT, "m", "one", 0, 1)).close()
    with pytest.raises(UserError, match="belongs to"):
        Store(tmp_path / "s", Identity(FORMAT, "m", "two", 0, 1))


@pytest.mark.parametrize(
    ("held", "hint"),
    [
        (Identity(FORMAT, "m", "other", 0, 1, 4), "METERING_HOME"),
        (Identity(FORMAT, "m", "one", 0, 1, 8), "set METERING_PARTITIONS back"),
        (Identity(FORMAT, "m", "one", 0, 2, 4), "METERING_EPOCH was raised to 2"),
    ],
)
def test_a_folder_of_something_else_says_what_to_do(tmp_path: Path, held: Identity, hint: str) -> None:
    Store(tmp_path / "s", held).close()
    with pytest.raises(UserError, match="belongs to") as caught:
        Store(tmp_path / "s", Identity(FORMAT, "m", "one", 0, 1, 4))
    assert hint in caught.value.hint


def test_a_folder_that_does_not_say_of_how_many_partitions_it_is_one_is_taken(tmp_path: Path) -> None:
    Store(tmp_path / "s", Identity(FORMAT, "m", "one", 0, 1)).close()
    Store(tmp_path / "s", Identity(FORMAT, "m", "one", 0, 1, 4)).close()


def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", Identity(FORMAT, "m", "one", 0, 1, 4))
    whole = Changes(1, 9, b"", [Entry(b"k", bytes(1 << 20), 9)], [], 0, [])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # no file may grow beyond it
    try:
        with pytest.raises(UserError, match="cannot be written") as caught:
            store.write(whole)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.hint == DISK_HINT


def test_a_folder_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    Store(tmp_path / "s", Identity(FORMAT, "m", "one", 0, 1, 4)).close()
    (tmp_path / "s" / "CURRENT").write_text("nonsense")
    with pytest.raises(UserError, match="cannot be opened") as caught:
        Store(tmp_path / "s", Identity(FORMAT, "m", "one", 0, 1, 4))
    assert caught.value.hint == "move the folder away: the journal has the state"


def test_two_workers_cannot_share_a_folder(tmp_path: Path) -> None:
    held = Store(tmp_path / "s", Identity(FORMAT, "m", "one", 0, 1))
    with pytest.raises(UserError) as caught:
        Store(tmp_path / "s", Identity(FORMAT, "m", "one", 0, 1))
    assert "METERING_INSTANCE" in caught.value.hint
    held.close()


@pytest.mark.parametrize(
    ("bounds", "message"), [(Bounds(9, 20), "deleted by the broker"), (Bounds(0, 3), "created anew")]
)
def test_a_log_that_does_not_hold_what_comes_next_stops_the_worker(
    deployment: Settings, bounds: Bounds, message: str
) -> None:
    async def work(made: Bench) -> None:
        durable = await made.live()
        await feed(durable, 5)
        with pytest.raises(UserError, match=message):
            durable.check_reachable(bounds, "events")

    bench(deployment, work)


def test_large_fetches_are_cut_without_losing_an_offset() -> None:
    whole = chunk(10, [b"{}"] * (PIECE_VALUES * 2 + 5))
    parts = [part for piece in pieces([whole]) for part in piece]
    assert [parts[0].first, parts[-1].next] == [whole.first, whole.next]
    assert all(a.next == b.first for a, b in pairwise(parts))
    assert sum(len(p.values) for p in parts) == len(whole.values)


def test_changes_say_everything_in_a_form_that_can_be_repeated() -> None:
    assert set(Changes.__struct_fields__) == {
        "epoch",
        "offset",
        "header",
        "entries",
        "segments",
        "expired_before",
        "outputs",
        "sequence",
        "revision",
    }
