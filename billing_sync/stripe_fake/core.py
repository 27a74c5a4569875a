"""The fake without a transport: keys, idempotency, faults and delayed effects around the resources."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

from billing_sync.stripe_fake.credits import Credits
from billing_sync.stripe_fake.customers import Customers
from billing_sync.stripe_fake.errors import ApiError, Crash, Lost
from billing_sync.stripe_fake.faults import Fault, Faults
from billing_sync.stripe_fake.invoices import Invoices
from billing_sync.stripe_fake.meters import Meters
from billing_sync.stripe_fake.routes import Routes
from billing_sync.stripe_fake.state import Answer, State

_TEST_KEYS = ("sk_test_", "rk_test_")
STREAM = "/v2/billing/meter_event_stream"


class Call(NamedTuple):
    """A request: parameters as parsed from its query, form or JSON."""

    method: str
    path: str
    params: dict[str, Any]
    headers: Mapping[str, str]  # names in lower case

    @property
    def key(self) -> str:
        """The idempotency key; only writing calls have one."""
        return self.headers.get("idempotency-key", "") if self.method == "POST" else ""

    @property
    def bearer(self) -> str:
        """The API key or session token."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def fingerprint(self) -> str:
        """What is asked, to compare two requests under one key."""
        return hashlib.sha256(json.dumps([self.path, self.params], sort_keys=True).encode()).hexdigest()


class Reply(NamedTuple):
    """An answer."""

    status: int
    text: str
    headers: dict[str, str]


class Fake:
    """One Stripe account: state, clock, faults."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.state = State(path)
        self.clock = clock
        self._past: int | None = None  # while something happens whose time has come and gone
        self.customers = Customers(self.state, lambda: self.now)
        self.invoices = Invoices(self.state, lambda: self.now)
        self.meters = Meters(self.state, lambda: self.now)
        self.credits = Credits(self.state, lambda: self.now)
        self.routes = Routes(self.customers, self.invoices, self.credits, self.meters)
        self.faults = Faults()
        self.revoked: dict[str, int] = {}  # key to the status that refuses it
        self.read_only: set[str] = set()  # resources that the key may not write
        self._later: list[tuple[int, Call]] = []
        self._working: set[str] = set()
        self.posts = self.requests = 0

    @property
    def now(self) -> int:
        """Epoch seconds."""
        return int(self.clock()) if self._past is None else self._past

    def handle(self, call: Call) -> Reply:
        """Answer a request, or raise `Lost` or `Crash` as its fault says."""
        self.settle()
        self.requests += 1
        self.posts += call.method == "POST"
        refused = self._refuse(call)
        if refused is not None:
            return refused
        fault = self.faults.take(call.method, call.path)
        return self._serve(call) if fault is None else self._hurt(call, fault)

    def settle(self) -> None:
        """Let everything happen whose time has come."""
        due = [late for late in self._later if late[0] <= self.now]
        self._later = [late for late in self._later if late[0] > self.now]
        for at, call in sorted(due, key=lambda late: late[0]):
            self._working.discard(call.key)
            self._past = at
            self._serve(call)
            self._past = None
        with self.state.transaction():
            self.invoices.advance()

    def _refuse(self, call: Call) -> Reply | None:
        if call.path == STREAM:
            return self._refuse_token(call.bearer)
        status = self.revoked.get(call.bearer, 0 if call.bearer.startswith(_TEST_KEYS) else 401)
        if call.method != "GET" and self.read_only & set(call.path.split("/")):
            status = 403
        if not status:
            return None
        text = "Invalid API Key provided" if status == 401 else "This key lacks the required permissions"
        return _answer(status, {"error": {"type": "invalid_request_error", "message": text}})

    def _refuse_token(self, token: str) -> Reply | None:
        try:
            self.meters.check_session(token)
        except ApiError as error:
            return _answer(error.status, error.body)
        return None

    def _hurt(self, call: Call, fault: Fault) -> Reply:
        if fault.kind in ("delay", "slow", "gateway"):
            self._later.append((self.now + fault.seconds, call))
            if fault.kind == "gateway":
                return _answer(fault.status, {"error": {"type": "api_error", "message": "Gateway timeout"}})
            if fault.kind == "slow":
                self._working.add(call.key)
            raise Lost("timed out")
        if fault.when == "after" or fault.kind == "cut":
            done = self._serve(call)
            if fault.kind == "cut":
                return done._replace(text=done.text[: len(done.text) // 2])
        return self._fail(call, fault)

    def _fail(self, call: Call, fault: Fault) -> Reply:
        if fault.kind == "drop":
            raise Lost("connection reset")
        if fault.kind == "crash":
            raise Crash
        kind = "idempotency_error" if fault.status == 409 else "api_error"
        body = {"error": {"type": kind, "message": "An unknown error occurred"}}
        if fault.status >= 500 and call.key:  # Stripe keeps and replays its own failures
            self._store(call, fault.status, json.dumps(body))
        headers = {"Stripe-Rate-Limited-Reason": "global-rate"} if fault.status == 429 else {}
        return _answer(fault.status, body, headers)

    def _serve(self, call: Call) -> Reply:
        """The answer with its effect: at most one for a key within a day."""
        if call.key in self._working:
            text = f"There is currently another in-progress request using this key: '{call.key}'"
            error = {"type": "idempotency_error", "message": text, "code": "idempotency_key_in_use"}
            return _answer(409, {"error": error})
        stored = self.state.answer(call.key, self.now) if call.key else None
        if stored is None:
            return self._execute(call)
        if stored.fingerprint != call.fingerprint:
            return _answer(400, _mismatch(call.key))
        return Reply(stored.status, stored.body, {**self._headers(), "Idempotent-Replayed": "true"})

    def _execute(self, call: Call) -> Reply:
        try:
            with self.state.transaction():
                text = json.dumps(self._effect(call))
                if call.key:
                    self._store(call, 200, text)
            return Reply(200, text, self._headers())
        except ApiError as error:
            text = json.dumps(error.body)
            if call.key and error.stored:
                self._store(call, error.status, text)
            no_retry = {"Stripe-Should-Retry": "false"} if error.status == 400 else {}
            return Reply(error.status, text, {**self._headers(), **no_retry})

    def _effect(self, call: Call) -> dict[str, Any]:
        if call.path == STREAM:
            return self.meters.stream(call.params, call.key)
        return self.routes.answer(call.method, call.path, call.params)

    def _headers(self) -> dict[str, str]:
        return {**_headers(), "Date": formatdate(self.now, usegmt=True)}

    def _store(self, call: Call, status: int, text: str) -> None:
        self.state.store_answer(call.key, Answer(call.fingerprint, status, text), self.now)


def _mismatch(key: str) -> dict[str, Any]:
    message = f"Keys for idempotent requests can only be used with the same parameters: '{key}'"
    return {"error": {"type": "idempotency_error", "message": message}}


def _headers() -> dict[str, str]:
    return {"Request-Id": f"req_{time.time_ns():x}", "Content-Type": "application/json"}


def _answer(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(body), {**_headers(), **(headers or {})})
