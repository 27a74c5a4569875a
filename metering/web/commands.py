"""`metering web`: serve the page until it is stopped."""

from typing import Annotated

import typer

from metering.console import console
from metering.errors import UserError
from metering.settings import Settings, settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; default: METERING_WEB_HOST.")] = "",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one; default: METERING_WEB_PORT.")] = -1,
) -> None:
    """Serve the page: what has come in, what it costs, who; read-only, on loopback unless told otherwise."""
    chosen = settings()
    changes: dict[str, object] = {"web_host": host} if host else {}
    serve_page(chosen.model_copy(update={**changes, **({"web_port": port} if port >= 0 else {})}))


def serve_page(chosen: Settings) -> None:
    """Serve until told to stop; UserError when the page's packages are not installed."""
    try:
        from metering.web.app import is_loopback, web_app  # an extra
        from metering.web.listen import listen
    except ModuleNotFoundError as error:
        raise UserError(f"the page needs `{error.name}`", hint="pip install 'metering[web]'") from error
    own = chosen.model_copy(update={"clickhouse_url": chosen.clickhouse()})
    if not is_loopback(own.web_host):
        console.print(
            "[yellow]whoever reaches this address can read every bill:[/] put a proxy with a log-in before it"
        )
    listen(web_app(own), own)
