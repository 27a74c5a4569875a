"""The web application: routes, what every answer carries, and errors that a reader can act on."""

import asyncio
import base64
import hashlib
import ipaddress
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

import structlog
from aiohttp import web
from clickhouse_connect.driver.exceptions import ClickHouseError

from metering.bills.html import stylesheet
from metering.errors import UserError
from metering.settings import Settings
from metering.sinks.client import unreachable
from metering.web import handlers
from metering.web.handlers import BILL_STYLE, SETTINGS, render
from metering.web.library import LIBRARY, Library

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATIC = Path(str(files("metering.web") / "static"))
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src {style}; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_TITLES = {404: "Not found", 500: "This page failed", 503: "The books cannot be read now"}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def web_app(settings: Settings) -> web.Application:
    """The application; it opens its connection to ClickHouse with the first question."""
    app = web.Application(middlewares=[_guarded, _explained])
    app[SETTINGS] = settings
    app[LIBRARY] = Library(settings)
    app.add_routes(
        [
            web.get("/", handlers.overview),
            web.get("/arrived", handlers.arrived),
            web.get("/customers", handlers.customers),
            web.get("/customer", handlers.customer),
            web.get("/bill", handlers.bill),
            web.get("/operations", handlers.operations),
            web.get("/favicon.ico", _icon),
            web.static("/static", STATIC),
        ]
    )
    app.on_cleanup.append(_close)
    return app


async def _icon(_: web.Request) -> web.FileResponse:
    return web.FileResponse(STATIC / "icon.svg")


async def _close(app: web.Application) -> None:
    await asyncio.to_thread(app[LIBRARY].close)


def is_loopback(host: str) -> bool:
    """Whether a bind address is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Policy on every answer; on loopback, only names of this machine are served.

    A page elsewhere could let its own name lead to 127.0.0.1 and read what a browser gets from here.
    """
    if is_loopback(request.app[SETTINGS].web_host) and not is_loopback(request.url.host or ""):
        answer: web.StreamResponse = web.Response(
            status=421, text="this page is served to its own machine only\n"
        )
    else:
        answer = await handler(request)
    style = f"'sha256-{_style_hash()}'" if answer.get(BILL_STYLE) else "'self'"
    answer.headers["Content-Security-Policy"] = _POLICY.format(style=style)
    answer.headers.update(_HEADERS)
    return answer


@web.middleware
async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as pages that say what to do."""
    settings = request.app[SETTINGS]
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return render(request, "error.html", status=404, title="There is nothing here", said="", hint="")
    except web.HTTPException:
        raise
    except UserError as error:
        status = 404 if isinstance(error, handlers.NotThere) else 503
        return _problem(request, status, error)
    except (ClickHouseError, OSError) as error:
        log.warning("books_not_read", error=str(error)[:300], path=request.path)
        return _problem(request, 503, unreachable(settings.clickhouse_url, settings.database, error))
    except Exception:  # a mistake of ours: told to the operator, not to the reader
        log.exception("page_failed", path=request.path)
        failed = UserError("This page has a defect; the log has the details.", hint="The other pages work.")
        return _problem(request, 500, failed)


def _problem(request: web.Request, status: int, error: UserError) -> web.Response:
    title = _TITLES[status]
    return render(request, "error.html", status=status, title=title, said=str(error), hint=error.hint)


def _style_hash() -> str:
    return base64.b64encode(hashlib.sha256(stylesheet().encode()).digest()).decode()
