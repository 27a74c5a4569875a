"""What can be seen of a quotad from outside: numbers by operation and reason, never by customer."""

from math import nan
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from metering.quotad.models import Health

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_STATUSES = get_args(Health.__annotations__["status"])


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "metering_quotad_requests",
            "Requests by operation and HTTP status.",
            ["operation", "status"],
            registry=registry,
        )
        self._answers = Counter(
            "metering_quotad_answers",
            "Answers by operation and reason; a batch counts each of its checks.",
            ["operation", "reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "metering_quotad_request_seconds",
            "How long a request took.",
            ["operation"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._status = Gauge(
            "metering_quotad_status", "1 for the status it has now.", ["status"], registry=registry
        )
        self._silent = Gauge(
            "metering_quotad_silent_seconds",
            "How long the quietest partition was not heard of; NaN when one never was.",
            registry=registry,
        )

    def request(self, operation: str, status: int, seconds: float) -> None:
        """Note a request that was answered."""
        self._requests.labels(operation, str(status)).inc()
        self._seconds.labels(operation).observe(seconds)

    def answer(self, operation: str, reason: str, times: int) -> None:
        """Note what was said."""
        self._answers.labels(operation, reason).inc(times)

    def text(self, health: Health) -> bytes:
        """All of it, as Prometheus reads it."""
        for status in _STATUSES:
            self._status.labels(status).set(status == health.status)
        self._silent.set(nan if health.silent_ms is None else health.silent_ms / 1_000)
        return generate_latest(self._registry)
