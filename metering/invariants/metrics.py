"""The findings as Prometheus metrics, on loopback."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from metering.errors import UserError
from metering.invariants.runner import Finding

ADDRESS = "127.0.0.1"


class Metrics:
    """Gauges by invariant; one that could not be decided keeps its value, and its time stands still."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["invariant"]
        self._holds = Gauge(
            "metering_invariant_holds",
            "1 when the invariant held at its last check, 0 when it was broken.",
            labels,
            registry=self.registry,
        )
        self._rows = Gauge(
            "metering_invariant_broken_rows",
            "Rows that broke the invariant at its last check.",
            labels,
            registry=self.registry,
        )
        self._checked = Gauge(
            "metering_invariant_last_check_timestamp_seconds",
            "When the invariant was last decided.",
            labels,
            registry=self.registry,
        )
        self._seconds = Gauge(
            "metering_invariant_check_seconds",
            "How long the last check took.",
            labels,
            registry=self.registry,
        )
        self._undecided = Counter(
            "metering_invariant_undecided_total",
            "Checks that could not be decided, because something did not answer or was behind.",
            labels,
            registry=self.registry,
        )

    def serve(self, port: int, address: str = ADDRESS) -> None:
        """Serve on a port, of loopback unless told otherwise; no figure names a customer."""
        try:
            start_http_server(port, addr=address, registry=self.registry)
        except OSError as error:
            raise UserError(
                f"port {port} on {address} cannot be served: {error.strerror}",
                hint="choose another with --port; 0 serves nothing",
            ) from error

    def note(self, findings: list[Finding]) -> None:
        """Take over the findings of a round."""
        for finding in findings:
            name = finding.invariant.name
            self._seconds.labels(name).set(finding.seconds)
            undecided = self._undecided.labels(name)
            if finding.unknown:
                undecided.inc()
                continue
            self._holds.labels(name).set(int(finding.holds))
            self._rows.labels(name).set(len(finding.rows))
            self._checked.labels(name).set(time.time())
