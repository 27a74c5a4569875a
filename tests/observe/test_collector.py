"""Spans reach a collector: from an event to its charge, at the end of a process, never at its expense."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metering.settings import Settings
from metering.sinks.queries import Books
from metering.state.calendar import hour_of, period_of
from metering.topics import Names
from tests.demo.test_books_commands import CATALOG
from tests.demo.world import send, set_up, wait_for
from tests.observe.collector import Collector, Kept, collecting
from tests.observe.test_live import event, started

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "200"}
# No span is sent before the process ends: what arrives was sent at its exit.
LATE = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
STATIONS = {
    ("metering-worker", "meter"),
    ("metering-worker", "rate"),
    ("metering-sink", "store events"),
    ("metering-sink", "store hourly"),
    ("metering-sink", "store charges"),
}
ONE_SPAN = """
import sys
from metering.observe.traces import provider
with provider("worker").get_tracer("test").start_as_current_span("last words"):
    pass
sys.stdout.write("made\\n")
sys.stdout.flush()
"""


@contextmanager
def one_span(address: str) -> Iterator[subprocess.Popen[str]]:
    """A process that makes a span and ends; it has made it when this begins."""
    timeout = {"OTEL_EXPORTER_OTLP_TIMEOUT": "300"}
    env = {**os.environ, **LATE, **timeout, "OTEL_EXPORTER_OTLP_ENDPOINT": address}
    command = [sys.executable, "-c", ONE_SPAN]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "made\n"
            yield running
        finally:
            running.kill()


def test_what_is_left_is_sent_at_the_end_of_the_process() -> None:
    with collecting() as (address, collector), one_span(address) as running:
        assert running.wait(60) == 0
        ((service, name, _, _),) = collector.kept
    assert (service, name) == ("metering-worker", "last words")


@pytest.mark.timeout(120)
def test_a_collector_that_is_mute_does_not_hold_a_process_up() -> None:
    with collecting(is_mute=True) as (address, collector), one_span(address) as running:
        assert collector.asked.wait(60)
        assert running.wait(20) == 0  # it gives up after 5 s; a provider that is left alone waits for 30


def test_a_collector_that_is_away_does_not_hold_a_process_up() -> None:
    with collecting() as (address, _):
        pass
    with one_span(address) as running:
        assert running.wait(20) == 0


@pytest.mark.parts
@pytest.mark.timeout(400)
def test_an_event_is_followed_to_its_stored_charge(deployment: Settings, tmp_path: Path) -> None:
    settings = deployment.model_copy(
        update={"partitions": 1, "checkpoint_seconds": 0.2, "sink_batch_seconds": 0.2}
    )
    set_up(settings, CATALOG)
    sent = event(1)
    at = json.loads(sent)["time"]
    with collecting() as (address, collector):
        traced = {"METERING_TRACE_SHARE": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": address, **SOON}
        with (
            started(settings, "worker", tmp_path, **traced),
            started(settings, "sink", tmp_path, **traced),
        ):
            send(settings, sent)
            wait_for(
                lambda books: is_stored(books, Names(settings).events, period_of(hour_of(at))), settings, 180
            )
            found = arrived(collector, at)
    assert {(span.service, span.name) for span in found} == STATIONS
    assert all(span.facts["customer"] == "a" for span in found)
    assert offset_of(found, "meter") == offset_of(found, "store events") == 0


def arrived(collector: Collector, at: int) -> list[Kept]:
    """The spans of the event's trace, once all have come or the time is over."""
    deadline = time.monotonic() + 60
    while len(found := collector.of("a", at)) < len(STATIONS) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def is_stored(books: Books, events: str, month: str) -> bool:
    """The event in the archive, and its two prices charged beside the flat fee."""
    return books.stored().get((events, 0), 0) >= 1 and books.charge_rows(month) >= 3


def offset_of(found: list[Kept], name: str) -> str | int:
    return next(span.facts["offset"] for span in found if span.name == name)
