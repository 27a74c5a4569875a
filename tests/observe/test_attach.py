"""A process that reads and makes nothing durable is seen; one that is idle is not."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from faust.types import TP

from metering.observe import attach
from metering.observe.attach import Observed
from metering.observe.families import BATCHES_READ
from metering.observe.monitor import Monitor
from metering.settings import Settings
from metering.transport import Batch
from tests.state.folding import chunk

HERE = TP("usage.events", 0)


def handed(monitor: Monitor, batch: Batch) -> None:
    monitor.on_stream_event_in(batch.tp, 0, Mock(), SimpleNamespace(value=batch))


def batch(end: int | None) -> Batch:
    return Batch(HERE, [chunk(5, [b"x", b"y"])], end)


def test_the_lag_is_what_the_last_fetch_saw_behind_what_is_durable(sink: Any) -> None:
    monitor = Monitor()
    handed(monitor, batch(905))
    handed(monitor, batch(None))  # a broker that has not said where its log ends
    app = SimpleNamespace(monitor=monitor)
    parts = Observed(app, sink, Settings(kafka_brokers="k:1"))._parts()
    assert [(part.position, part.end) for part in parts] == [(5, 905)]


def test_each_batch_that_an_agent_is_given_counts() -> None:
    counted = BATCHES_READ.labels(HERE.topic)._value
    before = counted.get()
    monitor = Monitor()
    for _ in range(3):
        handed(monitor, batch(9))
    assert counted.get() == before + 3


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(attach, "time", made)
    return made


@pytest.fixture
def sink() -> Any:
    return SimpleNamespace(
        pending={HERE: SimpleNamespace(first=5, next=5, rows=[])}, writer=SimpleNamespace(is_away=False)
    )


def observed(sink: Any) -> Observed:
    app = SimpleNamespace(
        should_stop=False, crashed=False, monitor=SimpleNamespace(is_assigned=True, ends={})
    )
    return Observed(app, sink, Settings(kafka_brokers="k:1"))


def test_an_idle_process_is_not_behind(sink: Any, clock: Clock) -> None:
    found = observed(sink)
    found.facts()
    clock.now += 1_000
    assert found.facts().seconds_behind == 0


def test_what_is_read_and_not_stored_counts_from_when_it_was_seen(sink: Any, clock: Clock) -> None:
    found = observed(sink)
    sink.pending[HERE].next = 9
    assert found.facts().seconds_behind == 0
    clock.now += 70
    sink.pending[HERE].next = 12
    assert found.facts().seconds_behind == 70


def test_progress_begins_the_count_anew(sink: Any, clock: Clock) -> None:
    found = observed(sink)
    sink.pending[HERE].next = 9
    found.facts()
    clock.now += 70
    sink.pending[HERE].first, sink.pending[HERE].next = 9, 20
    assert found.facts().seconds_behind == 0
