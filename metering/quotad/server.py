"""HTTP around the operations: routes from their table, errors as JSON, a log line without payload."""

import hmac
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aiohttp import web

from metering.quotad.link import Link
from metering.quotad.metrics import Metrics
from metering.quotad.models import (
    BatchAnswer,
    BatchRequest,
    CheckAnswer,
    Problem,
    ProblemAnswer,
    ReservationAnswer,
)
from metering.quotad.openapi import document
from metering.quotad.operations import OPERATIONS, Operation
from metering.quotad.service import Quotad
from metering.quotad.settings import QuotadSettings

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Server:
    """The service of one process over one link."""

    def __init__(self, settings: QuotadSettings, link: Link) -> None:
        self._settings = settings
        self._link = link
        self._token = settings.token.get_secret_value().encode()
        self._metrics = Metrics()
        allowed = settings.when_no_data == "allow"
        self._quotad = Quotad(lambda: link.metering, allow_without_data=allowed)

    def app(self) -> web.Application:
        """The application, with all routes."""
        app = web.Application(middlewares=[self._around], client_max_size=self._settings.max_body_bytes)
        for one in OPERATIONS:
            app.router.add_post(one.path, self._answering(one), name=one.name)
        app.router.add_get("/health/live", self._live, name="live", allow_head=False)
        app.router.add_get("/health/ready", self._ready, name="ready", allow_head=False)
        app.router.add_get("/metrics", self._metrics_page, name="metrics", allow_head=False)
        app.router.add_get("/openapi.json", self._openapi, name="openapi", allow_head=False)
        return app

    # -- operations ------------------------------------------------------------------------------

    def _answering(self, one: Operation) -> Handler:
        decode = msgspec.json.Decoder(one.asked).decode

        async def answer(request: web.Request) -> web.Response:
            self._authorize(request)
            if request.content_type != "application/json":
                raise Refused(415, "not_json", "send the body as `content-type: application/json`")
            try:
                asked = decode(await request.read())
            except msgspec.ValidationError as error:
                raise Refused(400, "bad_request", str(error)) from error
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise Refused(400, "bad_json", f"the body is no JSON: {error}") from error
            self._limit(asked)
            found = await one.call(self._quotad, asked)
            self._note(one.name, found)
            return _json(200, found)

        return answer

    def _authorize(self, request: web.Request) -> None:
        if not self._token:
            return
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, b"Bearer " + self._token):
            raise Refused(401, "unauthorized", "send `Authorization: Bearer TOKEN`, METERING_QUOTAD_TOKEN's")

    def _limit(self, asked: msgspec.Struct) -> None:
        most = self._settings.max_batch
        if isinstance(asked, BatchRequest) and len(asked.checks) > most:
            raise Refused(400, "batch_too_large", f"{len(asked.checks)} checks; send {most} at most at once")

    def _note(self, operation: str, found: CheckAnswer | BatchAnswer | ReservationAnswer) -> None:
        answers = found.answers if isinstance(found, BatchAnswer) else (found,)
        for reason, times in Counter(answer.reason for answer in answers).items():
            self._metrics.answer(operation, reason, times)

    # -- pages -----------------------------------------------------------------------------------

    async def _live(self, _: web.Request) -> web.Response:
        health = self._link.health()
        return _json(503 if health.status == "dead" else 200, health)

    async def _ready(self, _: web.Request) -> web.Response:
        health = self._link.health()
        return _json(200 if health.status in ("ready", "degraded") else 503, health)

    async def _metrics_page(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.text(self._link.health()), headers=headers)

    async def _openapi(self, _: web.Request) -> web.Response:
        return _json(200, document())

    # -- around every request --------------------------------------------------------------------

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.monotonic()
        operation = request.match_info.route.name or "unmatched"
        response = await _caught(request, handler, operation)
        seconds = time.monotonic() - began
        self._metrics.request(operation, response.status, seconds)
        log.info(
            "request",
            operation=operation,
            method=request.method,
            status=response.status,
            milliseconds=round(seconds * 1_000, 3),
        )
        return response


async def _caught(request: web.Request, handler: Handler, operation: str) -> web.StreamResponse:
    """The handler's response; what it raises becomes JSON, without the request's content."""
    try:
        return await handler(request)
    except Refused as refused:
        headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
        return _problem(refused.status, refused.code, refused.message, headers)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _problem(error.status, _CODES.get(error.status, "http"), error.reason, allow)
    except Exception as error:
        log.error("request_failed", operation=operation, exc_info=error)
        return _problem(500, "internal", "it failed; the log of quotad says why", {})


def _problem(status: int, code: str, message: str, headers: dict[str, str]) -> web.Response:
    response = _json(status, ProblemAnswer(Problem(code, message)))
    response.headers.update(headers)
    return response


def _json(status: int, value: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
