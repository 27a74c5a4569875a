"""`metering status`: where each partition and the books stand, and what waits for a person."""

import json
import time
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Column

from metering.console import Table, console
from metering.rejected import Filter, Letters, State
from metering.rejected_screen import show_counts
from metering.settings import Settings, settings
from metering.sinks.client import connect
from metering.sinks.queries import Books, Counters
from metering.standing import Look, Standing, holding_back, look, standings
from metering.topics import Names

_COLOURS = {"live": "green", "quiet": "dim", "dead": "red"}


class InBooks(NamedTuple):
    """What ClickHouse says: counters, letters by reason and state, records that are not stored yet."""

    counters: Counters
    letters: dict[str, dict[State, int]]
    missing: int


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show where each partition stands, what was read and stored so far, and what was refused."""
    chosen = settings()
    seen = look(chosen)
    now = time.time_ns() // 1_000_000
    found = standings(chosen, seen, now)
    if not as_json:
        _show_partitions(found, now)
    books = _in_books(chosen, seen)
    if as_json:
        console.print_json(json.dumps(_plain(found, books)))
    else:
        _show_books(books)


def _in_books(chosen: Settings, seen: Look) -> InBooks:
    names = Names(chosen)
    with connect(chosen.clickhouse(), chosen.database) as client:
        books = Books(client)
        stored = books.stored()
        ends = {place: b.end for place, b in seen.bounds.items() if place[0] != names.progress}
        missing = sum(max(0, end - stored.get(place, 0)) for place, end in ends.items())
        return InBooks(books.counters(), Letters(client, names.events).count(Filter()), missing)


def _show_partitions(found: list[Standing], now: int) -> None:
    right = (Column(name, justify="right") for name in ("Position", "Lag"))
    table = Table("Partition", "State", "Owner", *right, "Watermark (UTC)", "")
    for one in found:
        state = f"[{_COLOURS[one.state]}]{one.state}[/]"
        figures = (f"{one.offset:,}", f"{one.lag:,}", _instant(one.watermark) or "-")
        table.add_row(str(one.partition), state, one.owner or "-", *figures, _words(one, now))
    console.print(table)
    last = holding_back(found)
    so_far = f"{_instant(last.watermark)} UTC" if last.watermark else "not known yet"
    because = "no partition holds it back"
    if last.state != "quiet":
        because = f"partition {last.partition} ({last.state}) holds it back"
    console.print(f"The pipeline's watermark: {so_far}; {because}", soft_wrap=True)


def _words(one: Standing, now: int) -> str:
    """What the state does not say."""
    if one.state == "dead":
        if not one.reported_at:
            return "nobody has ever reported it: is a worker running?"
        return f"last report {_ago(now - one.reported_at)} ago: start a worker"
    if one.state == "quiet":
        return (
            f"last usage {_ago(now - one.usage_at)} ago" if one.usage_at else "no usage since its owner began"
        )
    return ""


def _ago(ms: int) -> str:
    seconds = max(0, ms) // 1_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit}"
    return f"{seconds} s"


def _instant(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms // 1_000)) if ms else ""


def _show_books(books: InBooks) -> None:
    table = Table("Events", Column("Count", justify="right"))
    for name, count in books.counters._asdict().items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    if books.missing:
        console.print(f"Records that are not in ClickHouse yet: {books.missing:,}")
    else:
        console.print("Everything is in ClickHouse")
    if books.letters:
        console.print("Dead letters; open ones wait for you, `metering rejected list --state open`:")
        show_counts(books.letters)


def _plain(found: list[Standing], books: InBooks) -> dict[str, Any]:
    """The same as JSON values; times are epoch ms, null is none."""
    last = holding_back(found)
    return {
        "partitions": [one._asdict() for one in found],
        "watermark": last.watermark or None,
        "held_back_by": None if last.state == "quiet" else last.partition,
        "events": books.counters._asdict(),
        "not_stored": books.missing,
        "dead_letters": books.letters,
    }
