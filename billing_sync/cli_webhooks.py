"""`billing-sync webhooks`: the endpoint, and the events that did not go through."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from aiohttp import web

from billing_sync.cli_output import AsJson, show, tell
from billing_sync.cli_people import Actor, Reason, open_for_people, who
from billing_sync.ledger import Action, ledger_url
from billing_sync.webhooks.inbox import Inbox, inbox_url
from billing_sync.webhooks.server import PATH, endpoint
from billing_sync.webhooks.verify import webhook_secrets
from metering.console import console
from metering.errors import UserError
from metering.settings import settings

LOOPBACK = "127.0.0.1"
webhooks = typer.Typer(no_args_is_help=True, help="Events from the provider: serve, failed, retry.")


@contextmanager
def _inbox() -> Iterator[Inbox]:
    inbox = Inbox(inbox_url(ledger_url(settings())))
    try:
        yield inbox
    finally:
        inbox.close()


@webhooks.command()
def serve(
    port: Annotated[int, typer.Option(help="Port to listen on; a proxy with TLS stands before it.")] = 8091,
    host: Annotated[
        str, typer.Option(help="Address to listen on; what is not signed is refused.")
    ] = LOOPBACK,
) -> None:
    """Take events: verified, stored by id, answered at once; the rounds of `run` process them."""
    secrets = webhook_secrets()
    with _inbox() as inbox:
        console.print(f"http://{host}:{port}{PATH}")
        web.run_app(endpoint(inbox, secrets), host=host, port=port, print=None)


@webhooks.command()
def failed(as_json: AsJson = False) -> None:
    """Events that did not go through after every try; exit code 1 when there are any."""
    with _inbox() as inbox:
        rows = [[d.id, d.kind, str(d.tries), d.reason] for d in inbox.failed()]
    show(["id", "type", "tries", "reason"], rows, as_json=as_json)
    raise typer.Exit(1 if rows else 0)


@webhooks.command()
def retry(
    event: Annotated[str, typer.Argument(help="An id from `webhooks failed`.")],
    reason: Reason,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Process a failed event again with the next round."""
    with open_for_people() as ledger, _inbox() as inbox:
        if not inbox.retry(event, int(time.time())):
            raise UserError(f"`{event}` is no failed event", hint="`billing-sync webhooks failed` lists them")
        own, now = who(actor, reason), int(time.time())
        ledger.record(Action(now, own.actor, "webhooks retry", event, own.reason))
    tell(f"{event} goes again", as_json=as_json, id=event)
