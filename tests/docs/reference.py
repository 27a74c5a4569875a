"""The reference pages, made from the code; `make reference` writes them, a test compares.

They cannot be wrong about a name, and a change of the code shows in its diff what readers will see.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from metering.settings import Settings
from metering.sinks.migrate import bundled, statements
from metering.topics import Names, specs
from tests.docs.pages import DOCS
from tests.docs.reference_data import metrics, reasons, records
from tests.walk import groups, walk

_TABLE = re.compile(
    r"CREATE (TABLE|VIEW|OR REPLACE VIEW|MATERIALIZED VIEW)\s+(?:IF NOT EXISTS )?(\w+)", re.IGNORECASE
)


class _Stored(NamedTuple):
    kind: str
    first: int
    about: str


def commands() -> str:
    """Every command with its arguments, options and examples."""
    text = "# Commands\n\nMade from the code. In common they have [the command line](../command-line.md).\n"
    about = {group.words: group.command.help for group in groups()}
    last = ""
    for found in walk():
        group = found.words.rpartition(" ")[0]
        if group != last:
            text += f"\n## {group}\n\n{about[group]}\n"
            last = group
        text += f"\n### {found.words}\n\n{' '.join(str(found.command.help).split())}\n"
        text += _parameters(found.command)
        examples = (found.command.epilog or "").split("\n\n")[1:]
        text += "\n```text\n" + "\n".join(examples) + "\n```\n" if examples else ""
    return text


def _parameters(command: Any) -> str:
    rows = [p for p in command.params if p.name != "help"]
    if not rows:
        return ""
    lines = [f"| {_name(p)} | {' '.join((p.help or '').split())}{_default(p)} |" for p in rows]
    return "\n| | |\n|---|---|\n" + "\n".join(lines) + "\n"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in parameter.opts)


def _default(parameter: Any) -> str:
    value = parameter.default
    shown = isinstance(value, str | int | float) and value not in ("", False) and not parameter.required
    return f" (default {value})" if shown else ""


def topics() -> str:
    """Every topic with its partitions and settings."""
    settings = Settings(kafka_brokers="-", clickhouse_url="-", home=Path("-"), instance="-")
    names, text = (
        Names(settings),
        "# Topics\n\nMade from the code; `metering topics apply` makes a broker match it.\n\n",
    )
    text += "| topic | partitions | settings |\n|---|---|---|\n"
    for spec in specs(settings):
        count = "`METERING_PARTITIONS`" if spec.name == names.events or spec.partitions > 1 else "1"
        config = ", ".join(f"`{k}={v}`" for k, v in spec.config.items())
        text += f"| `{spec.name}` | {count} | {config} |\n"
    groups_of_consumers = f"`{names.worker_group}`, `{names.sink_group}`"
    return (
        f"{text}\nConsumer groups: {groups_of_consumers}. `METERING_TOPIC_PREFIX` stands before every name.\n"
    )


def tables() -> str:
    """Every table and view, with the migration that made it last and what its comment says."""
    found: dict[str, _Stored] = {}
    for migration in bundled():
        for name, kind, about in _created(migration.sql):
            found[name] = _Stored(
                kind, migration.version, about or (found[name].about if name in found else "")
            )
    text = "# Tables and views\n\nMade from `metering/sinks/migrations`. Read the views: they hide `FINAL`.\n"
    for kind, title in (("VIEW", "Views"), ("TABLE", "Tables")):
        text += f"\n## {title}\n\n| name | migration | |\n|---|---|---|\n"
        for name in sorted(n for n, one in found.items() if kind in one.kind):
            text += f"| `{name}` | {found[name].first:03} | {found[name].about} |\n"
    return text


def _created(sql: str) -> list[tuple[str, str, str]]:
    made = {match[2]: match[1].upper() for one in statements(sql) for match in _TABLE.finditer(one)}
    found = []
    for name, kind in made.items():
        comment = re.search(rf"((?:^--[^\n]*\n)+)CREATE[^\n]*\b{name}\b", sql, re.MULTILINE)
        about = " ".join(line.lstrip("- ") for line in comment[1].splitlines()) if comment else ""
        found.append((name, kind, about.replace("|", "\\|")))
    return found


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/topics.md": topics,
    "reference/tables.md": tables,
    "reference/metrics.md": metrics,
    "reference/records.md": records,
    "reference/reasons.md": reasons,
}

if __name__ == "__main__":
    for name, made in PAGES.items():
        (DOCS / name).write_text(made())
