"""`metering notify`: tell people, try it, see what was given up."""

import json
import secrets
import signal
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metering.console import Table, console, literal
from metering.errors import UserError
from metering.notify.config import NotifyConfig, load_config
from metering.notify.happening import Happening
from metering.notify.outbox import Outbox
from metering.settings import settings

if TYPE_CHECKING:
    from metering.notify.process import Notifier

app = typer.Typer(no_args_is_help=True, help="Alerts for people: webhooks and e-mail.")
_SHOWN = 50


@app.command("run")
def run_command(
    every: Annotated[float, typer.Option(min=1, help="Seconds from one look to the next.")] = 15.0,
    once: Annotated[bool, typer.Option("--once", help="One round, then stop.")] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="The first time, send what happened before, too.")
    ] = False,
) -> None:
    """Send what happens to quotas, bills and payments until it is stopped."""
    _, notifier, outbox = _opened()
    try:
        if once:
            done = notifier.round(from_start=from_start)
            if done.problem:
                raise UserError(
                    f"the sources cannot be read: {done.problem}", hint="`metering status` says more"
                )
            console.print(f"{done.new:,} new, {done.sent:,} sent, {done.failed:,} to try again or dead")
            return
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        console.print("telling people; Ctrl-C stops")
        notifier.run(every, stop, from_start=from_start)
    finally:
        outbox.close()


@app.command("test")
def test_command() -> None:
    """Send a test to every target now; exit code 1 when one does not take it."""
    config, notifier, outbox = _opened()
    one = Happening("test", (secrets.token_hex(16),), datetime.now(UTC), {"text": "This is a test."})
    try:
        outbox.keep(((one, target.id) for target in config.targets()), _now())
        notifier.deliver(outbox.of_event(one.id))
        after = outbox.of_event(one.id)
    finally:
        outbox.close()
    for delivery in after:
        if delivery.state == "sent":
            console.print(f"[green]✓[/] {delivery.target}")
        else:
            console.print(literal(f"✗ {delivery.target}: {delivery.reason}"), style="red", soft_wrap=True)
    raise typer.Exit(0 if after and all(delivery.state == "sent" for delivery in after) else 1)


@app.command("dead")
def dead_command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List deliveries that were given up."""
    outbox = _outbox()
    try:
        found = outbox.dead()
    finally:
        outbox.close()
    if as_json:
        console.print_json(json.dumps([one._asdict() for one in found]))
        return
    if not found:
        console.print("no delivery was given up")
        return
    table = Table("Event", "What", "Target", "Tries", "Why")
    for one in found[:_SHOWN]:
        table.add_row(one.event, one.kind, one.target, str(one.tries), literal(one.reason))
    console.print(table)
    if len(found) > _SHOWN:
        console.print(f"and {len(found) - _SHOWN:,} more: --json lists all")
    console.print("mend the cause, then `metering notify retry EVENT` or `metering notify retry --all`")


@app.command("retry")
def retry_command(
    event: Annotated[str, typer.Argument(help="Event id, as `metering notify dead` lists it.")] = "",
    every_one: Annotated[bool, typer.Option("--all", help="All that were given up.")] = False,
) -> None:
    """Let dead deliveries go again, with the next round."""
    if bool(event) == every_one:
        raise UserError("which ones?", hint="name an event, or write --all")
    outbox = _outbox()
    try:
        count = outbox.retry(event, _now())
    finally:
        outbox.close()
    if event and not count:
        raise UserError(f"`{event}` has no dead delivery", hint="`metering notify dead` lists them")
    console.print(f"[green]✓[/] {count:,} will be tried again")


def _outbox() -> Outbox:
    return Outbox(settings().home / "notify" / "outbox.sqlite3")


def _opened() -> tuple[NotifyConfig, "Notifier", Outbox]:
    try:
        from metering.notify.channels import Channels
        from metering.notify.process import Notifier, books_look  # an extra
    except ModuleNotFoundError as error:
        raise UserError(f"notifications need `{error.name}`", hint="pip install 'metering[web]'") from error

    config, keys = load_config(settings().notify_file)
    outbox = _outbox()
    return config, Notifier(config, Channels(config, keys), outbox, books_look(settings()), _now), outbox


def _now() -> int:
    return int(time.time())
