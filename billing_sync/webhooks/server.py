"""The endpoint: verify the raw body, store the event, answer at once."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from aiohttp import web

from billing_sync.webhooks.inbox import Inbox
from billing_sync.webhooks.verify import Forged, verify

log = structlog.get_logger()

PATH = "/webhooks/stripe"
_LARGEST_BODY = 1 << 20


def endpoint(inbox: Inbox, secrets: Sequence[str], clock: Callable[[], float] = time.time) -> web.Application:
    """The endpoint as an aiohttp application; the body is stored before the answer goes."""

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        now = int(clock())
        try:
            verify(body, request.headers.get("Stripe-Signature", ""), secrets, now)
            event = _event(body)
        except Forged as error:
            log.warning("a webhook was refused", reason=str(error))
            return web.Response(status=400, text="refused")
        inbox.keep(event["id"], event["type"], body.decode(), now)
        return web.Response(text="stored")

    app = web.Application(client_max_size=_LARGEST_BODY)
    app.add_routes([web.post(PATH, receive)])
    return app


def _event(body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(body)
    except ValueError as error:
        raise Forged("it is not JSON") from error
    if not isinstance(event, dict) or not all(isinstance(event.get(k), str) for k in ("id", "type")):
        raise Forged("it is no event")
    return event
