"""Workers are upgraded one after the other: what an older format left is read, a newer one is refused.

`formats/2.msgpack` holds the changes of two checkpoints as format 2 wrote them, of `EVENTS` up to the
offset 21: of a meter fold and of a rate fold.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.errors import UserError
from metering.settings import Settings
from metering.state import opening
from metering.state.checkpoint import DurableFold
from metering.state.fold import Changes
from metering.state.formats import FORMAT
from metering.state.journal import Journal
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.publish import Publisher
from metering.state.rate_fold import RateFold
from metering.state.store import Identity, Store
from metering.topics import Names, apply
from tests.state.folding import catalog, chunk, event, latest_totals, meter_fold, rate_fold, records

WRITTEN = msgspec.msgpack.decode(
    (Path(__file__).parent / "formats" / "2.msgpack").read_bytes(), type=dict[str, list[Changes]]
)
EVENTS = [event(n % 12, "ab"[n % 2], hour=n % 5, n=n % 12) for n in range(20)] + [b"noise"]
MORE = [event(n, "ab"[n % 2], hour=n % 5, n=n) for n in range(16)]  # twelve of them for the second time
BOOK = catalog()


def identity(of_format: int) -> Identity:
    return Identity(of_format, "m", "events", 0, 1)


def written_on(settings: Settings) -> list[Changes]:
    """The meter's changes, with outputs for the topics of a deployment."""
    names = Names(settings)
    topics = {"hourly": names.hourly, "rejected": names.rejected}
    return [
        msgspec.structs.replace(
            one, outputs=[msgspec.structs.replace(o, topic=topics[o.topic]) for o in one.outputs]
        )
        for one in WRITTEN["meter"]
    ]


def fold_of(settings: Settings) -> MeterFold:
    names = Names(settings)
    return MeterFold(MeterRules(0, 1, names.events, names.hourly, names.rejected))


def old_folder(path: Path, changes: list[Changes]) -> Path:
    """A folder as a worker of format 2 left it, in the middle of its last checkpoint."""
    store = Store(path, identity(FORMAT))
    store._db[b"i"] = msgspec.msgpack.encode(identity(2))
    for one in changes:
        store.write(one)
    store.close()
    return path


async def old_journal(settings: Settings, publisher: Publisher, changes: list[Changes]) -> None:
    """A journal as a worker of format 2 wrote it."""
    names, pack = Names(settings), msgspec.msgpack.encode
    for one in changes:
        await publisher.append(names.meter_segments, 0, [(None, pack(s)) for s in one.segments])
        entries = [(b"e" + e.key, pack((e.version, e.value))) for e in one.entries]
        await publisher.append(names.meter_state, 0, entries)
        position = {"epoch": one.epoch, "offset": one.offset, "header": one.header}
        await publisher.append(names.meter_state, 0, [(b"p", pack(position))])


def upgraded(settings: Settings, work: Callable[[Publisher, Journal], Awaitable[None]]) -> None:
    async def run() -> None:
        await apply(settings)
        publisher = Publisher(settings.brokers())
        await publisher.start()
        try:
            await work(publisher, opening.journal(settings, publisher, Names(settings).events))
        finally:
            await publisher.stop()

    asyncio.run(run())


def whole(upto: list[bytes]) -> MeterFold:
    """A fold that was never interrupted."""
    fold = meter_fold()
    fold.fold([chunk(0, upto)], BOOK)
    return fold


def check_goes_on(fold: MeterFold) -> None:
    """It counts what follows as a fold that saw all of it, ids of before included."""
    assert fold.offset == len(EVENTS)
    before = records(WRITTEN["meter"], "hourly")
    fold.fold([chunk(len(EVENTS), MORE)], BOOK)
    expected = whole(EVENTS + MORE)
    assert fold.counters == expected.counters
    found = before + records([fold.changes()], fold.rules.hourly_topic)
    assert latest_totals(found) == latest_totals(records([expected.changes()], "hourly"))


