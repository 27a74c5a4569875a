"""A process that reads and makes nothing durable is seen; one that is idle is not."""

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from metering.observe import attach
from metering.observe.attach import Observed
from metering.settings import Settings

HERE = TP("usage.events", 0)


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
