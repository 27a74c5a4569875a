"""`metering`: every command, mounted from the room that owns it."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from metering.backfill.commands import app as backfill_app
from metering.books_commands import audit, explain, periods, rate, whatif
from metering.catalog.cli import app as catalog_app
from metering.cli_examples import EXAMPLES, add_examples
from metering.commands import bill, dev, send, stop_children_when_told
from metering.console import Table, console, run_command, working
from metering.correct_commands import app as correct_app
from metering.event_commands import app as events_app
from metering.invariants.commands import watch
from metering.late_commands import app as late_app
from metering.local.cli import app as local_app
from metering.notify.commands import app as notify_app
from metering.quota_commands import grant_app, limit_app, quota_app
from metering.recovery.commands import books_app, rebuild_app, state_app
from metering.rejected_commands import app as rejected_app
from metering.settings import settings
from metering.status import status
from metering.web.commands import serve as serve_web

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(no_args_is_help=True, help="Exact usage metering and rating on Kafka.")
topics_app = typer.Typer(no_args_is_help=True, help="The Kafka topics of a deployment.")
app.add_typer(local_app, name="local")
app.add_typer(catalog_app, name="catalog")
app.add_typer(topics_app, name="topics")
app.add_typer(state_app, name="state")
app.add_typer(rebuild_app, name="rebuild")
app.add_typer(books_app, name="books")
app.add_typer(rejected_app, name="rejected")
app.add_typer(events_app, name="events")
app.add_typer(correct_app, name="correct")
app.add_typer(backfill_app, name="backfill")
app.add_typer(late_app, name="late")
app.add_typer(notify_app, name="notify")
app.add_typer(quota_app, name="quota")
app.add_typer(grant_app, name="grant")
app.add_typer(limit_app, name="limit")
for command in (dev, send, bill, periods, explain, audit, whatif, rate, status, watch):
    app.command()(command)
app.command("web")(serve_web)


@topics_app.command("apply")
def topics_apply(
    dry_run: Annotated[bool, typer.Option(help="Only show what differs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create missing topics and correct settings that differ; safe to run again."""
    from metering.topics import apply

    with working("asking the broker"):
        states = asyncio.run(apply(settings(), dry_run=dry_run))
    if as_json:
        console.print_json(json.dumps([state._asdict() for state in states]))
        return
    table = Table("Topic", "State", "Setting: found → wanted")
    for state in states:
        changes = [f"{k}: {a or '-'} → {b}" for k, (a, b) in state.differences.items()]
        table.add_row(state.name, state.action, "\n".join(changes))
    console.print(table)


@topics_app.command("grow")
def topics_grow(
    partitions: Annotated[int, typer.Option(min=2, help="A multiple of the partitions that there are.")],
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds that producers get to learn of the new partitions.")
    ] = 300.0,
) -> None:
    """Move to more partitions and a new epoch; no worker may run. Safe to run again."""
    from metering.grow import grow  # Faust takes a second to import

    def tell(line: str) -> None:
        console.print(f"[green]✓[/] {line}", soft_wrap=True)

    with working("moving to more partitions"):
        new = asyncio.run(grow(settings(), partitions, wait, tell)).new
    console.print(
        f"set METERING_EPOCH={new.epoch} METERING_PARTITIONS={new.partitions}, then start the workers"
    )


@app.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the ClickHouse schema up to date."""
    from metering.sinks.migrate import migrate as apply_migrations

    with working("applying migrations"):
        applied = apply_migrations(settings().clickhouse(), settings().database)
    if as_json:
        console.print_json(json.dumps([f"{m.version:03}_{m.name}" for m in applied]))
        return
    for migration in applied:
        console.print(f"[green]✓[/] {migration.version:03}_{migration.name}")
    if not applied:
        console.print(f"database `{settings().database}` is up to date")


@app.command()
def worker() -> None:
    """Run a metering worker: usage events to hourly totals to charges."""
    from metering.app import run, worker_app
    from metering.state.opening import held

    with held(settings()):  # before it joins the group: a second one would put the first out
        run(worker_app(settings()), settings())


@app.command()
def sink() -> None:
    """Run the sink: archive and results to ClickHouse."""
    from metering.app import run, sink_app

    run(sink_app(settings()), settings())


@app.command()
def quotad() -> None:
    """Serve quotas over HTTP, for applications that do not read Kafka; settings: METERING_QUOTAD_*."""
    from metering.app import configure_logs
    from metering.quotad.run import serve
    from metering.quotad.settings import quotad_settings

    own = quotad_settings()
    configure_logs(settings().log_level)
    asyncio.run(serve(settings(), own))


@app.command()
def demo(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=4, help="Worker processes.")] = 1,
    serve: Annotated[bool, typer.Option("--serve", help="Then keep it up, with the page.")] = False,
) -> None:
    """From real usage events to a bill and an account that adds up."""
    from metering.demo.run import run_demo

    stop_children_when_told()
    raise typer.Exit(run_demo(settings(), workers=workers, json_file=json_file, serve=serve))


add_examples(app, EXAMPLES)


def main() -> None:
    """The entry point of the command line."""
    run_command(app)
