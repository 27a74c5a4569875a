"""`metering correct void | amend`: see what a correction changes, then send it."""

import asyncio
import getpass
import json
import time
from typing import Annotated, Any

import typer

from metering.console import Table, console
from metering.correct import Correction, Request, correct
from metering.errors import UserError
from metering.producer import UsageProducer
from metering.settings import settings
from metering.sinks.client import connect
from metering.topics import Names
from metering.whatif import catalog_in_force

app = typer.Typer(no_args_is_help=True, help="Take single events back, or give them other data.")

EventId = Annotated[str, typer.Argument(help="Id of the event.")]
Customer = Annotated[str, typer.Option(help="Its customer, when the id is not enough.")]
Source = Annotated[str, typer.Option(help="Its source, when the id is not enough.")]
Reason = Annotated[str, typer.Option(help="Why; it stays with the event.")]
Actor = Annotated[str, typer.Option(help="Who; default: you.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Send it; without, only show what would change.")]


@app.command()
def void(
    event_id: EventId,
    reason: Reason,
    customer: Customer = "",
    source: Source = "",
    actor: Actor = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take one event back: it counts no more, and stays in the archive."""
    _run(
        Request(event_id, customer, source, actor or getpass.getuser(), reason, _now()),
        send=yes,
        as_json=as_json,
    )


@app.command()
def amend(
    event_id: EventId,
    data: Annotated[str, typer.Option(help="The event's new data, as JSON.")],
    reason: Reason,
    customer: Customer = "",
    source: Source = "",
    actor: Actor = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give one event other data; its id, type and time stay."""
    try:
        instead = json.loads(data)
    except ValueError as error:
        raise UserError(f"--data is not JSON: {error}", hint="quote it, e.g. '{\"size\": 3}'") from error
    if not isinstance(instead, dict):
        raise UserError("--data must be a JSON object", hint="e.g. '{\"size\": 3}'")
    request = Request(event_id, customer, source, actor or getpass.getuser(), reason, _now(), instead)
    _run(request, send=yes, as_json=as_json)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _run(request: Request, *, send: bool, as_json: bool) -> None:
    with connect(settings().clickhouse(), settings().database) as client:
        catalog = catalog_in_force(client)
        found = correct(client, catalog, request)
    if send:
        asyncio.run(_send(found.event, catalog.account_of(found.customer)))
    if as_json:
        console.print_json(json.dumps({"sent": send, "event": found.event, "changes": found.changes}))
        return
    _show(found)
    if send:
        console.print(f"[green]✓[/] sent as {found.event['id']}")
    else:
        console.print("[yellow]nothing was sent:[/] add --yes")


async def _send(event: dict[str, Any], key: str) -> None:
    async with UsageProducer(settings().brokers(), Names(settings()).events) as producer:
        await producer.send([(key.encode(), json.dumps(event).encode())])


def _show(found: Correction) -> None:
    table = Table("What", "Before", "After")
    for change in found.changes:
        table.add_row(*change)
    console.print(table)
