"""`billing-sync`: run, plan, status."""

import json
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated

import typer
from rich.table import Table

from billing_sync.books import ClickHouseBooks
from billing_sync.ledger import Ledger, ledger_url
from billing_sync.planner import invoice_id, plan_invoice
from billing_sync.run import InvoiceResult, RunResult, run_once
from metering.console import console, run_command
from metering.errors import UserError
from metering.settings import settings
from metering.sinks.client import connect

app = typer.Typer(no_args_is_help=True, help="Closed periods to invoices, each cent once.")

Period = Annotated[str, typer.Option(help="Only this billing period, e.g. 2026-11.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; amounts are strings.")]


@app.callback()
def _group() -> None:
    """Closed periods to invoices, each cent once."""


@app.command()
def run(
    once: Annotated[bool, typer.Option("--once", help="One round, then stop.")] = False,
    period: Period = "",
    live: Annotated[bool, typer.Option("--live", help="Allow a live key.")] = False,
    as_json: AsJson = False,
) -> None:
    """Invoice every closed period that is complete; exit code 1 when something waits."""
    if not once:
        raise UserError("only single rounds are supported", hint="run `billing-sync run --once`")
    result = run_once(settings(), period=period or None, live=live)
    if as_json:
        console.print_json(json.dumps(asdict(result), default=str))
    else:
        _show(result)
    raise typer.Exit(0 if result.is_settled else 1)


@app.command()
def plan(period: Period = "") -> None:
    """Show what a round would invoice; nothing is sent or written."""
    ledger = Ledger(ledger_url(settings()))
    table = Table("Customer", "Period", "State", "Rated", "Would invoice (minor)")
    try:
        with connect(settings().clickhouse(), settings().database) as client:
            for one in ClickHouseBooks(client).closed_periods(period or None):
                known = ledger.entry(invoice_id(one.customer, one.period, one.currency))
                state, minor = known.state if known else one.problem or "new", ""
                if known is None and not one.problem:
                    planned = plan_invoice(one, ledger.carry(one.customer, one.currency))
                    minor = f"{planned.minor} {one.currency}"
                rated = Decimal(one.micro) / 1_000_000
                table.add_row(one.customer, one.period, state, f"{rated:.6f}", minor)
    finally:
        ledger.close()
    console.print(table)


@app.command()
def status(period: Period = "") -> None:
    """Show the ledger: invoices with their state, and what waits with its reason."""
    ledger = Ledger(ledger_url(settings()))
    try:
        table = Table("Customer", "Period", "State", "Invoice", "Reason")
        for entry in ledger.entries(period or None):
            number = entry.number or entry.external
            table.add_row(entry.plan.customer, entry.plan.period, entry.state, number, entry.reason)
        for customer, waiting, reason, _ in ledger.parked():
            table.add_row(customer, waiting, "[yellow]waiting[/]", "", reason)
    finally:
        ledger.close()
    console.print(table)


def _show(result: RunResult) -> None:
    table = Table("Customer", "Period", "State", "Invoice", "Rated", "Invoiced", "Carried")
    for i in result.invoices:
        table.add_row(
            i.customer,
            i.period,
            i.state + (f": {i.reason}" if i.reason else ""),
            i.number,
            f"{i.rated:.6f}",
            f"{i.invoiced:f} {i.currency}",
            f"{i.carried_after:.6f}",
        )
    for customer, period, reason in result.waiting:
        table.add_row(customer, period, f"[yellow]waiting: {reason}[/]", "", "", "", "")
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


def main() -> None:
    """The entry point of the command line."""
    run_command(app)
