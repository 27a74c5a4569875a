"""What the states of a process say at a scrape; reading them then costs the events nothing."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Metric = CounterMetricFamily | GaugeMetricFamily


class Counted(NamedTuple):
    """Events of a partition since its first offset, as of its last checkpoint; they never go back."""

    read: int
    accepted: int
    duplicate: int
    rejected: int
    late: int


class Part(NamedTuple):
    """One partition of one topic: positions are offsets, times epoch seconds, 0 is none."""

    topic: str
    partition: int
    position: int
    end: int
    watermark: float = 0.0
    last_usage: float = 0.0
    counted: Counted | None = None


class Report(NamedTuple):
    """A process at one moment."""

    program: str
    version: str
    parts: list[Part]
    catalog_revision: int = 0
    oldest_unstored: float = 0.0  # epoch seconds, 0: nothing waits


class Reporter(Protocol):
    """Whoever can be asked for a report."""

    def report(self) -> Report:
        """How the process stands now."""


class StateCollector(Collector):
    """Turns a report into families when Prometheus asks."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def collect(self) -> Iterable[Metric]:
        """The families of this moment."""
        found = self._reporter.report()
        yield from _process(found)
        yield from _places(found.parts)
        yield from _events([part for part in found.parts if part.counted is not None])

    def describe(self) -> Iterable[Metric]:
        """Nothing: the states are not there yet when the collector is registered."""
        return []


def _process(found: Report) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "metering_build_info", "The program and its version; 1.", labels=["program", "version"]
    )
    info.add_metric([found.program, found.version], 1)
    yield info
    yield GaugeMetricFamily(
        "metering_catalog_revision",
        "Revision of the catalog in force; 0: none yet.",
        value=found.catalog_revision,
    )
    if found.program == "sink":
        yield GaugeMetricFamily(
            "metering_sink_oldest_unstored_timestamp_seconds",
            "When the oldest row was read that ClickHouse does not have; 0: it has everything.",
            value=found.oldest_unstored,
        )


def _places(parts: list[Part]) -> Iterator[Metric]:
    labels = ["topic", "partition"]
    position = GaugeMetricFamily(
        "metering_position_records", "Offset up to which a partition is durable.", labels=labels
    )
    lag = GaugeMetricFamily("metering_lag_records", "Records behind the end of the log.", labels=labels)
    for part in parts:
        place = [part.topic, str(part.partition)]
        position.add_metric(place, part.position)
        lag.add_metric(place, max(0, part.end - part.position))
    yield position
    yield lag


def _events(parts: list[Part]) -> Iterator[Metric]:
    labels = ["partition"]
    watermark = GaugeMetricFamily(
        "metering_watermark_timestamp_seconds", "How far event time has come; 0: no event yet.", labels=labels
    )
    usage = GaugeMetricFamily(
        "metering_last_usage_timestamp_seconds",
        "When the newest usage was appended since this process owns the partition; 0: none.",
        labels=labels,
    )
    read = CounterMetricFamily("metering_events_read", "Usage events read.", labels=labels)
    outcomes = CounterMetricFamily(
        "metering_events",
        "Usage events by outcome; the sum is what was read.",
        labels=["partition", "outcome"],
    )
    late = CounterMetricFamily("metering_events_late", "Accepted events behind the watermark.", labels=labels)
    for part in parts:
        assert part.counted is not None
        name, counted = str(part.partition), part.counted
        watermark.add_metric([name], part.watermark)
        usage.add_metric([name], part.last_usage)
        read.add_metric([name], counted.read)
        late.add_metric([name], counted.late)
        for outcome in ("accepted", "duplicate", "rejected"):
            outcomes.add_metric([name, outcome], getattr(counted, outcome))
    yield from (watermark, usage, read, outcomes, late)
