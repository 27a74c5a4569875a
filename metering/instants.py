"""Times of many events at once: RFC 3339 text or epoch milliseconds to epoch milliseconds.

Only the common forms are read here, `2026-01-05T10:00:00Z` with 0, 3 or 6 decimals and `Z` or `+00:00`;
what is anything else is left to the decoder of single events.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Instants = NDArray[np.int64]
Flags = NDArray[np.bool_]
Digits = NDArray[np.int64]

LATEST_MS = 253_402_300_799_999  # 9999-12-31, the last instant a datetime can hold
UNREAD = -1
_ZONES = {20: b"Z", 24: b"Z", 27: b"Z", 25: b"+00:00", 29: b"+00:00", 32: b"+00:00"}  # by length
_SEPARATORS = ((4, b"-"), (7, b"-"), (10, b"T"), (13, b":"), (16, b":"))
_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])
_FRACTION = 19  # where a point may stand
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_BEFORE = np.concatenate([[0, 0], np.cumsum(_DAYS[1:12])])  # days of a year before a month


def instants(times: Sequence[object]) -> Instants:
    """Epoch ms of each time; `UNREAD` where it is out of range or of another form."""
    kinds = set(map(type, times))
    if kinds == {int}:
        return _of_numbers(times)
    found = np.full(len(times), UNREAD, np.int64)
    lengths = np.array([len(t) if isinstance(t, str) else 0 for t in times])
    for length in _ZONES:
        _put(found, np.flatnonzero(lengths == length), times, length)
    if int in kinds:
        places = [place for place, time in enumerate(times) if type(time) is int]
        found[places] = _of_numbers([times[place] for place in places])
    return found


def _of_numbers(times: Sequence[object]) -> Instants:
    try:
        found = np.array(times, np.int64)
    except OverflowError:
        return np.array([t if 0 <= t <= LATEST_MS else UNREAD for t in times])  # type: ignore[operator]
    return np.where((found < 0) | (found > LATEST_MS), UNREAD, found)


def _put(found: Instants, places: NDArray[np.intp], times: Sequence[object], length: int) -> None:
    if not len(places):
        return
    chosen = times if len(places) == len(times) else [times[place] for place in places.tolist()]
    raw = "".join(chosen).encode("utf-8", "replace")  # type: ignore[arg-type]  # all are text
    if len(raw) == length * len(places):  # all of it is ASCII
        found[places] = _of_texts(np.frombuffer(raw, np.uint8).reshape(-1, length))


def _of_texts(raw: NDArray[np.uint8]) -> Instants:
    length = raw.shape[1]
    zone = _ZONES[length]
    is_read = (raw[:, length - len(zone) :] == np.frombuffer(zone, np.uint8)).all(axis=1)
    for place, separator in _SEPARATORS:
        is_read &= raw[:, place] == separator[0]
    decimals = max(0, length - len(zone) - _FRACTION - 1)
    if decimals:
        is_read &= raw[:, _FRACTION] == b"."[0]
    places = np.concatenate([_DIGITS, np.arange(_FRACTION + 1, _FRACTION + 1 + decimals)])
    digits = raw[:, places].astype(np.int64) - b"0"[0]
    is_read &= ((digits >= 0) & (digits <= 9)).all(axis=1)
    return np.where(is_read, _of_digits(digits), UNREAD)


def _of_digits(digits: Digits) -> Instants:
    """Epoch ms of year, month, day, hour, minute, second and perhaps a fraction."""
    year = digits[:, 0] * 1_000 + digits[:, 1] * 100 + _pair(digits, 2)
    month, day, hour, minute, second = (_pair(digits, place) for place in (4, 6, 8, 10, 12))
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    is_month = (month >= 1) & (month <= 12)
    month = np.where(is_month, month, 1)
    is_day = (day >= 1) & (day <= _DAYS[month] + (is_leap & (month == 2)))
    is_real = (year >= 1970) & is_month & is_day & (hour <= 23) & (minute <= 59) & (second <= 59)
    past = year - 1
    days = past * 365 + past // 4 - past // 100 + past // 400 - 719_162  # 1970-01-01 is day 0
    days += _BEFORE[month] + (is_leap & (month > 2)) + day - 1
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    milliseconds = digits[:, 14] * 100 + _pair(digits, 15) if digits.shape[1] > 14 else 0
    return np.where(is_real, seconds * 1_000 + milliseconds, UNREAD)


def _pair(digits: Digits, place: int) -> Digits:
    return digits[:, place] * 10 + digits[:, place + 1]