@pytest.mark.parametrize("is_in_journal", [False, True])
def test_a_folder_of_the_format_before_goes_on(deployment: Settings, is_in_journal: bool) -> None:
    async def work(publisher: Publisher, journal: Journal) -> None:
        if is_in_journal:
            await old_journal(deployment, publisher, written_on(deployment))
        store = Store(old_folder(deployment.home / "s", written_on(deployment)), identity(FORMAT))
        durable = DurableFold(fold_of(deployment), 0, 1, store, journal, publisher)
        await durable.load()
        assert isinstance(durable.fold, MeterFold)
        check_goes_on(durable.fold)
        durable.close()

    upgraded(deployment, work)


def test_a_journal_of_the_format_before_goes_on_and_takes_new_checkpoints(deployment: Settings) -> None:
    async def work(publisher: Publisher, journal: Journal) -> None:
        await old_journal(deployment, publisher, written_on(deployment))
        for life, values in enumerate((EVENTS, EVENTS + MORE)):
            store = Store(deployment.home / str(life), identity(FORMAT))
            durable = DurableFold(fold_of(deployment), 0, 1, store, journal, publisher)
            assert await durable.load() == len(values)
            durable.offer([chunk(len(values), (EVENTS + MORE)[len(values) :])], BOOK)
            assert isinstance(durable.fold, MeterFold)
            assert durable.fold.counters == whole(EVENTS + MORE).counters
            await durable.checkpoint()
            durable.close()
        newer = {"epoch": 1, "offset": 99, "header": b"", "format": FORMAT + 1}
        await publisher.append(Names(deployment).meter_state, 0, [(b"p", msgspec.msgpack.encode(newer))])
        with pytest.raises(UserError, match="newer version"):
            await journal.position(0, 1)

    upgraded(deployment, work)


def test_a_rate_state_of_the_format_before_goes_on(tmp_path: Path) -> None:
    store = Store(old_folder(tmp_path / "s", WRITTEN["rate"]), identity(FORMAT))
    saved = store.load()
    assert saved is not None
    fold, expected = rate_fold(), rate_fold()
    fold.restore(saved)
    totals = [o.value for c in WRITTEN["meter"] for o in c.outputs if o.topic == "hourly"]
    more = [
        o.value
        for o in (whole(EVENTS + MORE).changes() or WRITTEN["meter"][0]).outputs
        if o.topic == "hourly"
    ]
    fold.fold([chunk(len(totals), more)], BOOK)
    expected.fold([chunk(0, totals + more)], BOOK)
    assert charges(WRITTEN["rate"], fold) == charges([], expected)
    store.close()


def charges(before: list[Changes], fold: RateFold) -> dict[Any, Any]:
    changes = [*before, fold.changes()]
    return {(r.customer, r.price, r.hour): (r.amount, r.quantity) for r in records(changes, "charges")}


@pytest.mark.parametrize(("found", "message"), [(FORMAT + 1, "newer version"), (1, "reads 2 to")])
def test_a_folder_of_a_format_that_cannot_be_read_is_refused(
    tmp_path: Path, found: int, message: str
) -> None:
    store = Store(tmp_path / "s", identity(FORMAT))
    store._db[b"i"] = msgspec.msgpack.encode(identity(found))
    store.close()
    with pytest.raises(UserError, match=message):
        Store(tmp_path / "s", identity(FORMAT))


def test_a_folder_that_was_opened_is_of_this_format(tmp_path: Path) -> None:
    path = old_folder(tmp_path / "s", WRITTEN["meter"])
    store = Store(path, identity(FORMAT))
    assert msgspec.msgpack.decode(store._db[b"i"], type=Identity).format == FORMAT
    store.close()


def test_the_folder_of_an_earlier_epoch_is_set_aside(tmp_path: Path) -> None:
    Store(tmp_path / "s", identity(FORMAT)).close()
    store = Store(tmp_path / "s", msgspec.structs.replace(identity(FORMAT), epoch=2))
    assert store.load() is None
    assert (tmp_path / "s.epoch-1" / "CURRENT").exists()
    store.close()
