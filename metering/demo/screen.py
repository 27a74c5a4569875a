"""What the demo prints: the bill, the invoices, the account, the times."""

from rich.table import Table

from billing_sync.run import RunResult
from metering.console import console
from metering.demo.account import Line
from metering.sinks.queries import Bill


def show_bill(bill: Bill) -> None:
    """A customer's bill, tier by tier."""
    table = Table(title=f"{bill.name} · {bill.period} · {bill.currency}", title_justify="left")
    table.add_column("Price")
    table.add_column("Card")
    table.add_column("Tier", justify="right")
    table.add_column("Units", justify="right")
    table.add_column("Unit price", justify="right")
    table.add_column("Flat fee", justify="right")
    table.add_column("Amount", justify="right")
    for line in bill.lines:
        table.add_row(
            line.price,
            line.card_version[:6],
            str(line.tier),
            f"{line.units.normalize():,f}",
            f"{line.unit_price.normalize():f}",
            f"{line.flat_fees:.2f}" if line.flat_fees else "",
            f"{line.amount:,.9f}",
        )
    table.add_section()
    table.add_row("rounding", "", "", "", "", "", f"{bill.rounding:,.9f}")
    table.add_row("[bold]total", "", "", "", "", "", f"[bold]{bill.total:,.6f}")
    console.print(table)


def show_invoices(result: RunResult) -> None:
    """The invoices on the provider's side."""
    table = Table(title=f"Invoices · {result.provider}", title_justify="left")
    for name in ("Customer", "Invoice", "Lines", "Rated", "Invoiced", "Carried"):
        table.add_column(name, justify="left" if name in ("Customer", "Invoice") else "right")
    for i in result.invoices:
        table.add_row(
            i.customer,
            i.number,
            str(i.lines),
            f"{i.rated:.6f}",
            f"{i.invoiced:.2f}",
            f"{i.carried_after:.6f}",
        )
    console.print(table)


def show_account(lines: list[Line]) -> None:
    """The account, line by line."""
    table = Table(title="The account", title_justify="left")
    table.add_column("")
    table.add_column("")
    table.add_column("Left", justify="right")
    table.add_column("Right", justify="right")
    for line in lines:
        mark = "[green]✓[/]" if line.adds_up else "[red]✗[/]"
        table.add_row(mark, line.title, line.left, line.right)
    console.print(table)


def show_times(times: dict[str, float]) -> None:
    """How long each stage took."""
    parts = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in times.items())
    console.print(f"Time: {parts}")
