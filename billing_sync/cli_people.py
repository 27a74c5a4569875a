"""`billing-sync periods | carry | dead | customers`: what people look at and do, with actor and reason."""

import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Annotated

import typer

from billing_sync.cli_output import AsJson, Live, show
from billing_sync.config import load_config
from billing_sync.desk import Desk, Who
from billing_sync.ledger import Ledger
from billing_sync.run import open_ledger, provider_for
from metering.console import console
from metering.settings import settings

PATIENCE = 30.0
_DAY = 86_400

periods = typer.Typer(no_args_is_help=True, help="Billing periods: list, hold back, bill again.")
carry = typer.Typer(no_args_is_help=True, help="What is too small to invoice: show, settle.")
dead = typer.Typer(no_args_is_help=True, help="What waits for a person: list, retry, drop.")
customers = typer.Typer(no_args_is_help=True, help="Customers and their accounts: list, map.")

Customer = Annotated[str, typer.Argument(help="Our customer id.")]
PeriodName = Annotated[str, typer.Argument(help="A billing period, e.g. 2026-11.")]
Item = Annotated[str, typer.Argument(help="An id from `dead list`.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept.", prompt=True)]
Actor = Annotated[str, typer.Option(help="Who acts; the login name unless told.")]


@contextmanager
def _ledger() -> Iterator[Ledger]:
    with open_ledger(settings(), patience=PATIENCE) as ledger:
        yield ledger


def _desk(ledger: Ledger, actor: str, reason: str) -> Desk:
    return Desk(ledger, Who(actor or getpass.getuser(), reason))


@periods.command("list")
def list_periods(as_json: AsJson = False) -> None:
    """Every period of the ledger: its invoice, or why there is none."""
    with _ledger() as ledger:
        rows = [[e.plan.customer, e.plan.period, e.state, e.reason] for e in ledger.entries()]
        rows += [[p.customer, p.period, "waiting", p.reason] for p in ledger.parked()]
        rows += [[customer, period, "held back", ""] for customer, period in ledger.holds()]
    show(["customer", "period", "state", "reason"], rows, as_json=as_json)


@periods.command()
def freeze(customer: Customer, period: PeriodName, reason: Reason, actor: Actor = "") -> None:
    """Hold a period back: it is not invoiced until it is reopened."""
    with _ledger() as ledger:
        _desk(ledger, actor, reason).freeze(customer, period)
    console.print(f"{customer} {period} is held back", markup=False)


@periods.command()
def reopen(
    customer: Customer, period: PeriodName, reason: Reason, actor: Actor = "", live: Live = False
) -> None:
    """Release a period that is held back, or bill one again whose invoice was voided."""
    own = settings()
    with _ledger() as ledger, provider_for(own, load_config(own), live=live) as provider:
        _desk(ledger, actor, reason).reopen(customer, period, provider)
    console.print(f"{customer} {period} is open again; `run` sends it", markup=False)


@carry.command("show")
def show_carry(as_json: AsJson = False) -> None:
    """What earlier invoices left, by customer and currency."""
    with _ledger() as ledger:
        rows = [
            [customer, currency, f"{Decimal(micro) / 1_000_000:.6f}", invoice]
            for customer, currency, micro, invoice in ledger.carries()
            if micro
        ]
    show(["customer", "currency", "carried", "left by"], rows, as_json=as_json)


@carry.command()
def settle(
    customer: Customer,
    reason: Reason,
    currency: Annotated[str, typer.Option(help="The carry's currency.")] = "USD",
    write_off: Annotated[bool, typer.Option("--write-off", help="Give it up instead.")] = False,
    actor: Actor = "",
) -> None:
    """Invoice what is carried at the end of an account, or write it off."""
    with _ledger() as ledger:
        done = _desk(ledger, actor, reason).settle(customer, currency, write_off=write_off)
    console.print(done, markup=False)


@dead.command("list")
def list_dead(as_json: AsJson = False) -> None:
    """Blocked invoices, refused hours and parked periods, with their age; exit code 1 on an old one."""
    alarm, now = load_config(settings()).park_alarm_days, time.time()
    with _ledger() as ledger:
        items = _desk(ledger, "", "").dead()
    days = [(now - item.since) / _DAY if item.since else 0.0 for item in items]
    rows = [
        [i.id, i.customer, i.period, i.reason, f"{age:.1f}", "ALARM" if age >= alarm else ""]
        for i, age in zip(items, days, strict=True)
    ]
    show(["id", "customer", "period", "reason", "days", "alarm"], rows, as_json=as_json)
    raise typer.Exit(1 if any(age >= alarm for age in days) else 0)


@dead.command()
def retry(item: Item, reason: Reason, actor: Actor = "") -> None:
    """Send a blocked invoice or a refused hour again."""
    with _ledger() as ledger:
        _desk(ledger, actor, reason).retry(item)
    console.print(f"{item} goes on with the next round", markup=False)


@dead.command()
def drop(item: Item, reason: Reason, actor: Actor = "") -> None:
    """Give up a blocked invoice or a refused hour: its money is written off."""
    with _ledger() as ledger:
        _desk(ledger, actor, reason).drop(item)
    console.print(f"{item} is dropped", markup=False)


@customers.command("list")
def list_customers(as_json: AsJson = False) -> None:
    """Customers with their account, how it was found, and whether sending is stopped."""
    with _ledger() as ledger:
        rows = [[p.customer, p.external, p.how, p.stopped] for p in ledger.people()]
        known = {row[0] for row in rows}
        lost = sorted({p.customer for p in ledger.parked() if p.reason.startswith("customer_unmapped")})
        rows += [[customer, "", "unmapped", ""] for customer in lost if customer not in known]
    show(["customer", "account", "found by", "stopped"], rows, as_json=as_json)


@customers.command("map")
def map_customer(
    customer: Customer,
    account: Annotated[str, typer.Argument(help="The provider's id, e.g. cus_...")],
    reason: Reason,
    actor: Actor = "",
) -> None:
    """Say which account is a customer's; what waited for it goes on."""
    with _ledger() as ledger:
        _desk(ledger, actor, reason).map(customer, account)
    console.print(f"{customer} is {account}", markup=False)
