"""What a process says of itself: each state from the facts that make it."""

import pytest

from metering.observe.health import STUCK_SECONDS, Facts, health_of

WELL = Facts(is_stopping=False, is_assigned=True, is_loading=False, has_loaded=True, has_catalog=True)

CASES = [
    (WELL, "ready", True, True),
    (WELL._replace(has_catalog=False), "starting", True, False),
    (WELL._replace(is_assigned=False), "starting", True, False),
    (WELL._replace(is_loading=True, has_loaded=False), "starting", True, False),
    (WELL._replace(is_loading=True), "degraded", True, True),
    (WELL._replace(away="ClickHouse does not answer"), "degraded", True, True),
    (WELL._replace(seconds_behind=STUCK_SECONDS + 1), "degraded", True, True),
    (WELL._replace(is_stopping=True, away="ClickHouse does not answer"), "dead", False, False),
]


@pytest.mark.parametrize(("facts", "status", "is_live", "is_ready"), CASES)
def test_a_status_follows_from_the_facts(facts: Facts, status: str, is_live: bool, is_ready: bool) -> None:
    found = health_of(facts)
    assert (found.status, found.is_live, found.is_ready) == (status, is_live, is_ready)


def test_whatever_is_not_ready_says_why() -> None:
    assert all(health_of(facts).reason for facts, status, *_ in CASES if status != "ready")
