"""What the commands have in common: options, tables, JSON."""

import json
from decimal import Decimal
from typing import Annotated

import typer

from billing_sync.run import InvoiceResult, RunResult
from metering.console import Table, console, literal

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; amounts are strings.")]
Live = Annotated[bool, typer.Option("--live", help="Allow a live key.")]


def show(columns: list[str], rows: list[list[str]], *, as_json: bool) -> None:
    """Rows as a table for people or as a list of objects for programs."""
    if as_json:
        console.print_json(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]))
        return
    table = Table(*(column.capitalize() for column in columns))
    for row in rows:
        table.add_row(*(literal(text) for text in row))
    console.print(table if rows else "Nothing.")


def tell(text: str, *, as_json: bool, **about: str) -> None:
    """What was done: a sentence for people, an object for programs."""
    if as_json:
        console.print_json(json.dumps({**about, "done": text}))
    else:
        console.print(text, markup=False)


def show_result(result: RunResult) -> None:
    """A round: its invoices, what waits, and whether the money adds up."""
    table = Table("Customer", "Period", "State", "Invoice", "Rated", "Invoiced", "Carried")
    for i in result.invoices:
        table.add_row(
            literal(i.customer),
            i.period,
            literal(i.state + (f": {i.reason}" if i.reason else "")),
            i.number,
            f"{i.rated:.6f}",
            f"{i.invoiced:f} {i.currency}",
            f"{i.carried_after:.6f}",
        )
    for customer, period, reason in result.waiting:
        table.add_row(literal(customer), period, literal(f"waiting: {reason}"), "", "", "", "")
    console.print(f"Provider: {result.provider}")
    console.print(table)
    for currency in sorted({i.currency for i in result.invoices}):
        _show_account([i for i in result.invoices if i.currency == currency], currency)
    if result.sent_now == 0:
        console.print("Nothing was to do; nothing was sent.")


def _show_account(invoices: list[InvoiceResult], currency: str) -> None:
    rated = sum((i.rated for i in invoices), Decimal(0))
    before = sum((i.carried_before for i in invoices), Decimal(0))
    invoiced = sum((i.invoiced for i in invoices), Decimal(0))
    after = sum((i.carried_after for i in invoices), Decimal(0))
    mark = "[green]✓[/]" if rated + before == invoiced + after else "[red]✗[/]"
    console.print(
        f"{mark} {currency}: rated {rated:.6f} + carried before {before:.6f}"
        f" = invoiced {invoiced:f} + carried after {after:.6f}"
    )
