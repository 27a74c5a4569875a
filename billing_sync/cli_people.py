"""`billing-sync periods | carry | dead | customers`: what people look at and do, with actor and reason."""

import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Annotated

import typer

from billing_sync.cli_output import AsJson, Live, show, tell
from billing_sync.config import load_config
from billing_sync.desk import Desk, Who
from billing_sync.ledger import Ledger
from billing_sync.run import open_ledger, provider_for
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
def open_for_people() -> Iterator[Ledger]:
    """The ledger for an action of a person: a round that is under way is waited for."""
    with open_ledger(settings(), patience=PATIENCE) as ledger:
        yield ledger


def _desk(ledger: Ledger, actor: str, reason: str) -> Desk:
    return Desk(ledger, who(actor, reason))


def who(actor: str, reason: str) -> Who:
    """Who acts: the login name unless another is told."""
    return Who(actor or getpass.getuser(), reason)


@periods.command("list")
def list_periods(as_json: AsJson = False) -> None:
    """Every period of the ledger: its invoice, or why there is none."""
    with open_for_people() as ledger:
        rows = [[e.plan.customer, e.plan.period, e.state, e.reason] for e in ledger.entries()]
        rows += [[p.customer, p.period, "waiting", p.reason] for p in ledger.parked()]
        rows += [[customer, period, "held back", ""] for customer, period in ledger.holds()]
    show(["customer", "period", "state", "reason"], rows, as_json=as_json)


@periods.command()
def freeze(
    customer: Customer, period: PeriodName, reason: Reason, actor: Actor = "", as_json: AsJson = False
) -> None:
    """Hold a period back: it is not invoiced until it is reopened."""
    with open_for_people() as ledger:
        _desk(ledger, actor, reason).freeze(customer, period)
    tell(f"{customer} {period} is held back", as_json=as_json, customer=customer, period=period)


@periods.command()
def reopen(
    customer: Customer,
    period: PeriodName,
    reason: Reason,
    actor: Actor = "",
    live: Live = False,
    as_json: AsJson = False,
) -> None:
    """Release a period that is held back, or bill one again whose invoice was voided."""
    own = settings()
    with open_for_people() as ledger, provider_for(own, load_config(own), live=live) as provider:
        _desk(ledger, actor, reason).reopen(customer, period, provider)
    text = f"{customer} {period} is open again; `run` sends it"
    tell(text, as_json=as_json, customer=customer, period=period)


@carry.command("show")
def show_carry(as_json: AsJson = False) -> None:
    """What earlier invoices left, by customer and currency."""
    with open_for_people() as ledger:
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
    as_json: AsJson = False,
) -> None:
    """Invoice what is carried at the end of an account, or write it off."""
    with open_for_people() as ledger:
        done = _desk(ledger, actor, reason).settle(customer, currency, write_off=write_off)
    tell(done, as_json=as_json, customer=customer, currency=currency)


@dead.command("list")
def list_dead(as_json: AsJson = False) -> None:
    """Blocked invoices, refused hours and parked periods, with their age; exit code 1 on an old one."""
    alarm, now = load_config(settings()).park_alarm_days, time.time()
    with open_for_people() as ledger:
        items = _desk(ledger, "", "").dead()
    days = [(now - item.since) / _DAY if item.since else 0.0 for item in items]
    rows = [
        [i.id, i.customer, i.period, i.reason, f"{age:.1f}", "ALARM" if age >= alarm else ""]
        for i, age in zip(items, days, strict=True)
    ]
    show(["id", "customer", "period", "reason", "days", "alarm"], rows, as_json=as_json)
    raise typer.Exit(1 if any(age >= alarm for age in days) else 0)


@dead.command()
def retry(item: Item, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Send a blocked invoice or a refused hour again."""
    with open_for_people() as ledger:
        _desk(ledger, actor, reason).retry(item)
    tell(f"{item} goes on with the next round", as_json=as_json, id=item)


@dead.command()
def drop(item: Item, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Give up a blocked invoice or a refused hour: its money is written off."""
    with open_for_people() as ledger:
        _desk(ledger, actor, reason).drop(item)
    tell(f"{item} is dropped", as_json=as_json, id=item)


@customers.command("list")
def list_customers(as_json: AsJson = False) -> None:
    """Customers with their account, how it was found, and whether sending is stopped."""
    with open_for_people() as ledger:
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
    as_json: AsJson = False,
) -> None:
    """Say which account is a customer's; what waited for it goes on."""
    with open_for_people() as ledger:
        _desk(ledger, actor, reason).map(customer, account)
    tell(f"{customer} is {account}", as_json=as_json, customer=customer, account=account)
