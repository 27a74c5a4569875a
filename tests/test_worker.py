"""What a worker makes of partitions that come and go, and of a process that stood still."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from faust.types import TP

from metering import worker as module
from metering.catalog.resolved import Catalog
from metering.settings import Settings
from metering.state import log_bounds
from metering.state.fold import Changes, Saved
from metering.worker import FROZEN_SECONDS, Worker
from tests.state.folding import catalog, chunk, rate_fold

HERE = TP("usage.events", 0)


class Died(Exception):
    """The process ended itself."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Worker:
    def die(event: str, **_: object) -> NoReturn:
        raise Died(event)

    monkeypatch.setattr(module, "die", die)
    return Worker(Settings(kafka_brokers="127.0.0.1:1", clickhouse_url="http://127.0.0.1:1"))


def owned(made: Worker) -> None:
    made._owned[HERE] = Any  # type: ignore[assignment]  # only that there is one


def test_a_process_that_stood_still_ends_itself(made: Worker) -> None:
    owned(made)
    made._awake -= FROZEN_SECONDS + 1
    with pytest.raises(Died, match="process_was_frozen"):
        made.stay_awake()


def test_loading_a_large_state_is_not_standing_still(made: Worker) -> None:
    owned(made)
    made._awake -= FROZEN_SECONDS + 1
    made._loading = 1
    made.stay_awake()
    made._loading = 0
    made.stay_awake()


def test_a_partition_that_was_given_away_while_it_was_loaded_has_no_start(
    made: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bounds(*_: object) -> log_bounds.Bounds:
        return log_bounds.Bounds(0, 0)

    monkeypatch.setattr(made.bounds, "of", bounds)
    assert asyncio.run(made._start_of(HERE)) is None


OLDER, NEWER = (replace(catalog(), revision=number) for number in (1, 2))


def rated_under_the_newer() -> Any:
    fold = rate_fold()
    fold.fold([chunk(0, [None])], NEWER)
    changes = fold.changes()
    assert isinstance(changes, Changes)
    taken_over = rate_fold()
    taken_over.restore(Saved(changes.offset, changes.header, changes.entries, []))
    return SimpleNamespace(fold=taken_over, revision=taken_over.revision)


async def test_a_state_waits_for_the_catalog_that_it_was_rated_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that it has would change back to old prices, and nothing would rate them again."""
    known: asyncio.Queue[Catalog] = asyncio.Queue()

    async def follow(*_: object) -> Any:
        while True:
            yield await known.get()

    async def no_epoch(*_: object) -> None:
        """Nothing was ever moved."""

    async def nothing(*_: object) -> Any:
        return rated_under_the_newer()

    monkeypatch.setattr("metering.worker.follow", follow)
    worker = Worker(Settings(home=tmp_path, kafka_brokers="nowhere:9092"))
    monkeypatch.setattr(module, "latest_epoch", no_epoch)
    monkeypatch.setattr(module.opening, "check_partitions", nothing)
    monkeypatch.setattr(worker, "_take_over", nothing)
    following = asyncio.create_task(worker._follow_catalog())
    loading = asyncio.create_task(worker.load({TP("usage.hourly", 0)}))
    known.put_nowait(OLDER)
    await asyncio.sleep(0.05)
    assert not loading.done()
    known.put_nowait(NEWER)
    assert await asyncio.wait_for(loading, 10) == {TP("usage.hourly", 0): 1}
    following.cancel()
