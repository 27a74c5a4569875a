"""One table of a run, on the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from bench.results import Found, Row, rows
from bench.rows.fold import OURS
from metering.console import console

_WIDTH = 150
NOISY = 1.3  # a calibration loop this much slower than the fastest one of the run

_UNITS = {
    "cpu_first_half": "CPU µs, first half (warm-up)",
    "cpu_last_half": "CPU µs, last half",
    "p50": "s, median",
    "p90": "s, 90 %",
    "p99": "s, 99 %",
}


def show(found: Sequence[Found], head: Mapping[str, object]) -> None:
    """Print the table, what it was measured on, and what differs from the model."""
    table = Table("row", title="CPU µs an event, worker and broker apart")
    for column in ("events", "events/s best", "median", "CPU min", "median", "broker", "× ours"):
        table.add_column(column, justify="right")
    for column in ("MiB", "lost", "double", "noise"):
        table.add_column(column, justify="right")
    gathered, fastest = rows(found), min(f.before for f in found)
    ours = next((row.cpu()[0] for row in gathered if row.name == OURS), None)
    for row in gathered:
        table.add_row(*cells(row, ours, fastest))
    Console(width=max(console.width, _WIDTH)).print(table)
    for row in gathered:
        for name, value in row.best.parts.items():
            console.print(f"[dim]{row.name}: {_UNITS.get(name, name)} {value:,.3f}[/]")
        if row.best.lacks:
            console.print(f"[dim]{row.name} is not the same: {row.best.lacks}[/]")
    console.print("[dim]" + ", ".join(f"{k} {v}" for k, v in head.items()) + "[/]")
    for one in found:
        for line in one.settings.get("wrong", ()):
            console.print(f"[red]{one.row}:[/] {line}")


def cells(row: Row, ours: float | None, fastest: float) -> list[str]:
    """The cells of a row; `fastest` is the best calibration of the run."""
    least, median = row.cpu()
    best, usual = row.rate()
    noise = max(row.best.before, row.best.after) / fastest
    return [
        row.name,
        f"{row.best.events:,}",
        f"{best:,.0f}",
        f"{usual:,.0f}",
        f"{least:.2f}",
        f"{median:.2f}",
        f"{row.best.broker_cpu:.2f}",
        f"{least / ours:.2f}" if ours else "",
        f"{row.best.rss:,.0f}",
        f"{sum(f.lost for f in row.repeats):,}",
        f"{sum(f.doubled for f in row.repeats):,}",
        f"{noise:.2f}" + ("!" if noise > NOISY else ""),
    ]


def is_exact(found: Sequence[Found]) -> bool:
    """Whether no event was lost or counted twice and nothing else was wrong."""
    return not any(f.lost or f.doubled or "wrong" in f.settings for f in found)
