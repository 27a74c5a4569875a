"""Series as SVG: stacked bars or lines. A drawing only: no amount is read from it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from html import escape
from itertools import pairwise

from dashboards.run import Result

# Told apart also by people who see colours differently, on a light and on a dark page.
_COLOURS = ("#3d71d9", "#e0752d", "#2f9e6b", "#b14fc5", "#c9a227", "#d64561", "#4fb3bf", "#8a8f98")
_LEFT, _BOTTOM, _TOP, _LINES = 64, 22, 8, 4
_LABEL = 90  # pixels that a time takes
_ROUND = [Decimal(n) for n in ("1", "1.5", "2", "2.5", "3", "4", "5", "6", "8", "10")]

Series = dict[str, dict[datetime, Decimal]]


def drawn(found: Result, size: tuple[int, int], *, is_bars: bool) -> str:
    """The drawing and its legend; `size` is width and height in pixels."""
    series = _series(found)
    times = sorted({time for points in series.values() for time in points})
    peak = _peak(series, times, is_bars=is_bars)
    frame = _Frame(size, times, peak)
    shapes = _bars(frame, series) if is_bars else _lines(frame, series)
    legend = "".join(
        f'<span><i style="background:{_colour(n)}"></i>{escape(name)}</span>' for n, name in enumerate(series)
    )
    box = f'viewBox="0 0 {size[0]} {size[1]}" role="img"'
    return f'<svg {box}>{frame.axes()}{shapes}</svg><div class="legend">{legend}</div>'


def _even(peak: Decimal) -> Decimal:
    """The next value above whose lines stand at round numbers."""
    wanted = peak / _LINES
    power = Decimal(10) ** wanted.adjusted()
    return next(n for n in _ROUND if n * power >= wanted) * power * _LINES


def _series(found: Result) -> Series:
    """Points by label; a column of numbers is a series of its own for each label."""
    numbers = [
        n
        for n, kind in enumerate(found.types)
        if n and not kind.removeprefix("LowCardinality(").startswith("String")
    ]
    labels = [n for n in range(1, len(found.columns)) if n not in numbers]
    made: Series = {}
    for row in found.rows:
        for n in numbers:
            named = [str(row[label]) for label in labels]
            name = " ".join(named if len(numbers) == 1 and named else [*named, found.columns[n]])
            made.setdefault(name, {})[row[0]] = Decimal(row[n])
    return made


def _peak(series: Series, times: Sequence[datetime], *, is_bars: bool) -> Decimal:
    if is_bars:
        sums = [sum((p.get(t, Decimal(0)) for p in series.values()), Decimal(0)) for t in times]
        return max([*sums, Decimal(0)]) or Decimal(_LINES)
    return max([v for p in series.values() for v in p.values()] + [Decimal(0)]) or Decimal(_LINES)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


class _Frame:
    """Where a time and a value lie on the page."""

    def __init__(self, size: tuple[int, int], times: Sequence[datetime], peak: Decimal) -> None:
        self.width, self.height = size
        self.times, self.peak = times, _even(peak)
        self.every = min((b - a for a, b in pairwise(times)), default=timedelta(days=1))
        self.step = Decimal(self.width - _LEFT) / (self._place(times[-1]) + 1 if times else 1)

    def _place(self, time: datetime) -> Decimal:
        """How many steps a time lies behind the first one: what is missing between two leaves a gap."""
        return Decimal((time - self.times[0]) // self.every)

    def x(self, time: datetime) -> Decimal:
        return _LEFT + self.step * self._place(time)

    def y(self, value: Decimal) -> Decimal:
        room = self.height - _BOTTOM - _TOP
        return _TOP + room - room * value / self.peak

    def axes(self) -> str:
        made = ""
        for line in range(_LINES + 1):
            value = self.peak * line / _LINES
            y = self.y(value)
            made += f'<line class="grid" x1="{_LEFT}" x2="{self.width}" y1="{y:.1f}" y2="{y:.1f}"/>'
            made += f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
        free = Decimal(0)
        for time in self.times:
            at = self.x(time)
            if at < free or (at > self.width - _LABEL and free):
                continue
            free = at + _LABEL + self.step * (-(-_LABEL // self.step))
            words = f"{time:%d %b}" if time.hour == 0 else f"{time:%d %b %H:%M}"
            made += f'<text x="{at + 2:.1f}" y="{self.height - 6}">{words}</text>'
        return made


def _bars(frame: _Frame, series: Series) -> str:
    made, floor = "", dict.fromkeys(frame.times, Decimal(0))
    width = min(Decimal(64), max(Decimal("0.5"), frame.step * Decimal("0.8")))
    for number, points in enumerate(series.values()):
        for time, value in points.items():
            top, base = frame.y(floor[time] + value), frame.y(floor[time])
            floor[time] += value
            place = f'x="{frame.x(time):.1f}" y="{min(top, base):.1f}" width="{width:.1f}"'
            made += f'<rect {place} height="{abs(base - top):.1f}" fill="{_colour(number)}"/>'
    return made


def _lines(frame: _Frame, series: Series) -> str:
    made = ""
    for number, points in enumerate(series.values()):
        path = " ".join(f"{frame.x(time):.1f},{frame.y(value):.1f}" for time, value in sorted(points.items()))
        made += f'<polyline points="{path}" fill="none" stroke-width="2" stroke="{_colour(number)}"/>'
    return made


def short(value: Decimal) -> str:
    """A number in three digits, with k, M or G."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{_plain(value / size)}{unit}"
    if not value:
        return "0"
    return _plain(value) if value >= Decimal("0.001") else f"{value:.1e}"


def _plain(value: Decimal) -> str:
    return f"{Decimal(f'{value:.3g}').normalize():f}"
