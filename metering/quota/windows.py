"""The windows that limits count in: hours, days, months and periods of a zone, and rolling ones.

A window is known by its first instant: a reset is a new window, never a change of an old one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

WindowKind = Literal["hour", "day", "month", "period", "rolling"]

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
SUB_BUCKETS = 60  # of a rolling window
FOREVER = 1 << 62  # the end of a rolling window
# How long behind its end late usage still corrects a window; a month's is the horizon of the ids.
KEPT_MS = {"hour": 2 * DAY_MS, "day": 7 * DAY_MS, "month": 35 * DAY_MS, "period": 35 * DAY_MS, "rolling": 0}


class Bounds(NamedTuple):
    """A window from `start` until `end` (epoch ms, exclusive); a rolling one is (0, FOREVER)."""

    start: int
    end: int


ROLLING = Bounds(0, FOREVER)


@dataclass(frozen=True, slots=True)
class Window:
    """A kind of window in a zone.

    `anchor` is the day of the month on which a billing period begins (the last one in a shorter
    month). `length_ms` is a rolling window's, whole minutes.
    """

    kind: WindowKind
    zone: str = "UTC"
    anchor: int = 1
    length_ms: int = 0

    def __post_init__(self) -> None:
        assert (self.kind == "rolling") == (self.length_ms > 0), "a rolling window has a length"
        assert self.length_ms % MINUTE_MS == 0, "a rolling window lasts whole minutes"

    def bounds(self, at: int) -> Bounds:
        """The window that holds an instant (epoch ms)."""
        if self.kind == "rolling":
            return ROLLING
        if self.kind == "hour":
            return _hour(self.zone, at)
        local = _local(self.zone, at).date()
        first, following = _days(self.kind, local, self.anchor)
        return Bounds(_midnight(self.zone, first), _midnight(self.zone, following))

    @property
    def bucket_ms(self) -> int:
        """The length of a rolling window's sub-bucket."""
        return self.length_ms // SUB_BUCKETS

    @property
    def kept_ms(self) -> int:
        """How long behind its end a window is kept for late usage."""
        return KEPT_MS[self.kind]

    def first_bucket(self, clock: int) -> int:
        """The oldest sub-bucket that counts: sixty whole ones, and the one under way."""
        return clock // self.bucket_ms - SUB_BUCKETS


def _days(kind: WindowKind, day: date, anchor: int) -> tuple[date, date]:
    if kind == "day":
        return day, day + timedelta(days=1)
    if kind == "month":
        anchor = 1
    starts = _anchored(day.year, day.month, anchor)
    if day < starts:
        return _anchored(*_month(day.year, day.month - 1), anchor), starts
    return starts, _anchored(*_month(day.year, day.month + 1), anchor)


def _month(year: int, month: int) -> tuple[int, int]:
    return year + (month - 1) // 12, (month - 1) % 12 + 1


def _anchored(year: int, month: int, anchor: int) -> date:
    following = date(*_month(year, month + 1), 1)
    return min(date(year, month, 1) + timedelta(days=anchor - 1), following - timedelta(days=1))


def _local(zone: str, at: int) -> datetime:
    return datetime.fromtimestamp(at // 1_000, _zone(zone))


@lru_cache(maxsize=65_536)
def _midnight(zone: str, day: date) -> int:
    # Where clocks skip midnight, this is the instant at which they do.
    instant = datetime(day.year, day.month, day.day, tzinfo=_zone(zone))
    return int(instant.astimezone(UTC).timestamp()) * 1_000


def _hour(zone: str, at: int) -> Bounds:
    """The hour of a zone. Where clocks turn by half an hour, the turn cuts it short."""
    shift = _shift(zone, at)
    start = (at + shift) // HOUR_MS * HOUR_MS - shift
    end = start + HOUR_MS
    if _shift(zone, start) != shift:
        start = _turn(start, at, lambda t: _shift(zone, t) == shift)
    if _shift(zone, end - 1) != shift:
        end = _turn(at, end, lambda t: _shift(zone, t) != shift)
    return Bounds(start, end)


def _shift(zone: str, at: int) -> int:
    """How far a zone's hours are from those of UTC."""
    offset = _local(zone, at).utcoffset()
    assert offset is not None
    return offset // timedelta(milliseconds=1) % HOUR_MS


def _turn(low: int, high: int, is_behind: Callable[[int], bool]) -> int:
    """The first instant (whole seconds) after `low`, up to `high`, that is behind a turn."""
    low, high = low // 1_000, -(-high // 1_000)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_behind(middle * 1_000) else (middle, high)
    return high * 1_000


@lru_cache(maxsize=1_024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
