"""The fake on a socket: routes, keys, idempotency, faults.

`POST /admin/faults` takes JSON: `kind` (status, drop), `when` (before or after the effect),
`status`, `count` and `skip`; it concerns the following POSTs to `/v1`.
"""

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from billing_sync.stripe_fake.api import Api, ApiError, parse_form
from billing_sync.stripe_fake.state import Answer, State

_TEST_KEYS = ("sk_test_", "rk_test_")
_START_SECONDS = 10.0


class Faults:
    """What goes wrong with the following writing requests."""

    def __init__(self) -> None:
        self._plan: list[dict[str, Any]] = []

    def add(self, fault: dict[str, Any]) -> None:
        """Plan a fault."""
        self._plan.append({"count": 1, "skip": 0, "status": 500, "when": "before", **fault})

    def take(self) -> dict[str, Any] | None:
        """The fault of this request, if one is due."""
        for fault in self._plan:
            if fault["skip"] > 0:
                fault["skip"] -= 1
                return None
            if fault["count"] > 0:
                fault["count"] -= 1
                return fault
        return None


class Fake:
    """HTTP around the operations."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.state = State(path)
        self.api = Api(self.state)
        self.faults = Faults()
        self.clock = clock
        self.posts = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request to /v1."""
        if not _key_of(request).startswith(_TEST_KEYS):
            message = "Invalid API Key provided"
            return _answer(401, {"error": {"type": "invalid_request_error", "message": message}})
        if request.method == "POST":
            return await self._write(request)
        try:
            return _answer(200, self._read(request))
        except ApiError as error:
            return _answer(error.status, error.body)

    def _read(self, request: web.Request) -> dict[str, Any]:
        path, query = _steps(request), dict(request.query)
        url = request.path
        match (request.method, *path):
            case ("GET", "customers"):
                return self.api.page("customer", "", query, url)
            case ("GET", "invoices"):
                return self.api.page("invoice", query.get("customer", ""), query, url)
            case ("GET", "invoices", identity):
                return self.api.invoice(identity)
            case ("GET", "invoices", identity, "lines"):
                return self.api.page("line_item", self.api.invoice(identity)["id"], query, url)
            case ("DELETE", "invoices", identity):
                return self.api.delete_draft(identity)
        raise ApiError(404, "invalid_request_error", f"Unrecognized request URL ({url})")

    async def _write(self, request: web.Request) -> web.StreamResponse:
        self.posts += 1
        form = await request.post()
        pairs = [(name, str(value)) for name, value in form.items()]
        key = request.headers.get("Idempotency-Key", "")
        fingerprint = hashlib.sha256(json.dumps([request.path, sorted(pairs)]).encode()).hexdigest()
        stored = self.state.answer(key, int(self.clock())) if key else None
        if stored is not None:
            if stored.fingerprint != fingerprint:
                return _answer(400, _mismatch(key))
            return _answer(stored.status, json.loads(stored.body), replayed=True)
        return self._execute(request, parse_form(pairs), key, fingerprint)

    def _execute(
        self, request: web.Request, params: dict[str, Any], key: str, fingerprint: str
    ) -> web.StreamResponse:
        fault = self.faults.take()
        if fault and fault["when"] == "before":
            return self._fail(request, fault, key, fingerprint)
        try:
            status, body = 200, self._effect(_steps(request), params)
        except ApiError as error:
            status, body = error.status, error.body
        if fault and fault.get("kind") == "status":
            return self._fail(request, fault, key, fingerprint)
        if key:
            answer = Answer(fingerprint, status, json.dumps(body))
            self.state.store_answer(key, answer, int(self.clock()))
        return self._fail(request, fault, "", "") if fault else _answer(status, body)

    def _fail(
        self, request: web.Request, fault: dict[str, Any], key: str, fingerprint: str
    ) -> web.StreamResponse:
        if fault.get("kind") == "drop":
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        status = int(fault["status"])
        body = {"error": {"type": "api_error", "message": "An unknown error occurred"}}
        if status >= 500 and key:  # Stripe keeps and replays its own failures
            answer = Answer(fingerprint, status, json.dumps(body))
            self.state.store_answer(key, answer, int(self.clock()))
        return _answer(status, body)

    def _effect(self, path: list[str], params: dict[str, Any]) -> dict[str, Any]:
        match path:
            case ["customers"]:
                return self.api.create_customer(params)
            case ["invoices"]:
                return self.api.create_invoice(params)
            case ["invoices", identity, "add_lines"]:
                return self.api.add_lines(identity, params)
            case ["invoices", identity, "finalize"]:
                return self.api.finalize(identity)
            case ["invoices", identity, "void"]:
                return self.api.void(identity)
        raise ApiError(404, "invalid_request_error", f"Unrecognized request URL ({path})")

    async def add_fault(self, request: web.Request) -> web.Response:
        """POST /admin/faults."""
        self.faults.add(await request.json())
        return web.json_response({"ok": True})


def _key_of(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _steps(request: web.Request) -> list[str]:
    return request.path.removeprefix("/v1/").strip("/").split("/")


def _mismatch(key: str) -> dict[str, Any]:
    message = f"Keys for idempotent requests can only be used with the same parameters: '{key}'"
    return {"error": {"type": "idempotency_error", "message": message}}


def _answer(status: int, body: dict[str, Any], *, replayed: bool = False) -> web.Response:
    headers = {"Request-Id": f"req_{time.time_ns():x}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return web.json_response(body, status=status, headers=headers)


def application(fake: Fake) -> web.Application:
    """The fake as an aiohttp application."""
    app = web.Application()
    app.add_routes([web.post("/admin/faults", fake.add_fault), web.route("*", "/v1/{rest:.*}", fake.handle)])
    return app


@contextmanager
def running(path: Path, clock: Callable[[], float] = time.time) -> Iterator[tuple[str, Fake]]:
    """The fake in a thread of its own on a free loopback port: its base address and itself."""
    loop = asyncio.new_event_loop()
    fake = Fake(path, clock)
    started: list[str] = []
    ready = threading.Event()

    async def serve() -> web.AppRunner:
        runner = web.AppRunner(application(fake))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()
        return runner

    def work() -> None:
        runner = loop.run_until_complete(serve())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    if not ready.wait(_START_SECONDS):
        raise TimeoutError("the Stripe fake did not start")
    try:
        yield started[0], fake
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_START_SECONDS)
        fake.state.close()
