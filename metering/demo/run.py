"""`metering demo`: start the parts, send the traffic, wait for the books, bill, account."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka.errors import KafkaError

from billing_sync.run import RunResult
from metering.audit import run_audit
from metering.catalog.load import load_folder
from metering.catalog.publish import publish
from metering.console import console
from metering.demo import screen
from metering.demo.account import Line, account
from metering.demo.billing import sync, with_billing
from metering.demo.pipeline import Pipeline
from metering.demo.quota_scene import CUSTOMER, quota_scene
from metering.demo.traffic import PERIOD, STRETCH, Traffic, traffic
from metering.errors import UserError
from metering.local import parts
from metering.producer import UsageProducer
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.sinks.queries import Bill, Books
from metering.state.calendar import HOUR_MS, period_end
from metering.state.log_bounds import LogBounds
from metering.topics import Names, apply
from metering.web.commands import serve_page

EXAMPLE = Path("examples/llm")
DATABASE = "metering_demo"
BOOKS_SECONDS = 240.0
_POLL_SECONDS = 0.4


def run_demo(
    settings: Settings,
    *,
    workers: int = 1,
    json_file: Path | None = None,
    keep: bool = False,
    serve: bool = False,
) -> int:
    """Run the demo; the exit code is 0 when every line of the account adds up.

    `serve` keeps the pipeline and the page up until Ctrl-C.
    """
    times: dict[str, float] = {}
    with _stage(times, "parts"):
        parts.up(settings, lambda line: console.print(f"[green]✓[/] {line}"))
    own = _own_settings(settings)
    sent, catalog_folder = traffic(_example() / "data"), _example() / "catalog"
    catalog = load_folder(catalog_folder)
    with _stage(times, "set-up"):
        _clean(own)
        asyncio.run(apply(own))
        migrate(own.clickhouse(), own.database)
        asyncio.run(publish(own.brokers(), Names(own).catalog, catalog))
    pipeline = Pipeline(own, settings, workers, console.print)
    pipeline.start()
    try:
        _introduce(sent, pipeline)
        with _stage(times, "send"):
            asyncio.run(_send(own, sent))
        with _stage(times, "meter, rate and store"):
            asyncio.run(_wait_for_books(own, sent, pipeline))
        with _stage(times, "bill"):
            billed = sync(own, PERIOD, console.print)
        with connect(own.clickhouse(), own.database) as client:
            books = Books(client)
            lines = account(books, sent, catalog, billed, run_audit(client, PERIOD))
            bill = books.bill(next(iter(books.charged(PERIOD))), PERIOD)
            assert bill is not None, "the largest customer has charges"
        with _stage(times, "quota"):  # last: its usage is of today, and no part of the month
            steps, served = asyncio.run(quota_scene(own, pipeline.watch))
        lines.append(served)
        screen.show_quota(CUSTOMER, steps)
        _show(bill, billed, lines, times)
        if json_file is not None:
            json_file.write_text(json.dumps(_figures(bill, billed, lines, times), indent=2) + "\n")
        if serve:
            serve_page(own)
    finally:
        if not keep:
            pipeline.stop()
    return 0 if all(line.adds_up for line in lines) else 1


def _own_settings(settings: Settings) -> Settings:
    """The demo has topics, a database and a folder of its own; each run starts afresh."""
    own = settings.model_copy(
        update={
            "kafka_brokers": settings.brokers(),
            "kafka_simulated": settings.is_simulated(),
            "clickhouse_url": settings.clickhouse(),
            "home": settings.home / "demo",
            "database": DATABASE,
            "topic_prefix": f"demo-{time.time_ns() // 1_000_000}.",
            "checkpoint_seconds": 0.5,
            "sink_batch_seconds": 0.5,
            # The month lies in the past: the demo says itself when it is over.
            "tick_idle_seconds": 86_400.0,
        }
    )
    return with_billing(own, settings.home)


def _clean(own: Settings) -> None:
    shutil.rmtree(own.home, ignore_errors=True)
    own.home.mkdir(parents=True)
    with connect(own.clickhouse(), "default") as client:
        client.command(f"DROP DATABASE IF EXISTS `{own.database}`")


def _example() -> Path:
    if not (EXAMPLE / "data").is_dir():
        raise UserError(
            f"the example data is not in {EXAMPLE.resolve()}",
            hint="run the demo in the folder of the repository",
        )
    return EXAMPLE


def _introduce(sent: Traffic, pipeline: Pipeline) -> None:
    processes = ", ".join(f"{name} (process {pid})" for name, pid in pipeline.pids().items())
    console.print(f"[green]✓[/] {processes}; logs in {pipeline.folder}")
    console.print(
        f"\n{sent.requests:,} requests of the Azure LLM trace, one hour stretched to November 2023"
        f" (one second stands for {STRETCH}):\n{len(sent.records):,} records, of them"
        f" {sent.duplicates:,} sent twice, {sent.late:,} late, {sent.malformed:,} malformed\n"
    )


async def _send(own: Settings, sent: Traffic) -> None:
    async with UsageProducer(own.brokers(), Names(own).events) as producer:
        await producer.send((record.key, record.value) for record in sent.records)
        closing = period_end(PERIOD) + (own.close_grace_hours + 1) * HOUR_MS
        await producer.tick(own.partitions, idle_ms=time.time_ns() // 1_000_000 - closing)


async def _wait_for_books(own: Settings, sent: Traffic, pipeline: Pipeline) -> None:
    """Until everything on the topics is stored and the month is closed, or a deadline."""
    bounds = LogBounds(own.brokers())
    deadline = time.monotonic() + BOOKS_SECONDS
    state = "starting"
    try:
        with console.status("metering") as status:
            while time.monotonic() < deadline:
                pipeline.watch()
                try:
                    state = await _books_state(own, sent, bounds)
                except KafkaError as error:  # on its way back: the watch restarts it
                    state = f"Kafka: {error}"
                if not state:
                    return
                status.update(f"metering: {state}")
                await asyncio.sleep(_POLL_SECONDS)
    finally:
        await bounds.close()
    raise UserError(
        f"the books were not complete after {BOOKS_SECONDS:.0f} s: {state}",
        hint=f"read the logs in {pipeline.folder}",
    )


async def _books_state(own: Settings, sent: Traffic, bounds: LogBounds) -> str:
    """What is still missing; empty when nothing is."""
    try:
        with connect(own.clickhouse(), own.database) as client:
            books = Books(client)
            counters, closes = books.counters(), books.closes(PERIOD)
            folded, stored = books.folded(), books.stored()
            # Asked last: once all totals are stored, this is every customer that must close.
            customers = books.customers_metered(PERIOD)
    except Exception as error:  # the endpoint may be on its way back: the watch restarts it
        return f"ClickHouse: {str(error).splitlines()[0][:60]}"
    missing = f"{counters.read:,} of {len(sent.records):,} events, {len(closes)} bills closed"
    names = Names(own)
    for partition in range(own.partitions):
        if folded.get(partition, 0) < (await bounds.of(names.events, partition)).end:
            return missing
        for topic in (names.events, names.hourly, names.charges, names.rejected):
            if stored.get((topic, partition), 0) < (await bounds.of(topic, partition)).end:
                return missing
    complete = closes and len(closes) == customers and all(close.agrees for close in closes)
    return "" if complete and counters.read >= len(sent.records) else missing


def _show(bill: Bill, billed: RunResult, lines: list[Line], times: dict[str, float]) -> None:
    screen.show_bill(bill)
    console.print()
    screen.show_invoices(billed)
    console.print()
    screen.show_account(lines)
    screen.show_times(times)
    if all(line.adds_up for line in lines):
        console.print("[green]Everything adds up.[/] The parts keep running: `metering local down`")
        why = f"METERING_DATABASE={DATABASE} .venv/bin/metering explain {bill.customer} --period {PERIOD}"
        console.print("Ask the books why:")
        console.print(f"  {why}", highlight=False, soft_wrap=True)
        console.print("Look at it in a browser:")
        page = f"METERING_DATABASE={DATABASE} .venv/bin/metering web"
        console.print(f"  {page}    (or run the demo with --serve)", highlight=False, soft_wrap=True)
    else:
        console.print("[red]The account does not add up.[/]")


def _figures(bill: Bill, billed: RunResult, lines: list[Line], times: dict[str, float]) -> dict[str, object]:
    """The same figures for a machine; amounts are strings."""
    return {
        "period": PERIOD,
        "bill": {
            "customer": bill.customer,
            "currency": bill.currency,
            "lines": [{k: str(v) for k, v in line._asdict().items()} for line in bill.lines],
            "effects": [{k: str(v) for k, v in effect._asdict().items()} for effect in bill.effects],
            "rounding": str(bill.rounding),
            "total": str(bill.total),
        },
        "invoices": [
            {
                "customer": i.customer,
                "rated": str(i.rated),
                "invoiced": str(i.invoiced),
                "carried": str(i.carried_after),
            }
            for i in billed.invoices
        ],
        "account": [
            {"title": i.title, "left": i.left, "right": i.right, "adds_up": i.adds_up} for i in lines
        ],
        "seconds": {stage: f"{seconds:.3f}" for stage, seconds in times.items()},
    }


@contextmanager
def _stage(times: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    times[name] = time.monotonic() - began
