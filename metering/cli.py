"""`metering`: every command, mounted from the room that owns it."""

import asyncio
import json
import sys
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from metering.cli_examples import EXAMPLES, add_examples
from metering.console import Table, console, run_command, working
from metering.settings import settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

topics_app = typer.Typer(no_args_is_help=True, help="The Kafka topics of a deployment.")

# Where each command or group of commands lives, in the order of the help. A module is imported when its
# command is called: Faust, pydantic and SQLAlchemy together take more than a second.
ROOMS = {
    "local": "metering.local.cli:app",
    "catalog": "metering.catalog.cli:app",
    "topics": "metering.cli:topics_app",
    "state": "metering.recovery.commands:state_app",
    "rebuild": "metering.recovery.commands:rebuild_app",
    "books": "metering.recovery.commands:books_app",
    "rejected": "metering.rejected_commands:app",
    "events": "metering.event_commands:app",
    "correct": "metering.correct_commands:app",
    "backfill": "metering.backfill.commands:app",
    "late": "metering.late_commands:app",
    "notify": "metering.notify.commands:app",
    "quota": "metering.quota_commands:quota_app",
    "grant": "metering.quota_commands:grant_app",
    "limit": "metering.quota_commands:limit_app",
    **{name: f"metering.commands:{name}" for name in ("dev", "send", "bill")},
    **{name: f"metering.books_commands:{name}" for name in ("periods", "explain", "audit", "whatif", "rate")},
    "status": "metering.status:status",
    "watch": "metering.invariants.commands:watch",
    "web": "metering.web.commands:serve",
    **{name: f"metering.cli:{name}" for name in ("migrate", "worker", "sink", "quotad", "demo")},
}


def build(names: Iterable[str] = tuple(ROOMS)) -> typer.Typer:
    """The command line with these commands."""
    built = typer.Typer(no_args_is_help=True, help="Exact usage metering and rating on Kafka.")
    built.callback()(lambda: None)  # one command alone would have no name
    for name in names:
        module, _, attribute = ROOMS[name].partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            built.add_typer(found, name=name)
        else:
            built.command(name)(found)
    add_examples(built, EXAMPLES)
    return built


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


def worker() -> None:
    """Run a metering worker: usage events to hourly totals to charges."""
    from metering.app import run, worker_app
    from metering.state.opening import held

    with held(settings()):  # before it joins the group: a second one would put the first out
        run(worker_app(settings()), settings())


def sink() -> None:
    """Run the sink: archive and results to ClickHouse."""
    from metering.app import run, sink_app

    run(sink_app(settings()), settings())


def quotad() -> None:
    """Serve quotas over HTTP, for applications that do not read Kafka; settings: METERING_QUOTAD_*."""
    from metering.app import configure_logs
    from metering.quotad.run import serve
    from metering.quotad.settings import quotad_settings

    own = quotad_settings()
    configure_logs(settings().log_level)
    asyncio.run(serve(settings(), own))


def demo(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=4, help="Worker processes.")] = 1,
    serve: Annotated[bool, typer.Option("--serve", help="Then keep it up, with the page.")] = False,
) -> None:
    """From real usage events to a bill and an account that adds up."""
    from metering.commands import stop_children_when_told
    from metering.demo.run import run_demo

    stop_children_when_told()
    raise typer.Exit(run_demo(settings(), workers=workers, json_file=json_file, serve=serve))


def main() -> None:
    """The entry point of the command line: with the one command that is called, or all of them for help."""
    called = sys.argv[1:2]
    run_command(build(called if called and called[0] in ROOMS else ROOMS))


def __getattr__(name: str) -> typer.Typer:
    """The whole command line as `app`, built when somebody asks for it."""
    if name != "app":
        raise AttributeError(name)
    return _whole()


_whole = cache(build)
