"""`billing-sync`: run, plan, status, reconcile, doctor, and what people do with the ledger."""

import dataclasses
import json
import time
from decimal import Decimal
from itertools import chain
from typing import Annotated

import typer

from billing_sync.books import ClickHouseBooks
from billing_sync.cli_examples import EXAMPLES
from billing_sync.cli_output import AsJson, Live, show, show_result
from billing_sync.cli_people import Actor, carry, customers, dead, periods, who
from billing_sync.cli_webhooks import webhooks
from billing_sync.config import load_config
from billing_sync.doctor import examine
from billing_sync.metrics import Metrics
from billing_sync.planner import Plan, invoice_id
from billing_sync.planning import Planning
from billing_sync.reconcile import Scope
from billing_sync.run import Checks, open_ledger, provider_for, reconcile, run_once
from billing_sync.wanted_hours import next_customers, wanted_hours
from metering.cli_examples import add_examples
from metering.console import console, run_command
from metering.errors import UserError
from metering.settings import settings
from metering.sinks.client import connect

app = typer.Typer(no_args_is_help=True, help="Closed periods to invoices, each cent once.")
app.add_typer(periods, name="periods")
app.add_typer(carry, name="carry")
app.add_typer(dead, name="dead")
app.add_typer(customers, name="customers")
app.add_typer(webhooks, name="webhooks")

PATIENCE = 30.0
Period = Annotated[str, typer.Option(help="Only this billing period, e.g. 2026-11.")]


@app.callback()
def _group() -> None:
    """Closed periods to invoices, each cent once."""


@app.command()
def run(
    once: Annotated[bool, typer.Option("--once", help="One round, then stop.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two rounds.", min=1)] = 60.0,
    check: Annotated[int, typer.Option(help="Requests to reconcile with after each round.", min=0)] = 100,
    period: Period = "",
    live: Live = False,
    as_json: AsJson = False,
) -> None:
    """Invoice every closed period that is complete; `--once` exits with 1 when something waits."""
    if once:
        result = run_once(settings(), period=period or None, live=live)
        if as_json:
            console.print_json(json.dumps(dataclasses.asdict(result), default=str))
        else:
            show_result(result)
        raise typer.Exit(0 if result.is_settled else 1)
    checks, metrics = Checks(check), Metrics()
    metrics.serve(settings())
    while True:
        _one_of_many(period, checks, metrics, live=live, as_json=as_json)
        time.sleep(every)


def _one_of_many(period: str, checks: Checks, metrics: Metrics, *, live: bool, as_json: bool) -> None:
    """A round of the continuous run: what is away today is asked again in the next one."""
    at, began = time.strftime("%H:%M:%S", time.gmtime()), time.monotonic()
    try:
        result = run_once(settings(), period=period or None, live=live, checks=checks)
        metrics.done(checks.standing, len(checks.drifted), seconds=time.monotonic() - began, at=time.time())
    except UserError as error:
        metrics.failed()
        console.print(f"{at} {error}; {error.hint}", markup=False)
        return
    if as_json:
        console.print_json(json.dumps(dataclasses.asdict(result), default=str))
        return
    waits = f", {len(result.waiting)} wait" if result.waiting else ""
    drift = f", {len(checks.drifted)} drifted: `billing-sync reconcile`" if checks.drifted else ""
    console.print(f"{at} {len(result.invoices)} invoices, {result.sent_now} sent now{waits}{drift}")


