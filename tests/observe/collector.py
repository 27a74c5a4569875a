"""A collector of OpenTelemetry traces: OTLP over HTTP, what came is kept in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from metering.observe.traces import trace_id_of


class Kept(NamedTuple):
    """A span that arrived: who sent it, its name and trace, and the texts and numbers that it carries."""

    service: str
    name: str
    trace: str
    facts: dict[str, str | int]


class Collector:
    """Answers on a free port of loopback; a mute one reads the request and says nothing."""

    def __init__(self, *, is_mute: bool) -> None:
        self.kept: list[Kept] = []
        self.asked = Event()
        self.over = Event()
        self.is_mute = is_mute

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces", path
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {a.key: a.value.string_value for a in sent.resource.attributes}
            for scope in sent.scope_spans:
                for span in scope.spans:
                    facts = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
                    self.kept.append(Kept(about["service.name"], span.name, span.trace_id.hex(), facts))

    def of(self, customer: str, at: int) -> list[Kept]:
        """The spans of the trace of an hour."""
        return [span for span in self.kept if span.trace == trace_id_of(customer, at)]


@contextmanager
def collecting(*, is_mute: bool = False) -> Iterator[tuple[str, Collector]]:
    """A collector and its address."""
    collector = Collector(is_mute=is_mute)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.asked.set()
            if collector.is_mute:
                collector.over.wait(300)
                return
            collector.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads a log of it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", collector
    finally:
        collector.over.set()
        server.shutdown()
        server.server_close()
        serving.join(10)
