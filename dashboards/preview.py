"""Pages with the numbers of every dashboard, from the same queries: `python -m dashboards.preview`.

A reader of the repository sees what Grafana would show, without a Grafana. Series are drawn as SVG from
rounded numbers, as Grafana does; tables have the exact text that the query gave.
"""

import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from dashboards.drawing import drawn, short
from dashboards.generate import GENERATED, HERE
from dashboards.macros import ALL, Range, Value
from dashboards.prometheus_query import Prometheus
from dashboards.query import PLUGIN
from dashboards.run import Json, Result, load, run, targets
from metering.settings import settings
from metering.sinks.client import connect

FOLDER = HERE / "preview"
_SHOWN = 14
_DAY = 86_400_000
_OF_THE_RUN = ("appended", "happened", "made", "changed", "corrected")
_ROW_PIXELS = 38
_NOTHING = '<p class="none">no data</p>'
_ABOUT = (
    "The demo's November 2023 (UTC); what arrived, happened or was sent is of the day on which the demo ran"
)
# The month of the demo, and a customer of it.
SPAN = Range(
    int(datetime(2023, 11, 1, tzinfo=UTC).timestamp() * 1000),
    int(datetime(2023, 12, 1, tzinfo=UTC).timestamp() * 1000) - 1000,  # a range includes its end
)
CHOSEN: dict[str, Value] = {
    "currency": "USD", "customer": "harbor-analytics", "period": "2023-11", "price": "input", "search": "",
    "unit_cost": "", "meter": [ALL], "plan": [ALL],
}  # fmt: skip
# What a board is asked for that says nothing about all meters at once.
_OF_BOARD: dict[str, dict[str, Value]] = {
    "metering-margins": {"meter": ["input_tokens"], "unit_cost": "0.000002"},
}
_COLOURS = {"green": "good", "orange": "warn", "red": "bad"}


class Sources(NamedTuple):
    """Where numbers come from: the books, and a Prometheus if one watches the deployment."""

    books: Any
    metrics: Prometheus | None = None


def page(sources: Sources, board: Json, span: Range, chosen: Mapping[str, Value], about: str = _ABOUT) -> str:
    """One dashboard as a page; `about` says what the numbers are of."""
    rows: dict[int, str] = {}
    for panel in board["panels"]:
        top = panel["gridPos"]["y"]
        rows[top] = rows.get(top, "") + _panel(sources, panel, span, chosen)
    panels = "".join(f'<div class="row">{row}</div>' for row in rows.values())
    shown = ", ".join(f"{name}: {_text(value)}" for name, value in chosen.items() if _text(value))
    asked = ". ".join(part for part in (about, shown) if part)
    purpose = _inline(board.get("description", ""))
    return _PAGE.substitute(title=escape(board["title"]), about=purpose, chosen=escape(asked), panels=panels)


def selected(board: Json) -> dict[str, Value]:
    """A value for each variable of a dashboard: all customers where several can be chosen."""
    found: dict[str, Value] = {}
    for variable in board["templating"].get("list", ()):
        name = variable["name"]
        found[name] = [ALL] if variable.get("multi") else CHOSEN[name]
    return found | _OF_BOARD.get(board["uid"], {})


def _text(value: Value) -> str:
    text = value if isinstance(value, str) else ", ".join(value)
    return "All" if text == ALL else text


def _panel(sources: Sources, panel: Json, span: Range, chosen: Mapping[str, Value]) -> str:
    place = panel["gridPos"]
    style = f"grid-column:{place['x'] + 1}/span {place['w']}"
    title = panel["title"].replace("$currency", _text(chosen.get("currency", "")))
    body = _body(sources, panel, span, chosen)
    means = panel["description"].partition("\n")[0]
    return (
        f'<section style="{style}" title="{escape(means, quote=True)}"><h2>{escape(title)}</h2>'
        f'<div class="body {panel["type"]}">{body}</div></section>'
    )


def _body(sources: Sources, panel: Json, span: Range, chosen: Mapping[str, Value]) -> str:
    if panel["type"] == "text":
        return _markdown(panel["options"]["content"])
    (target, *_) = panel["targets"]
    if target["datasource"]["type"] != PLUGIN:
        return _measured(sources.metrics, panel)
    found = run(sources.books, panel, target, _of(target, span), chosen)
    if not found.rows:
        return _NOTHING
    if panel["type"] == "stat":
        return "".join(f"<strong>{escape(_cell(value))}</strong>" for value in found.rows[0])
    if panel["type"] == "timeseries":
        return _drawing(panel, found)
    return _table(panel, found)


def _measured(metrics: Prometheus | None, panel: Json) -> str:
    """A panel of Prometheus: its numbers are rounded, as Grafana shows them."""
    if metrics is None:
        return '<p class="none">from Prometheus, of a running deployment</p>'
    if panel["type"] == "stat":
        figure = metrics.figure(panel["targets"][0])
        unit = " s" if panel["fieldConfig"]["defaults"].get("unit") == "s" else ""
        return f"<strong>{short(Decimal(figure))}{unit}</strong>" if figure else _NOTHING
    found = metrics.series(panel["targets"])
    return _drawing(panel, found) if found.rows else _NOTHING


def _drawing(panel: Json, found: Result) -> str:
    is_bars = panel["fieldConfig"]["defaults"]["custom"].get("drawStyle") == "bars"
    size = (panel["gridPos"]["w"] * 56, panel["gridPos"]["h"] * _ROW_PIXELS - 60)
    return drawn(found, size, is_bars=is_bars)


def _of(target: Json, span: Range) -> Range:
    """The range of a query: what arrived, happened or was sent did so when the demo ran, not in its month."""
    if any(f"$__timeFilter({name})" in target["rawSql"] for name in _OF_THE_RUN):
        now = int(time.time() * 1000)
        return Range(now - _DAY, now)
    return span


