"""Series for a chart: days along, one line of numbers each; a day without a value is a gap of zero."""

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple


class Point(NamedTuple):
    """A value of one series on one day (UTC)."""

    day: date
    series: str
    value: Decimal


def chart(points: Iterable[Point]) -> str:
    """JSON for `static/app.js`: `times` (epoch s), `names`, `values` as decimal text; empty for none."""
    found = list(points)
    if not found:
        return ""
    first, last = min(p.day for p in found), max(p.day for p in found)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    names = sorted({p.series for p in found})
    values = {(p.series, p.day): p.value for p in found}
    return json.dumps(
        {
            "times": [int(datetime(d.year, d.month, d.day, tzinfo=UTC).timestamp()) for d in days],
            "names": names,
            "values": [[f"{values.get((name, day), Decimal(0)):f}" for day in days] for name in names],
        }
    )
