"""Quiet and dead look different, and the pipeline is as far as its slowest partition."""

from typing import Any

import pytest

from metering.records import Progress
from metering.settings import Settings
from metering.standing import Look, holding_back, standings
from metering.state.log_bounds import Bounds
from metering.topics import Names

NOW = 1_700_000_000_000
SETTINGS = Settings(partitions=1, tick_idle_seconds=30)


def report(partition: int = 0, **changes: Any) -> Progress:
    facts: dict[str, Any] = {
        "fold": "meter",
        "partition": partition,
        "epoch": 1,
        "offset": 50,
        "watermark": NOW - 7_200_000,
        **dict.fromkeys(("read", "accepted", "duplicates", "rejected", "late"), 0),
        "catalog_revision": 1,
        "instance": "w",
        "at": NOW - 500,
        "usage_at": NOW - 2_000,
    }
    return Progress(**(facts | changes))


def stand(*reports: Progress, end: int = 50, partitions: int = 1) -> Any:
    settings = SETTINGS.model_copy(update={"partitions": partitions})
    events = Names(settings).events
    bounds = {(events, partition): Bounds(0, end) for partition in range(partitions)}
    found = standings(settings, Look(bounds, {r.partition: r for r in reports}), NOW)
    return found[0] if partitions == 1 else found


@pytest.mark.parametrize(
    ("changes", "end", "state"),
    [
        ({}, 50, "live"),
        ({}, 5_000, "live"),  # it has a lag, and works on it
        ({"usage_at": NOW - 40_000}, 50, "quiet"),
        ({"usage_at": NOW - 40_000}, 51, "quiet"),  # a tick
        ({"usage_at": NOW - 40_000}, 60, "live"),  # usage that it has not folded yet
        ({"usage_at": 0}, 50, "quiet"),  # none since its owner began
        ({"at": NOW - 16_000}, 50, "dead"),
        ({"at": NOW - 16_000}, 60, "dead"),
        ({"at": NOW - 14_000}, 60, "live"),
    ],
)
def test_a_partition_is_live_quiet_or_dead(changes: dict[str, int], end: int, state: str) -> None:
    assert stand(report(**changes), end=end).state == state


def test_a_partition_that_nobody_has_reported_is_dead() -> None:
    one = stand()
    assert (one.state, one.lag, one.reported_at) == ("dead", 50, 0)


def test_a_quiet_partition_is_as_far_as_a_tick_would_bring_it() -> None:
    assert stand(report(usage_at=0)).watermark == NOW - 500 - 30_000
    ahead = NOW + 100_000  # an event may be a little ahead
    assert stand(report(usage_at=0, watermark=ahead)).watermark == ahead


@pytest.mark.parametrize("changes", [{}, {"at": NOW - 16_000}])
def test_a_live_or_dead_partition_is_as_far_as_its_usage(changes: dict[str, int]) -> None:
    assert stand(report(**changes)).watermark == NOW - 7_200_000


def test_the_slowest_partition_is_named_and_a_quiet_one_holds_nothing_back() -> None:
    day = 86_400_000
    found = stand(
        report(0, watermark=NOW - 10_000),
        report(1, watermark=NOW - 3 * day, usage_at=0),  # quiet for days
        report(2, watermark=NOW - 2 * day, at=NOW - day),  # dead
        partitions=3,
    )
    assert holding_back(found).partition == 2
    assert holding_back(found[:2]).partition == 1
    assert holding_back(found[:2]).watermark > NOW - 31_000