def _table(panel: Json, found: Result) -> str:
    changes = {o["matcher"]["options"]: o["properties"] for o in panel["fieldConfig"]["overrides"]}
    right = {
        name for name, properties in changes.items() for p in properties if p.get("value") == "right"
    } | {name for name, kind in zip(found.columns, found.types, strict=True) if "Int" in kind}
    linked = {name for name, properties in changes.items() for p in properties if p["id"] == "links"}
    head = "".join(f'<th class="{"r" if c in right else ""}">{escape(c)}</th>' for c in found.columns)
    fits = max(3, (panel["gridPos"]["h"] * _ROW_PIXELS - 90) // 25)
    rows = []
    for row in found.rows[: min(fits, _SHOWN)]:
        cells = []
        for name, value in zip(found.columns, row, strict=True):
            kind = ("r " if name in right else "") + ("a " if name in linked else "")
            cells.append(
                f'<td class="{kind}{_colour(changes.get(name, []), value)}">{escape(_cell(value))}</td>'
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    more = len(found.rows) - len(rows)
    rest = f'<p class="none">and {more:,} more</p>' if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{rest}"


def _colour(properties: list[Json], value: Any) -> str:
    for one in properties:
        if one["id"] == "mappings":
            return _COLOURS.get(one["value"][0]["options"].get(str(value), {}).get("color", ""), "")
    return ""


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, Decimal):
        return format(value, "f")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _markdown(text: str) -> str:
    """As much of it as our panels use: a table and paragraphs."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    body = "".join(
        f"<tr>{''.join(f'<td>{_inline(cell.strip())}</td>' for cell in row)}</tr>"
        for row in rows
        if not set(row[0]) <= set("-:")
    )
    rest = "".join(
        f"<p>{_inline(line)}</p>" for line in text.splitlines() if line and not line.startswith("|")
    )
    return f'<table class="words"><tbody>{body}</tbody></table>{rest}'


def _inline(text: str) -> str:
    made = _linked(text)
    made = re.sub(r"`([^`]+)`", r"<code>\1</code>", made)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", made)


def _linked(text: str) -> str:
    parts = text.split("](")
    made = escape(parts[0].rpartition("[")[0] if len(parts) > 1 else parts[0])
    for before, after in pairwise(parts):
        name = before.rpartition("[")[2]
        target, _, rest = after.partition(")")
        made += f'<a href="{escape(target.rpartition("/")[2])}.html">{escape(name)}</a>'
        made += escape(rest.rpartition("[")[0] if "[" in rest else rest)
    return made


def main() -> None:
    """Write a page for each dashboard of the books; one that only Prometheus fills stays as it is."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    chosen = settings()
    with connect(chosen.clickhouse(), chosen.database) as client:
        for board in load(HERE / GENERATED):
            if not any(targets(board)):
                continue
            file = folder / f"{board['uid']}.html"
            file.write_text(page(Sources(client), board, SPAN, selected(board)), "utf-8")
            sys.stdout.write(f"{file}\n")


_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$title</title><style>
:root { --page: #f4f5f8; --panel: #fff; --line: #dfe2ea; --text: #20242c; --soft: #667085; --link: #2f5bd8;
  --good: #1a7f4b; --warn: #b25e09; --bad: #c4314b; }
@media (prefers-color-scheme: dark) { :root { --page: #111217; --panel: #181b1f; --line: #2b2f36; --text: #e6e8ee;
  --soft: #98a0ae; --link: #8ab0ff; --good: #5cc98d; --warn: #f0a24b; --bad: #ff7a90; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 24px; background: var(--page); color: var(--text);
  font: 13px/1.45 Inter, "Segoe UI", "DejaVu Sans", system-ui, sans-serif; }
header { max-width: 1500px; margin: 0 auto 16px; }
h1 { font-size: 22px; font-weight: 600; margin: 0; letter-spacing: -.01em; }
header p { margin: 4px 0 0; color: var(--soft); max-width: 110ch; }
main { max-width: 1500px; margin: 0 auto; }
.row { display: grid; grid-template-columns: repeat(24, minmax(0, 1fr)); gap: 8px; margin-bottom: 8px; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px;
  overflow: hidden; display: flex; flex-direction: column; }
h2 { font-size: 12.5px; font-weight: 600; margin: 0 0 6px; }
.body { flex: 1; min-height: 0; }
.stat { min-height: 62px; display: flex; gap: 18px; align-items: center; justify-content: center; flex-wrap: wrap; }
.stat strong { font-size: 25px; font-weight: 600; font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.stat strong + strong { font-size: 15px; color: var(--soft); font-weight: 500; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--soft); border-bottom: 1px solid var(--line); padding: 3px 8px 3px 0; }
td { padding: 3px 8px 3px 0; border-bottom: 1px solid var(--line); max-width: 420px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
.r + :not(.r) { padding-left: 20px; }
code { font-size: .95em; background: var(--page); border-radius: 3px; padding: 0 3px; }
.words td { white-space: normal; }
.r { text-align: right; } .a, a { color: var(--link); } .good { color: var(--good); } .warn { color: var(--warn); }
.bad { color: var(--bad); font-weight: 600; } .none { color: var(--soft); margin: 6px 0 0; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--line); }
.legend span { margin-right: 14px; color: var(--soft); white-space: nowrap; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
@media (max-width: 800px) { .row { display: block; } section { margin-bottom: 8px; } .body { overflow-x: auto; }
  .timeseries svg { min-width: 760px; } }
</style></head><body>
<header><h1>$title</h1><p>$about</p><p>$chosen</p></header>
<main>$panels</main></body></html>
""")


if __name__ == "__main__":
    main()