@app.command()
def plan(period: Period = "", live: Live = False, as_json: AsJson = False) -> None:
    """Show what a round would send, why and with which amounts; nothing is sent or written."""
    own = settings()
    config = load_config(own)
    rows = []
    with (
        connect(own.clickhouse(), own.database) as client,
        provider_for(own, config, live=live) as provider,
        open_ledger(own, patience=PATIENCE) as ledger,
    ):
        books = ClickHouseBooks(client, own.partitions)
        work = Planning(books, ledger, provider, config, lambda: int(time.time()))
        for close in books.closes(period or None):
            place = (close.customer, close.period, close.currency)
            known = ledger.entry(invoice_id(*place, close.revision))
            found = known.plan if known else work.planned(books.read([close])[0], is_dry=True)
            if found is None:
                known = ledger.entry(invoice_id(*place))  # a restatement that changed no amount
                found = known.plan if known else None
            why = known.state if known else "new" if isinstance(found, Plan) else found or "no usage"
            rows.append(_planned(close.customer, close.period, why, found))
        if config.meter_events:
            now = int(time.time())
            seen = next_customers(books, ledger, config, now)
            for hour, is_news in chain.from_iterable(wanted_hours(books, ledger, config, now, seen)):
                if is_news:
                    at = time.strftime("%Y-%m-%d %H:00", time.gmtime(hour.hour))
                    rows.append([hour.customer, at, "new hour", hour.price, f"{hour.quantity:f}", ""])
    show(["customer", "period", "state", "line", "rated", "minor"], rows, as_json=as_json)


def _planned(customer: str, period: str, why: str, found: Plan | str | None) -> list[str]:
    if not isinstance(found, Plan):
        return [customer, period, why, "", "", ""]
    rated = Decimal(found.micro) / 1_000_000
    return [
        customer,
        period,
        why,
        f"{len(found.lines)} lines",
        f"{rated:.6f}",
        f"{found.minor} {found.currency}",
    ]


@app.command()
def status(period: Period = "", as_json: AsJson = False) -> None:
    """Show the ledger: invoices with their state, and what waits with its reason."""
    with open_ledger(settings(), patience=PATIENCE) as ledger:
        rows = [
            [e.plan.customer, e.plan.period, e.state, e.number or e.external, e.reason]
            for e in ledger.entries(period or None)
        ]
        rows += [[p.customer, p.period, "waiting", "", p.reason] for p in ledger.parked()]
    show(["customer", "period", "state", "invoice", "reason"], rows, as_json=as_json)


@app.command(name="reconcile")
def reconcile_command(
    repair: Annotated[bool, typer.Option("--repair", help="Plan what mends the drift.")] = False,
    first: Annotated[str, typer.Option("--from", help="First billing period.")] = "",
    last: Annotated[str, typer.Option("--to", help="Last billing period.")] = "",
    customer: Annotated[str, typer.Option(help="Only this customer.")] = "",
    reason: Annotated[str, typer.Option(help="Why it is repaired; it is kept.")] = "drift was found",
    actor: Actor = "",
    live: Live = False,
    as_json: AsJson = False,
) -> None:
    """Compare rated, planned, sent and held; exit code 1 when something drifted."""
    repaired_by = who(actor, reason) if repair else None
    found, planned = reconcile(settings(), Scope(customer, first, last), repaired_by=repaired_by, live=live)
    drifted = [f for f in found if f.is_drift]
    rows = [
        [f.customer, f.period, f.kind, f.subject, f.verdict, f"{f.wanted:f}", f"{f.held:f}", f.note]
        for f in (found if as_json else drifted)
    ]
    show(["customer", "period", "kind", "subject", "class", "wanted", "held", "note"], rows, as_json=as_json)
    if not as_json:
        agree = len(found) - len(drifted)
        console.print(f"{agree} agree or are too fresh, {len(drifted)} drifted, {planned} repairs planned")
    raise typer.Exit(1 if drifted else 0)


@app.command()
def doctor(live: Live = False, as_json: AsJson = False) -> None:
    """Check the key, its permissions, the meters, the API version and the clock."""
    own = settings()
    config = load_config(own)
    with provider_for(own, config, live=live) as provider:
        checks = examine(provider, config, time.time())
    rows = [[c.name, "ok" if c.is_ok else "wrong", c.text] for c in checks]
    show(["check", "state", "what"], rows, as_json=as_json)
    raise typer.Exit(0 if all(c.is_ok for c in checks) else 1)


add_examples(app, EXAMPLES)


def main() -> None:
    """The entry point of the command line."""
    run_command(app)
