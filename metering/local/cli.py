"""`metering local up | down | status`."""

import json
from typing import Annotated

import typer

from metering.console import Table, console
from metering.local import parts
from metering.settings import settings

app = typer.Typer(no_args_is_help=True, help="Kafka and ClickHouse on this machine, no Docker.")


@app.command()
def up() -> None:
    """Start the parts; the first time they are downloaded."""
    parts.up(settings(), lambda line: console.print(f"[green]✓[/] {line}"))
    status()


@app.command()
def down() -> None:
    """Stop the parts; their data stays."""
    stopped = parts.down(settings())
    console.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show where each part runs and where its data is."""
    if as_json:
        console.print_json(json.dumps([part._asdict() for part in parts.status(settings())]))
        return
    table = Table("Part", "State", "Address", "Kind", "Data")
    for part in parts.status(settings()):
        state = "[green]running[/]" if part.running else "[yellow]stopped[/]"
        table.add_row(part.name, state, part.address, part.kind, part.data)
    console.print(table)
