"""The worker: what it waits for before a state goes on."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from metering.catalog.resolved import Catalog
from metering.settings import Settings
from metering.state.fold import Changes, Saved
from metering.worker import Worker
from tests.state.folding import catalog, chunk, rate_fold

OLDER, NEWER = (replace(catalog(), revision=number) for number in (1, 2))


def rated_under_the_newer() -> Any:
    fold = rate_fold()
    fold.fold([chunk(0, [None])], NEWER)
    changes = fold.changes()
    assert isinstance(changes, Changes)
    taken_over = rate_fold()
    taken_over.restore(Saved(changes.offset, changes.header, changes.entries, []))
    return SimpleNamespace(fold=taken_over)


async def test_a_state_waits_for_the_catalog_that_it_was_rated_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that it has would change back to old prices, and nothing would rate them again."""
    known: asyncio.Queue[Catalog] = asyncio.Queue()

    async def follow(*_: object) -> Any:
        while True:
            yield await known.get()

    async def nothing(*_: object) -> Any:
        return rated_under_the_newer()

    monkeypatch.setattr("metering.worker.follow", follow)
    worker = Worker(Settings(home=tmp_path, kafka_brokers="nowhere:9092"))
    monkeypatch.setattr(worker, "_check_partitions", nothing)
    monkeypatch.setattr(worker, "_take_over", nothing)
    following = asyncio.create_task(worker._follow_catalog())
    loading = asyncio.create_task(worker.load({TP("usage.hourly", 0)}))
    known.put_nowait(OLDER)
    await asyncio.sleep(0.05)
    assert not loading.done()
    known.put_nowait(NEWER)
    assert await asyncio.wait_for(loading, 10) == {TP("usage.hourly", 0): 1}
    following.cancel()
