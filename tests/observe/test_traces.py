"""An hour of a customer is one trace, from its events to its stored charges, in whichever process."""

import subprocess
import sys
from collections.abc import Sequence
from unittest.mock import Mock

import pytest
from faust.types import TP
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from metering.observe.monitor import Monitor
from metering.observe.traces import Traces, trace_id_of
from metering.records import decode
from metering.settings import Settings
from metering.sinks.archive import archived
from metering.sinks.rows import of_record
from metering.sinks.writer import Origin
from metering.state.fold import Chunk, Output
from metering.topics import Names
from metering.transport import Batch
from tests.state.folding import HOUR, START, catalog, chunk, event, meter_fold, rate_fold, tick

NAMES = Names(Settings(kafka_brokers="k:1"))
VALUES = [event(1), event(2, "a", 1), event(3, "b"), event(4), b"no json", tick()]


class Process:
    """A worker or sink whose spans stay in memory."""

    def __init__(self, share: float = 1.0) -> None:
        self._kept = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.traces = Traces(provider.get_tracer("test"), share, NAMES)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._kept.get_finished_spans())

    def named(self, trace_id: str) -> list[str]:
        return [s.name for s in self.spans if s.context and f"{s.context.trace_id:032x}" == trace_id]


def outputs(topic: str, found: list[Output]) -> list[bytes | None]:
    return [output.value for output in found if output.topic == topic]


def batch(topic: str, values: Sequence[bytes | None], first: int = 0) -> Batch:
    return Batch(TP(topic, 3), [chunk(first, values)], None, is_kept=True)


def flow(worker: Process, sink: Process, values: Sequence[bytes | None]) -> None:
    """Events through the folds of a worker and into the rows of a sink, each with its spans."""
    prices, meter, rate = catalog(), meter_fold(), rate_fold()
    meter.adopt(prices)
    rate.adopt(prices)
    usage = batch(NAMES.events, values, 100)
    meter.fold(usage.chunks(), prices)
    worker.traces.handled(usage, 0.5)
    counted = meter.changes()
    assert counted is not None
    totals = batch(NAMES.hourly, outputs("hourly", list(counted.outputs)))
    rate.fold(totals.chunks(), prices)
    worker.traces.handled(totals, 0.5)
    rated = rate.changes()
    assert rated is not None
    store(sink, NAMES.hourly, [v for v in next(totals.chunks()).values if v])
    store(sink, NAMES.charges, [v for v in outputs("charges", list(rated.outputs)) if v])
    archive(sink, next(usage.chunks()))


def store(sink: Process, topic: str, values: list[bytes]) -> None:
    rows = [row for row in (of_record(decode(value)) for value in values) if row]
    sink.traces.stored(rows, Origin(topic, 3, 0, len(values)), 0.5)


def archive(sink: Process, log: Chunk) -> None:
    rows = [archived([log], NAMES.events, 3)]
    sink.traces.stored(rows, Origin(NAMES.events, 3, log.first, log.next - 1), 0.5)


def test_an_hour_is_followed_from_its_events_to_its_charges() -> None:
    worker, sink = Process(), Process()
    flow(worker, sink, VALUES)
    hour = trace_id_of("a", START)
    assert worker.named(hour) == ["meter", "rate"]
    assert sink.named(hour) == ["store hourly", "store charges", "store events"]
    assert worker.named(trace_id_of("a", START + HOUR)) == ["meter", "rate"]


def test_a_span_says_where_its_records_stand_and_nothing_of_what_is_in_them() -> None:
    worker = Process()
    flow(worker, Process(), VALUES)
    span = next(s for s in worker.spans if s.name == "meter")
    assert span.attributes == {
        "topic": "usage.events",
        "partition": 3,
        "offset": 100,
        "records": 2,
        "customer": "a",
        "hour": START // 1000,
    }
    assert (span.end_time or 0) - (span.start_time or 0) == 500_000_000


def test_no_span_is_made_of_what_cannot_be_read_or_is_a_tick() -> None:
    worker = Process()
    worker.traces.handled(batch(NAMES.events, [b"no json", b"", None, tick()]), 0.1)
    assert worker.spans == []


def hours(process: Process) -> set[str]:
    return {f"{s.context.trace_id:032x}" for s in process.spans if s.context}


def test_every_process_follows_the_same_share_of_hours() -> None:
    worker, sink = Process(0.25), Process(0.25)
    flow(worker, sink, [event(n, "ab"[n % 2], n // 2) for n in range(400)])
    assert hours(worker) == hours(sink)
    assert 60 < len(hours(worker)) < 140  # a quarter of 400


def test_nothing_is_followed_when_the_share_is_zero() -> None:
    worker, sink = Process(0.0), Process(0.0)
    flow(worker, sink, VALUES)
    assert not worker.spans + sink.spans


def test_the_monitor_tells_of_each_batch_that_an_agent_has_handled() -> None:
    told: list[tuple[Batch, float]] = []
    monitor = Monitor()
    monitor.on_handled = lambda found, seconds: told.append((found, seconds))
    usage = batch(NAMES.events, VALUES)
    item = type("Event", (), {"value": usage})()
    stream = Mock()
    state = monitor.on_stream_event_in(usage.tp, 0, stream, item)
    monitor.on_stream_event_out(usage.tp, 0, stream, item, state)
    assert told[0][0] is usage
    assert told[0][1] >= 0


@pytest.mark.parametrize("module", ["metering.app", "metering.observe.attach"])
def test_nothing_of_it_is_imported_unless_it_is_asked_for(module: str) -> None:
    code = f"import {module}, sys; print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
