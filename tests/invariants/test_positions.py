"""A partition is stuck when it stands still though there is input, whoever looked before."""

from types import SimpleNamespace
from typing import Any

import pytest

from metering.invariants.positions import STUCK_SECONDS, PartitionsReport
from metering.invariants.seen import Place
from metering.standing import Standing

NOW = 1_700_000_000_000
LONG_AGO = NOW - int(STUCK_SECONDS * 1_000) - 1


def found(one: Standing, seen: Place | None) -> list[str]:
    facts: Any = SimpleNamespace(
        now=NOW,
        standings=[one],
        progress={0: SimpleNamespace(epoch=1)},
        seen=SimpleNamespace(place=lambda *_: seen),
    )
    return [row.found for row in PartitionsReport().check(facts)]


@pytest.mark.parametrize(
    ("lag", "seen"),
    [
        (0, Place(50, 0, LONG_AGO)),  # quiet since long
        (9, None),  # nobody has looked before
        (9, Place(49, 0, LONG_AGO)),  # it has moved
        (9, Place(50, 0, NOW - 1_000)),  # a moment
    ],
)
def test_a_partition_that_moves_or_has_nothing_to_do_is_well(lag: int, seen: Place | None) -> None:
    assert found(Standing(0, "live", "w", 50, lag, 0, 0, NOW), seen) == []


def test_a_partition_that_stands_still_with_input_is_stuck() -> None:
    said = found(Standing(0, "live", "w", 50, 9, 0, 0, NOW), Place(50, 0, LONG_AGO))
    assert said == ["stuck: at 50 of 59 for 60 s"]


def test_a_partition_that_nobody_reports_is_dead() -> None:
    assert found(Standing(0, "dead", "", 0, 9, 0, 0, 0), None) == ["dead: it has never reported"]
    assert found(Standing(0, "dead", "w", 7, 9, 0, 0, NOW - 90_000), None) == [
        "dead: w reported 90 s ago, at 7"
    ]
