"""`metering catalog check | publish | show`."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from metering.catalog.diff import affected, differences
from metering.catalog.load import load_folder
from metering.catalog.publish import publish as publish_catalog
from metering.catalog.reader import read_latest
from metering.catalog.resolved import Catalog, canonical
from metering.console import Table, console
from metering.errors import UserError
from metering.settings import settings
from metering.topics import Names

app = typer.Typer(no_args_is_help=True, help="Meters, rate cards, plans and customers.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Folder = Annotated[Path, typer.Argument(help="Folder of the catalog's YAML files.")]


@app.command()
def check(folder: Folder, as_json: AsJson = False) -> None:
    """Read a catalog and report every mistake with its file and line."""
    catalog = load_folder(folder)
    if as_json:
        console.print_json(json.dumps({"version": catalog.version, **_numbers(catalog)}))
        return
    console.print(f"[green]✓[/] {folder}: {_counts(catalog)}, version {catalog.version[:12]}")


@app.command()
def publish(
    folder: Folder,
    leave_out: Annotated[bool, typer.Option(help="Customers of now may be missing.")] = False,
) -> None:
    """Put a catalog in force on every running worker."""
    brokers, topic = settings().brokers(), Names(settings()).catalog
    done = asyncio.run(publish_catalog(brokers, topic, load_folder(folder), leaves_out=leave_out))
    if done.is_new:
        console.print(f"[green]✓[/] revision {done.revision} ({done.version[:12]}) is in force")
    else:
        console.print(f"[green]✓[/] already in force as revision {done.revision}")


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="Folder of the catalog as it is.")],
    new: Annotated[Path, typer.Argument(help="Folder of the catalog as it shall be.")],
    as_json: AsJson = False,
) -> None:
    """Say what a new catalog changes, and for whom."""
    before, after = load_folder(old), load_folder(new)
    changes, customers = differences(before, after), affected(before, after)
    if as_json:
        plain = {"changes": [change._asdict() for change in changes], "customers": customers}
        console.print_json(json.dumps(plain))
        return
    for change in changes:
        console.print(f"[bold]{change.kind}[/] {change.id}: {change.what}", highlight=False)
        for line in change.lines:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    for customer, instants in customers.items():
        text = f"[yellow]{customer}[/] has other terms in the versions from {', '.join(instants)}"
        console.print(text, highlight=False, soft_wrap=True)
    if not changes:
        console.print("[green]✓[/] nothing changes")
    else:
        console.print(f"{len(changes)} objects change; {len(customers)} customers have other terms")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Id of a meter, card, plan or customer.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the catalog in force, or one object of it."""
    catalog = asyncio.run(read_latest(settings().brokers(), Names(settings()).catalog))
    if catalog is None:
        raise UserError("no catalog is published", hint="run `metering catalog publish DIR`")
    content = canonical(catalog.content)
    if name:
        content = {k: [i for i in items if i["id"] == name] for k, items in content.items()}
        content = {kind: items for kind, items in content.items() if items}
        if not content:
            raise UserError(f"the catalog has no `{name}`", hint="run `metering catalog show`")
    if as_json or name:
        console.print_json(json.dumps(content))
        return
    console.print(f"Revision {catalog.revision}, version {catalog.version[:12]}")
    console.print(_meters(catalog))
    console.print(_overview(catalog))


def _meters(catalog: Catalog) -> Table:
    table = Table("Meter", "Counts", "Aggregation", "Late usage of a closed period")
    for meter in catalog.content.meters:
        table.add_row(meter.id, meter.event_type, meter.aggregation, meter.late)
    return table


def _overview(catalog: Catalog) -> Table:
    table = Table("Customer", "Plan", "Rate card", "Currency", "Since")
    cards = {plan.id: plan.rate_card for plan in catalog.content.plans}
    for customer in catalog.content.customers:
        since = customer.start.strftime("%Y-%m-%d")
        plans = [phase.plan for phase in customer.phases]
        used = " → ".join(cards[plan] for plan in plans)
        table.add_row(customer.id, " → ".join(plans), used, customer.currency, since)
    return table


def _counts(catalog: Catalog) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in _numbers(catalog).items())


def _numbers(catalog: Catalog) -> dict[str, int]:
    content = catalog.content
    return {
        "meters": len(content.meters),
        "rate_cards": len(content.rate_cards),
        "plans": len(content.plans),
        "customers": len(content.customers),
    }
