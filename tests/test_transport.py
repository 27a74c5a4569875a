"""The consumer loads states beside Faust's recovery, which must never wait for them."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from metering import transport
from metering.transport import BatchConsumer

HERE, THERE = TP("usage.events", 0), TP("usage.events", 1)


class Consumer(BatchConsumer):
    """Without a broker: what is active and where it reads."""

    def __init__(self, load: Any) -> None:
        self.app = SimpleNamespace(positions=SimpleNamespace(load=load))  # type: ignore[assignment]
        self.active: set[TP] = {HERE, THERE}
        self.sought: dict[TP, int] = {}
        self.not_waiting_next_records = asyncio.Event()  # type: ignore[assignment]  # Faust's has a loop
        self.not_waiting_next_records.set()

    def assignment(self) -> set[TP]:
        return {HERE, THERE}

    def pause_partitions(self, tps: Any) -> None:
        self.active -= set(tps)

    def resume_partitions(self, tps: Any) -> None:
        self.active |= set(tps)

    async def seek_batches(self, offsets: Mapping[TP, int]) -> None:
        assert not self.active, "they read on before they are sought"
        self.sought.update(offsets)


@pytest.fixture(autouse=True)
def batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_batch_topics", {"usage.events"})


async def test_partitions_are_paused_until_their_states_are_loaded() -> None:
    may_go_on = asyncio.Event()

    async def load(tps: set[TP]) -> dict[TP, int]:
        await may_go_on.wait()
        return dict.fromkeys(tps, 7)

    consumer = Consumer(load)
    await asyncio.wait_for(consumer.perform_seek(), 10)  # it does not wait for the load
    assert not consumer.active
    may_go_on.set()
    assert consumer._loading is not None
    await consumer._loading
    assert (consumer.active, consumer.sought) == ({HERE, THERE}, {HERE: 7, THERE: 7})


async def test_a_load_is_given_up_when_partitions_are_assigned_anew() -> None:
    begun: list[set[TP]] = []
    ended: list[str] = []

    async def load(tps: set[TP]) -> dict[TP, int]:
        begun.append(tps)
        try:
            await asyncio.sleep(0 if len(begun) == 2 else 60)
        except asyncio.CancelledError:
            ended.append("given up")
            raise
        return {HERE: 9}  # the other one was given away meanwhile

    consumer = Consumer(load)
    await consumer.perform_seek()
    await asyncio.sleep(0)
    await consumer.perform_seek()
    assert ended == ["given up"]
    assert consumer._loading is not None
    await consumer._loading
    assert (consumer.active, consumer.sought) == ({HERE}, {HERE: 9})


async def test_a_load_of_partitions_that_go_ends_before_they_do() -> None:
    async def load(_: set[TP]) -> dict[TP, int]:
        await asyncio.sleep(60)
        return {}

    consumer = Consumer(load)
    await consumer.perform_seek()
    loading = consumer._loading
    assert loading is not None
    await consumer.end_loading()
    assert loading.cancelled()
    await consumer.end_loading()  # nothing is left to end


async def test_a_fetch_of_before_ends_before_partitions_are_sought() -> None:
    """What it brings is dropped, and nothing comes behind it that would show the gap."""

    async def load(tps: set[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, 7)

    consumer = Consumer(load)
    consumer.not_waiting_next_records.clear()
    await consumer.perform_seek()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not consumer.sought
    consumer.not_waiting_next_records.set()
    assert consumer._loading is not None
    await consumer._loading
    assert consumer.sought == {HERE: 7, THERE: 7}
