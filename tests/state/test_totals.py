"""Hourly totals: what counts does not depend on what came first."""

from itertools import permutations

import pytest

from metering.catalog.load import load_texts
from metering.events import UsageEvent
from metering.state.measure import Measure
from metering.state.totals import Total

CATALOG = load_texts({"c.yaml": "meters: [{id: seats, event_type: use, aggregation: latest, value: n}]"})
(SEATS,) = CATALOG.meters_for("use")


def value(quantity: int) -> Measure:
    return Measure(SEATS, (), quantity, "")


def counted(events: list[tuple[UsageEvent, int]]) -> Total:
    total = Total("latest")
    for event, quantity in events:
        total.add(value(quantity), event)
    return total


# One time; ids and sources that a text joined without care would mix up.
AT_ONCE = [
    (UsageEvent(id=event_id, source=source, at=7), number)
    for number, (event_id, source) in enumerate(
        [("a", ""), ("aB", "z"), ("ab", ""), ("ab", "b"), ("ab", "c")]
    )
]


def test_of_values_at_one_time_the_latest_is_that_of_the_highest_id_and_source() -> None:
    assert {counted(list(order)).quantity for order in permutations(AT_ONCE)} == {4}


@pytest.mark.parametrize("saved", [(7, "ab"), (7, "ab\0b")])
def test_the_latest_value_cannot_be_taken_back_whichever_way_it_was_saved(saved: tuple[int, str]) -> None:
    total = Total("latest", 1, events=2, last=saved)
    assert not total.take_back(value(1), AT_ONCE[3][0])
    assert total.quantity == 1
