"""The metric families that are counted where things happen; the rest is read from the states at a scrape.

Base units, `_total` for counters, `_timestamp_seconds` instead of ages: a process that has died freezes
no age. No label holds a customer, an event or a price: that is ClickHouse's business.
"""

import functools
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY = CollectorRegistry()

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

HANDLE = Histogram(
    "metering_handle_seconds",
    "Time to handle one batch of a partition, by the topic that it came from.",
    ["topic"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
BATCHES_READ = Counter(
    "metering_batches_read_total", "Batches handed to an agent, by topic.", ["topic"], registry=REGISTRY
)
CHECKPOINT = Histogram(
    "metering_checkpoint_seconds",
    "Time to make everything folded so far durable, for one partition of one fold.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
COMMIT = Histogram(
    "metering_commit_seconds",
    "Time of a commit of positions to the consumer group; a measure of the broker, nothing depends on it.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
REBALANCES = Counter("metering_rebalances_total", "Rebalances of the consumer group.", registry=REGISTRY)
REBALANCE = Histogram(
    "metering_rebalance_seconds",
    "Time from the beginning of a rebalance until its partitions were assigned.",
    buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
    registry=REGISTRY,
)
FLUSH = Histogram(
    "metering_sink_flush_seconds",
    "Time until ClickHouse has acknowledged a batch, retries included.",
    buckets=(*_SECONDS, 60.0, 300.0),
    registry=REGISTRY,
)
ROWS = Counter(
    "metering_sink_rows_total", "Rows sent to ClickHouse, replays included.", ["table"], registry=REGISTRY
)
FAILURES = Counter(
    "metering_sink_failures_total",
    "Inserts and questions that ClickHouse refused or did not answer, by what is done about them.",
    ["remedy"],
    registry=REGISTRY,
)
LETTERS = Counter(
    "metering_sink_dead_letters_total",
    "Dead letters sent to ClickHouse, by reason, replays included.",
    ["reason"],
    registry=REGISTRY,
)

P = ParamSpec("P")
T = TypeVar("T")


def timed(family: Histogram) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Measure how long an awaited function takes, also when it fails."""

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @functools.wraps(function)
        async def measured(*args: P.args, **kwargs: P.kwargs) -> T:
            began = time.perf_counter()
            try:
                return await function(*args, **kwargs)
            finally:
                family.observe(time.perf_counter() - began)

        return measured

    return decorate
