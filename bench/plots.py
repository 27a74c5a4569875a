"""Small SVG plots of results, drawn by hand so that nothing has to be installed for them."""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

_WIDTH, _BAR, _LEFT, _RIGHT = 760, 26, 300, 90
_HEIGHT, _MARGIN = 280, 60
_COLOURS = ("#1f6f8b", "#c06014", "#5b8c5a")
_STYLE = "<style>text{font:13px sans-serif;fill:#333}.axis{stroke:#999}</style>"


def bars(title: str, values: Sequence[tuple[str, float]], unit: str) -> str:
    """Horizontal bars on a logarithmic scale: a tenth is as far as ten times."""
    positive = [value for _, value in values if value > 0]
    low, high = math.floor(math.log10(min(positive))), math.log10(max(positive))
    span = max(high - low, 0.1)
    lines = [f'<text x="{_LEFT}" y="20" font-weight="bold">{escape(title)}</text>']
    for number, (name, value) in enumerate(values):
        y = 34 + number * _BAR
        width = max(2.0, (math.log10(value) - low) / span * (_WIDTH - _LEFT - _RIGHT)) if value > 0 else 0.0
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        colour = _COLOURS[0 if number == 0 else 1]
        lines.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>')
        lines.append(f'<text x="{_LEFT + width + 6:.1f}" y="{y + 14}">{value:,.2f} {escape(unit)}</text>')
    return _svg(_WIDTH, 44 + len(values) * _BAR, lines)


def curves(title: str, x: Sequence[float], series: Sequence[tuple[str, Sequence[float]]], x_unit: str) -> str:
    """Lines over one axis, each to its own maximum, which its legend names."""
    lines = [f'<text x="{_MARGIN}" y="20" font-weight="bold">{escape(title)}</text>']
    wide, high = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    bottom = _MARGIN + high
    lines.append(f'<path class="axis" fill="none" d="M{_MARGIN} {_MARGIN}V{bottom}H{_MARGIN + wide}"/>')
    last = max(x) or 1.0
    for number, (name, values) in enumerate(series):
        top, colour = max(values) or 1.0, _COLOURS[number]
        points = " ".join(
            f"{_MARGIN + a / last * wide:.1f},{bottom - b / top * high:.1f}"
            for a, b in zip(x, values, strict=True)
        )
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        text = escape(f"{name}: up to {top:,.4g}")
        lines.append(
            f'<text x="{_MARGIN + number * 320}" y="{_MARGIN - 18}" style="fill:{colour}">{text}</text>'
        )
    lines.append(
        f'<text x="{_MARGIN + wide}" y="{bottom + 20}" text-anchor="end">{last:,.4g} {x_unit}</text>'
    )
    return _svg(_WIDTH, _HEIGHT, lines)


def _svg(width: int, height: int, lines: Sequence[str]) -> str:
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">\n{_STYLE}\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )
