"""`metering backfill preview | apply | revert | list | show`."""

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from metering.backfill.books import operations_of, parts_of
from metering.backfill.request import Request, Scope, read_request
from metering.backfill.running import Outcome, run_request, run_revert
from metering.backfill.screen import (
    SHOWN,
    outcome_plain,
    part_plain,
    show_changes,
    show_list,
    show_parts,
    show_problems,
)
from metering.console import console, working
from metering.errors import UserError
from metering.event_copies import NO_SOURCE
from metering.settings import settings
from metering.sinks.client import LONG_ANSWER_SECONDS, connect

app = typer.Typer(no_args_is_help=True, help="Add or replace the usage of a range, and revert it as a whole.")

File = Annotated[Path, typer.Argument(help="JSON lines: one usage event or envelope a line.")]
Mode = Annotated[
    Literal["add", "replace"], typer.Option(help="Add the events, or put them in place of a range.")
]
Reason = Annotated[str, typer.Option(help="Why; it stays with every event of it.")]
Actor = Annotated[str, typer.Option(help="Who; default: you.")]
Customers = Annotated[
    list[str] | None, typer.Option("--customer", help="Only these; default: those of the file.")
]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only these event types; default: those of the file.")
]
Source = Annotated[str, typer.Option(help="Only events of this source; - is none; default: any.")]
Since = Annotated[
    str, typer.Option("--from", help="Start of the range, UTC: 2026-11-20 or 2026-11-20T10:00Z.")
]
Until = Annotated[str, typer.Option("--to", help="End of the range, itself not in it.")]
Name = Annotated[str, typer.Option("--id", help="Its id; default: from what it is.")]
Yes = Annotated[bool, typer.Option("--yes", help="Send it; without, only show what would change.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON; numbers are strings.")]


@app.command()
def preview(
    file: File,
    mode: Mode,
    customer: Customers = None,
    type_: Types = None,
    source: Source = "",
    since: Since = "",
    until: Until = "",
    backfill: Name = "",
    as_json: Json = False,
) -> None:
    """Show what a backfill would change for whom; nothing is sent."""
    request = _request(file, mode, _scope(customer, type_, source, since, until), "-", "-", backfill)
    with working("rehearsing the backfill"):
        outcome = run_request(settings(), request, yes=False)
    _say(str(file), outcome, yes=False, as_json=as_json)


@app.command()
def apply(
    file: File,
    mode: Mode,
    reason: Reason,
    customer: Customers = None,
    type_: Types = None,
    source: Source = "",
    since: Since = "",
    until: Until = "",
    backfill: Name = "",
    actor: Actor = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send a backfill; run again after a failure, it sends what is missing."""
    scope = _scope(customer, type_, source, since, until)
    request = _request(file, mode, scope, actor or getpass.getuser(), reason, backfill)
    with working("running the backfill"):
        outcome = run_request(settings(), request, yes=yes)
    _say(str(file), outcome, yes=yes, as_json=as_json)


@app.command()
def revert(
    backfill: Annotated[
        str, typer.Argument(metavar="ID", help="Its id, as `metering backfill list` has it.")
    ],
    reason: Reason,
    actor: Actor = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take a backfill back: what it brought is voided, what it replaced counts again."""
    with working("reverting the backfill"):
        outcome = run_revert(settings(), backfill, actor or getpass.getuser(), reason, yes=yes)
    _say(backfill, outcome, yes=yes, as_json=as_json)


@app.command("list")
def list_backfills(as_json: Json = False) -> None:
    """List backfills and reverts, and whether all of them has arrived."""
    with connect(settings().clickhouse(), settings().database, answer_seconds=LONG_ANSWER_SECONDS) as client:
        parts = parts_of(client)
    if as_json:
        console.print_json(json.dumps([part_plain(part) for part in parts]))
    else:
        show_list(parts)


@app.command()
def show(
    backfill: Annotated[str, typer.Argument(metavar="ID", help="Its id.")],
    limit: Annotated[int, typer.Option(min=1, help="At most so many events.")] = SHOWN,
    as_json: Json = False,
) -> None:
    """Show one backfill: who, why, when, and what it did to which event."""
    with connect(settings().clickhouse(), settings().database, answer_seconds=LONG_ANSWER_SECONDS) as client:
        parts = parts_of(client, backfill)
        operations = operations_of(client, backfill, limit)
    if not parts:
        raise UserError(f"no backfill `{backfill}` is in the books", hint="see `metering backfill list`")
    if as_json:
        names = ("step", "what", "customer", "source", "event", "time")
        events = [dict(zip(names, map(str, one), strict=True)) for one in operations]
        console.print_json(json.dumps({"parts": [part_plain(p) for p in parts], "events": events}))
    else:
        show_parts(parts, operations)


def _request(file: Path, mode: Mode, scope: Scope, actor: str, reason: str, backfill: str) -> Request:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}", hint="give the path of a file") from error
    return read_request(file.name, raw, mode, scope, actor, reason, backfill)


def _scope(
    customers: list[str] | None, types: list[str] | None, source: str, since: str, until: str
) -> Scope:
    scope = Scope(frozenset(customers or ()), frozenset(types or ()))
    if source:
        scope = scope._replace(source="" if source == NO_SOURCE else source)
    if bool(since) != bool(until):
        raise UserError("a range has two ends", hint="give both --from and --to")
    return scope._replace(starts=_instant(since), ends=_instant(until)) if since else scope


def _instant(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "write 2026-11-20 or 2026-11-20T10:00Z"
        raise UserError(f"`{text}` is not an instant", hint=hint) from error
    at = at.replace(tzinfo=at.tzinfo or UTC)
    return int(at.timestamp()) * 1_000 + at.microsecond // 1_000


def _say(name: str, outcome: Outcome, *, yes: bool, as_json: bool) -> None:
    if as_json:
        console.print_json(json.dumps(outcome_plain(outcome)))
    else:
        console.print(f"[bold]backfill {outcome.stamp.backfill}[/]")
        show_problems(name, outcome)
        _say_sent(outcome, yes=yes)
    raise typer.Exit(1 if outcome.problems or outcome.missing else 0)


def _say_sent(outcome: Outcome, *, yes: bool) -> None:
    if outcome.problems:
        console.print(f"[red]✗[/] {len(outcome.problems):,} events cannot count: nothing was sent")
        return
    show_changes(outcome.prepared)
    if not any(one.records for one in outcome.prepared):
        console.print("[green]✓[/] the books are as it wants them: nothing is to be sent")
    elif outcome.sent is None:
        hint = "" if yes else ": `metering backfill apply` or `revert` with --yes sends it"
        console.print(f"[yellow]nothing was sent[/]{hint}")
    elif outcome.missing:
        console.print(f"[red]✗[/] {outcome.missing:,} events did not count: run it again")
        console.print(
            "  [dim]→[/] `metering rejected list` says why; usage that came meanwhile is one reason"
        )
    else:
        console.print(f"[green]✓[/] {outcome.sent:,} events sent, and all of them are in the books")
