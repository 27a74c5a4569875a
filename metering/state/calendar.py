"""Hours and billing periods of event time, UTC; a period is a calendar month, named `2026-11`."""

from datetime import UTC, datetime
from functools import lru_cache

from metering.rating.terms import Period

HOUR_SECONDS = 3_600
HOUR_MS = 3_600_000


def hour_of(at: int) -> int:
    """The first second of the hour that holds `at` (epoch ms)."""
    return at // HOUR_MS * HOUR_SECONDS


@lru_cache(maxsize=65_536)
@lru_cache(maxsize=4_096)
def period_of(hour: int) -> str:
    """The billing period of an hour (epoch seconds)."""
    return datetime.fromtimestamp(hour, UTC).strftime("%Y-%m")


@lru_cache(maxsize=4_096)
def period_end(period: str) -> int:
    """The first millisecond behind a billing period (epoch ms)."""
    year, month = map(int, period.split("-"))
    following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(following.timestamp()) * 1_000


def is_closed(period: str, watermark: int, grace_hours: int) -> bool:
    """Whether a watermark (epoch ms) has passed the end of a period plus the grace."""
    return watermark >= period_end(period) + grace_hours * HOUR_MS


def open_from(watermark: int, grace_hours: int) -> int:
    """The first millisecond of the first period that a watermark (epoch ms) has not closed."""
    if not watermark:
        return 0
    behind = max(0, watermark - grace_hours * HOUR_MS)
    return period(period_of(behind // 1_000)).starts * 1_000


def closes_at(opened: int, grace_hours: int) -> int:
    """The watermark (epoch ms) that closes the period that holds `opened` (epoch ms)."""
    return period_end(period_of(opened // 1_000)) + grace_hours * HOUR_MS


@lru_cache(maxsize=4_096)
def period(name: str) -> Period:
    """A billing period by its name."""
    year, month = map(int, name.split("-"))
    starts = int(datetime(year, month, 1, tzinfo=UTC).timestamp())
    return Period(name, starts, period_end(name) // 1_000)


def periods_between(first: str, last: str) -> list[str]:
    """The names of all billing periods from one to another, both included."""
    names = []
    name = first
    while name <= last:
        names.append(name)
        name = period_of(period(name).ends)
    return names
