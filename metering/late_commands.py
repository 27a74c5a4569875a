"""`metering late list | approve`: late usage that waits for a person."""

import asyncio
import getpass
import json
import time
from typing import Annotated

import typer

from metering.console import Table, console, errors, literal
from metering.errors import UserError
from metering.late import As, Order, Waiting, approve, by_event, of_meter, waiting
from metering.redrive import wait_until_stored
from metering.settings import settings
from metering.sinks.client import connect
from metering.topics import Names
from metering.whatif import catalog_in_force

app = typer.Typer(no_args_is_help=True, help="Late usage of closed periods that waits for an approval.")

_SHOWN = 30
Customer = Annotated[str, typer.Option(help="Only events of this customer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PeriodName = Annotated[str, typer.Option(help="Only usage of this billing period, e.g. 2026-10.")]


@app.command("list")
def list_waiting(
    customer: Customer = "",
    period: PeriodName = "",
    as_json: AsJson = False,
) -> None:
    """List late events that wait: for a restatement of their closed period, or in quarantine."""
    with connect(settings().clickhouse(), settings().database) as client:
        found = waiting(client, customer=customer, period=period)
    if as_json:
        console.print_json(json.dumps([_plain(one) for one in found]))
    elif found:
        _show(found)
    else:
        console.print("no late usage waits")


@app.command("approve")
def approve_waiting(
    event_id: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of events.")] = None,
    all_of: Annotated[str, typer.Option(metavar="CUSTOMER/METER/PERIOD", help="All that wait there.")] = "",
    how: Annotated[
        str, typer.Option("--as", help="adjustment or restatement; default: the policy of the meter.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why; it stands in the close record.")] = "",
    actor: Annotated[str, typer.Option(help="Who approves; default: the user of this shell.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, what would count is shown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let late events count: as an adjustment of the open period, or as a restatement of the closed one."""
    chosen = settings()
    order = Order(actor.strip() or getpass.getuser(), reason.strip(), time.time_ns() // 1_000_000, _how(how))
    if yes and not order.reason:
        raise UserError("an approval needs a reason in words", hint='add --reason "…"; it goes on record')
    with connect(chosen.clickhouse(), chosen.database) as client:
        catalog = catalog_in_force(client)
        if all_of:
            customer, meter, period = _three(all_of, event_id)
            found = of_meter(waiting(client, customer=customer, period=period), meter, catalog)
        else:
            found = _named(client, event_id or [])
        if not found:
            raise UserError("nothing of that waits for an approval", hint="see `metering late list`")
        ends = asyncio.run(approve(chosen, client, catalog, found, order)) if yes else {}
        if as_json:
            console.print_json(json.dumps({"approved": yes, "events": [_plain(one) for one in found]}))
        else:
            _say_approved(found, order, yes=yes)
        if not wait_until_stored(client, Names(chosen).rejected, ends):
            errors.print("[yellow]it is in Kafka, not yet in the books: does the sink run?[/]")


def _say_approved(found: list[Waiting], order: Order, *, yes: bool) -> None:
    _show(found, order.how)
    number = len(by_event(found))
    if yes:
        console.print(f"[green]✓[/] {number:,} approved by {order.actor}")
    else:
        console.print(f"nothing was sent: --yes approves {number:,}")


def _how(text: str) -> As | None:
    known: dict[str, As | None] = {"": None, "adjustment": "adjustment", "restatement": "restatement"}
    if text not in known:
        raise UserError(f"`--as {text}` is not known", hint="use adjustment or restatement")
    return known[text]


def _three(text: str, event_id: list[str] | None) -> list[str]:
    parts = text.rsplit("/", 2)
    if len(parts) != 3 or not all(parts):
        raise UserError(f"`{text}` does not say whose usage", hint="write CUSTOMER/METER/PERIOD")
    if event_id:
        raise UserError("name events or use --all-of, not both", hint="leave one of them out")
    return parts


def _named(client: object, event_ids: list[str]) -> list[Waiting]:
    """What waits under these ids; an id of several events must be made unique."""
    if not event_ids:
        raise UserError("approve which events?", hint="name their ids, or use --all-of")
    found = waiting(client, event_ids=event_ids)
    for event_id in event_ids:
        same = {place for place in by_event(found) if place[2] == event_id}
        if not same:
            raise UserError(f"no late event `{event_id}` waits", hint="see `metering late list`")
        if len(same) > 1:
            whose = ", ".join(f"{customer} {source or '-'}" for customer, source, _ in sorted(same))
            raise UserError(f"several events with the id `{event_id}` wait: {whose}", hint="use --all-of")
    return found


def _show(found: list[Waiting], how: As | None = None) -> None:
    table = Table("Event", "Customer", "Type", "Time (UTC)", "Period", "Waits", "Approved as", "Data")
    events = list(by_event(found).values())
    for first, *_ in events[:_SHOWN]:
        outside = (literal(text) for text in (first.event_id, first.customer, first.event_type))
        at = f"{first.time:%Y-%m-%d %H:%M}"
        table.add_row(*outside, at, first.period, first.waits, how or first.default, literal(first.data))
    console.print(table)
    if len(events) > _SHOWN:
        console.print(f"and {len(events) - _SHOWN:,} more")


def _plain(one: Waiting) -> dict[str, object]:
    place = one.place.named(Names(settings()).events)
    times = {name: getattr(one, name).isoformat() for name in ("appended", "time")}
    return {**one._asdict(), **times, "place": place, "data": json.loads(one.data)}
