"""Real receivers on loopback: an HTTP server and an SMTP server that remember what came."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from metering.local.process import free_port

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # of the example that Standard Webhooks publishes


class Hook:
    """An address for webhooks; it answers with the codes of `answers`, then with 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                code = hook.answers.pop(0) if hook.answers else 204
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                hook.got.append(({}, b"asked by GET"))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)


class Mails:
    """A mail server; it refuses while `refusing` is set."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.refusing = ""
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=30)
        self._controller.start()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refusing:
            return self.refusing
        self.got.append(envelope)
        return "250 taken"

    def stop(self) -> None:
        self._controller.stop()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.stop()


@pytest.fixture
def mails() -> Iterator[Mails]:
    made = Mails()
    yield made
    made.stop()


@pytest.fixture
def config_file(tmp_path: Path, hook: Hook, mails: Mails) -> Path:
    """One webhook for everything, one mailbox for quotas."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    file = tmp_path / "notify.yaml"
    file.write_text(
        f"""
webhooks: [{{id: ops, url: "{hook.url}", secret_file: secret}}]
emails: [{{id: finance, to: [finance@example.com], events: ["quota.*"]}}]
smtp: {{host: 127.0.0.1, port: {mails.port}, security: none, sender: metering@example.com}}
templates: texts
"""
    )
    return file
