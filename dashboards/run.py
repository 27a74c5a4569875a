"""Runs the queries of a generated dashboard as Grafana would, over any ClickHouse client."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dashboards.macros import Range, Value, expand
from dashboards.query import PLUGIN

POINTS = 1_000  # that a panel of ordinary width draws at most
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
Json = dict[str, Any]


class Result(NamedTuple):
    """What a query answered: names and ClickHouse types of its columns, and its rows."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]


def load(folder: Path) -> list[Json]:
    """The generated dashboards."""
    return [json.loads(file.read_text("utf-8")) for file in sorted(folder.rglob("*.json"))]


def targets(board: Json) -> Iterator[tuple[Json, Json]]:
    """Each panel with each of its ClickHouse queries."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == PLUGIN:
                yield panel, target


def questions(board: Json) -> Iterator[tuple[str, str]]:
    """Each variable that asks ClickHouse, and its statement."""
    for variable in board["templating"].get("list", ()):
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["rawSql"]


def interval(panel: Json, start: int, end: int) -> int:
    """The milliseconds of a drawn point: never finer than the panel allows."""
    least = panel.get("interval", "1s")
    return max(int(least[:-1]) * _UNITS[least[-1]], (end - start) // POINTS)


def ask(client: Any, sql: str) -> Result:
    """Run a statement."""
    answer = client.query(sql)
    types = [kind.name for kind in answer.column_types]
    return Result(list(answer.column_names), types, list(answer.result_rows))


def run(client: Any, panel: Json, target: Json, span: Range, variables: Mapping[str, Value]) -> Result:
    """Run one query of a panel for a range and a selection."""
    drawn = span._replace(interval=interval(panel, span.start, span.end))
    return ask(client, expand(target["rawSql"], drawn, variables))


def problems(panel: Json, target: Json, result: Result) -> list[str]:
    """What a panel of this type cannot show in this result; empty: all is well."""
    if panel["type"] == "timeseries" and target["format"] == 0:
        return _series_problems(result)
    found = [f"column {name} is {kind}: the plugin makes a float of it"
             for name, kind in zip(result.columns, result.types, strict=True) if "Decimal" in kind or "Float" in kind]  # fmt: skip
    if panel["type"] == "stat" and len(result.rows) > 1:
        found.append(f"{len(result.rows)} rows for one figure")
    if panel["type"] == "stat" and any(value is None for row in result.rows for value in row):
        found.append("nothing where a figure is expected")
    return found


def _series_problems(result: Result) -> list[str]:
    found = []
    kinds = [_kind(one) for one in result.types]
    if kinds[0] != "time":
        found.append(f"the first column is {result.types[0]}, not a time")
    if "number" not in kinds[1:]:
        found.append("no column of numbers")
    if "time" in kinds[1:] or "other" in kinds:
        found.append(f"a series has times, labels and numbers only: {result.types}")
    times = [row[0] for row in result.rows]
    if times != sorted(times):
        found.append("times do not ascend")
    keys = [tuple(v for v, k in zip(row, kinds, strict=True) if k != "number") for row in result.rows]
    if len(keys) != len(set(keys)):
        found.append("two values for one time and label")
    return found


def _kind(name: str) -> str:
    bare = name.removeprefix("LowCardinality(").removeprefix("Nullable(").rstrip(")")
    if bare.startswith("Date"):
        return "time"
    if bare.startswith(("UInt", "Int", "Float", "Decimal")):
        return "number"
    return "text" if bare.startswith(("String", "FixedString", "Enum")) else "other"
