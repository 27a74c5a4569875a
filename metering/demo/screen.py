"""What the demo prints: the bill, the invoices, the account, the times."""

from decimal import Decimal

from rich import box

from billing_sync.run import RunResult
from metering.console import Table, console
from metering.demo.account import Line
from metering.demo.quota_scene import Step
from metering.sinks.queries import Bill, BillLine


def show_quota(customer: str, steps: list[Step]) -> None:
    """A customer at its limit, step by step."""
    console.print(f"A daily limit of output tokens · {customer}")
    for step in steps:
        wanted = f"asks for {step.tokens:,}" if step.tokens else ""
        console.print(f"  {wanted:<16} {step.answer}", highlight=False)
    console.print()


def show_bill(bill: Bill) -> None:
    """A customer's bill, tier by tier."""
    title = f"{bill.name} · {bill.period} · {bill.currency}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Price", "Card", "Tier"):
        table.add_column(name, no_wrap=True)
    for name in ("Units", "Unit price", "Fee", "Amount"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in bill.lines:
        table.add_row(*_bill_row(line))
    for effect in bill.effects:
        table.add_row(
            effect.price, effect.card_version[:6], effect.name, "", "", "", "", _nine(effect.amount)
        )
    table.add_section()
    table.add_row("rounding", "", "", "", "", "", _nine(bill.rounding))
    table.add_row("[bold]total", "", "", "", "", "", f"[bold]{bill.total:,.6f}")
    console.print(table)


def _bill_row(line: BillLine) -> tuple[str, ...]:
    tier = line.label or ("included" if line.tier == 0 else str(line.tier))
    if line.label and line.tier > 1 and line.line == "usage":
        tier = f"{line.label}, {line.tier}"
    return (
        line.price,
        line.card_version[:6],
        tier,
        _units(line),
        f"{line.unit_price.normalize():f}" if line.unit_price else "",
        f"{line.flat_fees:,.2f}" if line.flat_fees else "",
        _nine(line.amount),
    )


def _units(line: BillLine) -> str:
    """What is multiplied by the unit price; packages and events name the units they are for."""
    if line.billed == line.units:
        return f"{line.units.normalize():,f}" if line.units else ""
    billed = f"{line.billed.normalize():,f}"
    return billed if line.billed < 0 else f"{billed} for {line.units.normalize():,f}"


def _nine(amount: Decimal) -> str:
    """Nine decimals: enough for what a person compares; the books hold all of them."""
    return f"{amount:,.9f}"


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
