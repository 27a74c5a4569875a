"""What the tests of quotad share: a catalog with limits, and the service as a process of its own."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from metering.demo.pipeline import environment
from metering.local import process
from metering.settings import Settings
from tests.state.folding import CATALOG

TOKEN = "open sesame"
CUSTOMERS = "c d e f g h"
LIMITED = CATALOG.replace(
    "plans: [{id: plan, name: Plan, rate_card: card}]",
    "plans: [{id: plan, name: Plan, rate_card: card,"
    " limits: [{id: l, meter: tokens, units: 1000, window: month, reuse_last: 4s}]}]",
) + "".join(
    f"  - {{id: customer-{c}, name: C, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}}\n"
    for c in CUSTOMERS.split()
)


class Reply(NamedTuple):
    """A response: its status, its headers, its body."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


class Service:
    """A running quotad."""

    def __init__(self, port: int, log: Path, pid_file: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.log = log
        self.pid_file = pid_file

    def get(self, path: str) -> Reply:
        return self._open(urllib.request.Request(self.address + path))

    def post(self, path: str, body: object, token: str = TOKEN) -> Reply:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        data = json.dumps(body).encode()
        return self._open(urllib.request.Request(self.address + path, data, headers))

    def ask(self, path: str, **body: object) -> Any:
        """An answer with status 200."""
        reply = self.post(path, body)
        assert reply.status == 200, reply
        return reply.body

    def _open(self, request: urllib.request.Request) -> Reply:
        try:
            with urllib.request.urlopen(request, timeout=30) as found:
                return Reply(found.status, dict(found.headers), found.read().decode())
        except urllib.error.HTTPError as error:
            return Reply(error.code, dict(error.headers), error.read().decode())

    def status(self) -> str:
        return str(self.get("/health/live").body["status"])


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.1)


@contextmanager
def quotad(settings: Settings, **more: str) -> Iterator[Service]:
    """Quotad as a process; stopped by its id."""
    port = process.free_port()
    own = {"PORT": str(port), "TOKEN": TOKEN, "STALE_SECONDS": "3", "TIMEOUT_SECONDS": "4", **more}
    folder = settings.home / f"quotad-{port}"
    pid_file, log = folder / "pid", folder / "log"
    running = process.start(
        [sys.executable, "-m", "metering", "quotad"],
        pid_file=pid_file,
        log_file=log,
        env={**environment(settings), **{f"METERING_QUOTAD_{name}": value for name, value in own.items()}},
    )
    try:
        process.wait_until_ready(
            running, lambda: process.is_listening(port), what="quotad", log_file=log, seconds=60
        )
        yield Service(port, log, pid_file)
    finally:
        process.stop(pid_file)
