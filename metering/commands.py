"""Commands of a person at the terminal: send events, see what was charged, run everything."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from metering.books_commands import billing_period
from metering.catalog.reader import read_latest
from metering.catalog.resolved import Catalog
from metering.console import console, literal, working
from metering.demo.pipeline import Pipeline
from metering.demo.screen import show_bill
from metering.errors import UserError
from metering.events import Refusal, decode_values
from metering.local import parts
from metering.producer import UsageProducer
from metering.settings import settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.sinks.queries import Bill, Books
from metering.topics import Names, apply

_WATCH_SECONDS = 1.0


def stop_children_when_told() -> None:
    """Let SIGTERM end this process in order, so that the processes it started are stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def dev(
    workers: Annotated[int, typer.Option(min=1, max=4, help="Worker processes.")] = 1,
) -> None:
    """Run everything on this machine until Ctrl-C: parts, topics, schema, worker and sink."""
    stop_children_when_told()
    chosen = settings()
    parts.up(chosen, lambda line: console.print(f"[green]✓[/] {line}"))
    own = chosen.model_copy(
        update={
            "kafka_brokers": chosen.brokers(),
            "kafka_simulated": chosen.is_simulated(),
            "clickhouse_url": chosen.clickhouse(),
        }
    )
    asyncio.run(apply(own))
    migrate(own.clickhouse(), own.database)
    if asyncio.run(read_latest(own.brokers(), Names(own).catalog)) is None:
        console.print("[yellow]no catalog yet:[/] metering catalog publish examples/llm/catalog")
    pipeline = Pipeline(own, chosen, workers, console.print)
    pipeline.start()
    names = ", ".join(f"{name} ({pid})" for name, pid in pipeline.pids().items())
    console.print(f"[green]✓[/] {names}; logs in {pipeline.folder}; Ctrl-C stops them")
    try:
        while True:
            time.sleep(_WATCH_SECONDS)
            pipeline.watch()
    except KeyboardInterrupt:
        console.print("stopping; Kafka and ClickHouse stay: `metering local down`")
    finally:
        pipeline.stop()


def send(
    file: Annotated[Path, typer.Argument(help="JSON lines: one event or envelope a line; - reads stdin.")],
) -> None:
    """Send usage events; what would be refused is said, and sent all the same."""
    text = sys.stdin.buffer.read() if str(file) == "-" else _read(file)
    values = [line for line in text.splitlines() if line.strip()]
    if not values:
        raise UserError(f"{file} holds no events", hint="write one JSON object a line")
    records: list[tuple[str, bytes]] = []
    for item in decode_values(values):
        if isinstance(item.event, Refusal):
            place = f"{file}:{item.value + 1}"
            console.print(f"[yellow]{place}[/] will be refused: {item.event.reason}: {item.event.detail}")
        if item.place <= 0:
            records.append((item.event.customer, values[item.value]))

    async def work() -> int:
        names = Names(settings())
        catalog = await read_latest(settings().brokers(), names.catalog)
        async with UsageProducer(settings().brokers(), names.events) as producer:
            return await producer.send((_key(customer, catalog), value) for customer, value in records)

    with working(f"sending {len(records):,} records"):
        sent = asyncio.run(work())
    console.print(f"[green]✓[/] {sent} records sent")


def _key(customer: str, catalog: Catalog | None) -> bytes:
    """The key of an event: its customer, or the pool that the customer is rated with."""
    return (catalog.account_of(customer) if catalog is not None else customer).encode() or b"-"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}", hint="give the path of a file") from error


def bill(
    customer: Annotated[str, typer.Argument(help="Customer id.")],
    period: Annotated[str, typer.Option(help="Billing period, e.g. 2026-11; default: this month.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; amounts are strings.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="A page to print, in the customer's zone.")] = False,
    as_pdf: Annotated[bool, typer.Option("--pdf", help="The same as PDF.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Rows for a spreadsheet.")] = False,
    out: Annotated[Path | None, typer.Option(help="File of the document; default: standard output.")] = None,
) -> None:
    """Show what a customer's period has come to so far, or write it as a document."""
    period = billing_period(period)
    form = _one_form({"json": as_json, "html": as_html, "pdf": as_pdf, "csv": as_csv}, out)
    with connect(settings().clickhouse(), settings().database) as client:
        if form in ("html", "pdf", "csv"):
            size = _write_bill(client, customer, period, form, out)
            if out is not None:
                console.print(f"[green]✓[/] {literal(str(out))}, {size:,} bytes", soft_wrap=True)
            return
        found = Books(client).bill(customer, period)
    if found is None:
        raise UserError(
            f"nothing was charged to `{customer}` in {period}",
            hint="is the id right, and do worker and sink run? `metering status`",
        )
    if as_json:
        console.print_json(json.dumps(as_plain(found)))
        return
    show_bill(found)
    console.print("closed" if found.is_closed else "[dim]open: the period is still being metered[/]")


def _one_form(chosen: dict[str, bool], out: Path | None) -> str:
    forms = [name for name, wanted in chosen.items() if wanted]
    if len(forms) > 1:
        raise UserError("one form at a time", hint="choose one of --json, --html, --pdf and --csv")
    if out is not None and forms in ([], ["json"]):
        raise UserError("--out is for a document", hint="add --html, --pdf or --csv")
    return forms[0] if forms else ""


def _write_bill(client: Any, customer: str, period: str, form: str, out: Path | None) -> int:
    try:
        from metering.bills.output import write_bill  # an extra, and slow to import
    except ModuleNotFoundError as error:
        raise UserError(f"documents need `{error.name}`", hint="pip install 'metering[web]'") from error
    return write_bill(client, settings(), customer, period, form, out)


def as_plain(found: Bill) -> dict[str, object]:
    """A bill as JSON values; amounts are strings."""
    return {
        "customer": found.customer,
        "period": found.period,
        "currency": found.currency,
        "closed": found.is_closed,
        "lines": [{k: str(v) for k, v in line._asdict().items()} for line in found.lines],
        "effects": [{k: str(v) for k, v in effect._asdict().items()} for effect in found.effects],
        "rounding": str(found.rounding),
        "total": str(found.total),
    }
