"""Windows of all kinds and zones."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metering.quota.windows import FOREVER, Bounds, Window

CASES = yaml.safe_load((Path(__file__).parent.parent / "vectors" / "quota" / "windows.yaml").read_text())
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Santiago",
]
WINDOWS = st.builds(
    Window, st.sampled_from(["hour", "day", "month", "period"]), st.sampled_from(ZONES), st.integers(1, 31)
)
INSTANTS = st.integers(1_600_000_000_000, 2_000_000_000_000)


def ms(instant: datetime) -> int:
    return (instant.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize("case", [pytest.param(c, id=c["title"]) for c in CASES])
def test_a_window_is_where_the_calendar_says(case: dict[str, Any]) -> None:
    window = Window(case["kind"], case.get("zone", "UTC"), case.get("anchor", 1))
    assert window.bounds(ms(case["at"])) == Bounds(ms(case["start"]), ms(case["end"]))


@given(WINDOWS, INSTANTS)
def test_windows_follow_each_other_without_a_gap(window: Window, at: int) -> None:
    start, end = window.bounds(at)
    assert start <= at < end
    assert window.bounds(end).start == end
    assert window.bounds(start - 1).end == start


@given(WINDOWS, INSTANTS, st.integers(0, 999))
def test_every_instant_of_a_window_names_the_same_window(window: Window, at: int, share: int) -> None:
    start, end = window.bounds(at)
    assert window.bounds(start + (end - start) * share // 1_000) == (start, end)


def test_a_rolling_window_counts_sixty_sub_buckets_and_the_one_under_way() -> None:
    window = Window("rolling", length_ms=3_600_000)
    assert window.bounds(5) == (0, FOREVER)
    assert window.bucket_ms == 60_000
    assert window.first_bucket(100 * 60_000 + 1) == 40
