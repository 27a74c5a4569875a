"""The page on performance, made of result files: goals, tables, what peers do not do, plots."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.goals import GOALS, Rows, find
from bench.plots import bars, curves
from bench.results import Found, Row, read, rows
from bench.rows.fold import OURS
from bench.table import NOISY, cells
from metering.console import console
from metering.errors import UserError

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "bench"
_PAGE = ROOT / "docs" / "performance.md"
_HEAD = """# Performance

This page is made from the result files in `docs/bench/` by `python -m bench page`; each table names the
command that measured it. `make bench` measures again, `make bench ROWS="durable deep" EVENTS=2000000`
some rows.

How it is measured:

- A seeded load waits in Kafka ({broker}, one node). A worker is started and held at a gate: it has no
  catalog yet. The catalog is published, and the worker folds until everything is durable: ids, totals
  and position in RocksDB, journal, hourly totals and charges on Kafka. Start-up is not counted; the
  rating of the totals is.
- CPU is the kernel's account of the whole process, in µs an event, all threads; the broker's is apart.
  `min` is the quietest repeat, `median` the usual one. `events/s` is wall time to the last durable
  event.
- Every hourly total, every charge and all counters are compared with a naive model. `lost` and `double`
  are events; the command ends with 1 unless both are zero.
- A fixed loop runs before and after each measurement. `noise` is its time against the fastest of the
  run: above {noisy} the row is marked, because its CPU time is too high as well. Ratios hold within one
  run.
- Peers read the same bytes from the same broker with the same commit interval, each in an environment of
  its own. A slow peer gets fewer events. Its clock starts with its first report, and its result is
  verified as ours is.

"""
_COLUMNS = (
    "row", "events", "events/s best", "median", "CPU min", "median", "broker", "× ours", "MiB", "lost",
    "double", "noise",
)  # fmt: skip


def main(files: Sequence[Path]) -> int:
    """Write the page and its plots; without files, from all that are committed."""
    chosen = list(files) or sorted(RESULTS.glob("*.json"))
    if not chosen:
        raise UserError(f"no results in {RESULTS}", hint="copy the JSON of `make bench` there")
    made = made_of(chosen)
    _PAGE.write_text(made.text)
    for name, svg in made.plots.items():
        (RESULTS / f"{name}.svg").write_text(svg)
    console.print(f"{_PAGE.relative_to(ROOT)} written from {len(chosen)} result files")
    return 0


class Made(NamedTuple):
    """The page, and its plots by name."""

    text: str
    plots: dict[str, str]


def made_of(files: Sequence[Path]) -> Made:
    """The page of result files."""
    results = [read(file) for file in files]
    everything = {row.name: row for _, found in results for row in rows(found)}
    text = _HEAD.format(broker=results[0][0]["machine"]["broker"], noisy=NOISY)
    text += _goals(everything)
    for head, found in results:
        text += _section(head, found)
    plots = _plots(everything)
    shown = "".join(f"![{name}](bench/{name}.svg)\n\n" for name in plots)
    return Made(text + _peers(everything) + "## Plots\n\n" + shown.rstrip() + "\n", plots)


def line(items: Iterable[object]) -> str:
    """A line of a table in Markdown."""
    return "| " + " | ".join(str(item) for item in items) + " |\n"


def _goals(everything: Rows) -> str:
    text = "## Goals\n\n" + line(("what", "goal", "measured", "met")) + line(["---"] * 4)
    for goal in GOALS:
        found = goal.reached(everything)
        measured, met = (found.text, "yes" if found.is_met else "no") if found else ("not measured", "")
        text += line((goal.what, goal.wanted, measured, met))
    return f"{text}\n{_hindrances(everything)}"


def _hindrances(everything: Rows) -> str:
    """What stands in the way of goals that are not met, and what was tried."""
    said: dict[str, list[str]] = {}
    for goal in GOALS:
        found = goal.reached(everything)
        if found is not None and not found.is_met and goal.hinders:
            said.setdefault(goal.hinders, []).append(goal.wanted)
    return "".join(f"**What stands in the way** of {'; '.join(w)}: {why}\n\n" for why, w in said.items())


def _section(head: dict[str, Any], found: Sequence[Found]) -> str:
    gathered, fastest = rows(found), min(one.before for one in found)
    ours = next((row.cpu()[0] for row in gathered if row.name == OURS), None)
    text = f"## `{head['command']}`\n\n"
    text += ", ".join(f"{name} {value}" for name, value in head["machine"].items()) + f"; {head['at']}.\n\n"
    text += line(_COLUMNS) + line(["---", *["--:"] * (len(_COLUMNS) - 1)])
    for row in gathered:
        text += line(cells(row, ours, fastest))
    return text + "\n" + "".join(map(_figures, gathered)) + "\n"


def _figures(row: Row) -> str:
    parts = ", ".join(f"{name} {value:,.2f}" for name, value in row.best.parts.items())
    return f"- {row.name}: {parts}\n" if parts else ""


def _peers(everything: Rows) -> str:
    text = "## What the peers are told, and where they are not the same\n\n"
    for row in everything.values():
        if row.best.lacks:
            warm = row.best.parts.get("cpu_first_half"), row.best.parts.get("cpu_last_half")
            text += f"- **{row.name}**: {row.best.settings['peer']}. Not the same: {row.best.lacks}."
            if row.name.startswith("Kafka Streams") and warm[0] and warm[1]:
                text += f" Warm-up apart: first half {warm[0]:.1f} µs, last half {warm[1]:.1f} µs."
            text += "\n"
    return text + "\n"


def _plots(everything: Rows) -> dict[str, str]:
    plots: dict[str, str] = {}
    ours = find(everything, OURS)
    compared = [row for row in everything.values() if row.best.lacks]
    if ours is not None and compared:
        values = [(row.name, row.cpu()[0]) for row in (ours, *sorted(compared, key=lambda r: r.cpu()[0]))]
        plots["peers"] = bars("CPU an event, logarithmic", values, "µs")
    long = find(everything, "catch-up") or ours
    if long is not None and long.best.series:
        series = long.best.series
        lines = [("durable records", series["records"]), ("memory, MiB", series["rss"])]
        plots["catchup"] = curves(long.name, series["seconds"], lines, "s")
    waited = find(everything, "latency")
    if waited is not None and waited.best.series.get("latencies"):
        latencies = waited.best.series["latencies"]
        shares = [100 * (n + 1) / len(latencies) for n in range(len(latencies))]
        plots["latency"] = curves(waited.name, shares, [("seconds", latencies)], "% of the probes")
    return plots
