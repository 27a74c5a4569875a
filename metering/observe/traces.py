"""Sampled traces from usage event to charge; imported only when METERING_TRACE_SHARE is above zero.

Charges are made by the hour, so a trace is an hour of a customer: its events pass the meter, its totals
are rated, its rows are stored. Records carry no trace context; each process derives the trace and the
choice whether it is sampled from customer and hour, so all of them follow the same hours.
"""

import atexit
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from itertools import chain
from threading import Thread
from typing import Any, NamedTuple

from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, Tracer

from metering.events import TICK_TYPE, UsageEvent, decode_values
from metering.records import HourlyTotal, decode
from metering.sinks.blocks import Block, Held, by_table
from metering.sinks.rows import COLUMNS, TableRow
from metering.sinks.writer import Origin
from metering.state.calendar import hour_of
from metering.topics import Names
from metering.transport import Batch

EXIT_SECONDS = 5.0  # a process that ends is given up after 30 s by most who look after it
_WHOLE = 1 << 64
_TIMES = {"events": "time", "hourly": "hour", "charges": "hour"}


class Seen(NamedTuple):
    """A record of an hour of a customer (epoch seconds), and its offset."""

    customer: str
    hour: int
    offset: int


class Traces:
    """Makes spans of the hours that are followed: `share` of them, 0 to 1."""

    def __init__(self, tracer: Tracer, share: float, names: Names) -> None:
        self._tracer = tracer
        self._names = names
        self._context = lru_cache(maxsize=65_536)(lambda customer, hour: _context(customer, hour, share))

    def handled(self, batch: Batch, seconds: float) -> None:
        """A batch has passed an agent of the worker."""
        if batch.tp.topic == self._names.events:
            self._note("meter", batch.tp, _events(batch), seconds)
        elif batch.tp.topic == self._names.hourly:
            self._note("rate", batch.tp, _totals(batch), seconds)

    def stored(self, rows: Sequence[TableRow | Block], origin: Origin, seconds: float) -> None:
        """ClickHouse has acknowledged rows of the sink."""
        found = by_table(rows)
        for table in _TIMES:
            self._note(f"store {table}", origin, _rows(table, found.get(table, []), origin.first), seconds)

    def _note(self, name: str, place: Any, seen: Iterable[Seen], seconds: float) -> None:
        ended = time.time_ns()
        began = ended - int(seconds * 1e9)
        for (customer, hour), offsets in self._followed(seen).items():
            parent = otel.set_span_in_context(NonRecordingSpan(self._context(customer, hour)))
            span = self._tracer.start_span(name, parent, SpanKind.CONSUMER, start_time=began)
            span.set_attributes(
                {
                    "topic": place.topic,
                    "partition": place.partition,
                    "offset": offsets[0],
                    "records": len(offsets),
                    "customer": customer,
                    "hour": hour,
                }
            )
            span.end(ended)

    def _followed(self, seen: Iterable[Seen]) -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        for customer, hour, offset in seen:
            if self._context(customer, hour).trace_flags.sampled:
                found.setdefault((customer, hour), []).append(offset)
        return found


def provider(program: str) -> TracerProvider:
    """Sends spans by OTLP over HTTP; the variables OTEL_EXPORTER_OTLP_… of OpenTelemetry say where to."""
    about = {"service.name": f"metering-{program}", "service.version": version("metering")}
    made = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    atexit.register(_send_what_is_left, made)
    return made


def _send_what_is_left(made: TracerProvider) -> None:
    """At the end of the process; the provider itself would wait 30 s for a collector that is mute."""
    sending = Thread(target=made.shutdown, name="last-spans", daemon=True)
    sending.start()
    sending.join(EXIT_SECONDS)


def _context(customer: str, hour: int, share: float) -> SpanContext:
    """The trace of an hour of a customer, the same in every process."""
    digest = sha256(f"{customer}\0{hour}".encode()).digest()
    trace_id, span_id = int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])
    is_followed = int.from_bytes(digest[24:]) < share * _WHOLE
    flags = TraceFlags(TraceFlags.SAMPLED if is_followed else TraceFlags.DEFAULT)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)


def trace_id_of(customer: str, at: int) -> str:
    """The trace to look for: that of the hour that holds `at` (epoch ms)."""
    return f"{_context(customer, hour_of(at), 1.0).trace_id:032x}"


def _events(batch: Batch) -> Iterator[Seen]:
    for chunk in batch.chunks():
        for item in decode_values(chunk.values):
            event = item.event
            if isinstance(event, UsageEvent) and event.type != TICK_TYPE:
                yield Seen(event.customer, hour_of(event.at), chunk.offsets[item.value])


def _totals(batch: Batch) -> Iterator[Seen]:
    for chunk in batch.chunks():
        for offset, value in zip(chunk.offsets, chunk.values, strict=True):
            record = decode(value) if value else None
            if isinstance(record, HourlyTotal):
                yield Seen(record.customer, record.hour, offset)


def _rows(table: str, parts: Sequence[Held], offset: int) -> Iterator[Seen]:
    names = COLUMNS[table]
    customer, at = names.index("customer"), names.index(_TIMES[table])
    for row in chain.from_iterable(parts):
        when: datetime | int = row[at]
        at_ms = when if isinstance(when, int) else int(when.timestamp()) * 1_000
        yield Seen(row[customer], hour_of(at_ms), offset)
