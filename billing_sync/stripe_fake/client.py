"""The fake behind the real SDK without a socket: an HTTP client to inject."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import stripe

from billing_sync.stripe_fake.core import Call, Fake
from billing_sync.stripe_fake.errors import Lost
from billing_sync.stripe_fake.form import parse_form


def read_call(method: str, url: str, headers: Mapping[str, str], body: str) -> Call:
    """A request from its parts; v2 bodies are JSON, v1 bodies are forms."""
    parts = urlsplit(url)
    if parts.path.startswith("/v2/"):
        params = json.loads(body) if body else {}
    elif method.upper() == "POST":
        params = parse_form(parse_qsl(body, keep_blank_values=True))
    else:
        params = dict(parse_qsl(parts.query))
    lower = {name.lower(): value for name, value in headers.items()}
    return Call(method.upper(), parts.path, params, lower)


class FakeClient(stripe.HTTPClient):
    """Hands every request of the SDK to a fake in this process."""

    name = "fake"

    def __init__(self, fake: Fake) -> None:
        super().__init__()
        self._fake = fake

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        """One request; without an answer it is the SDK's connection error."""
        try:
            reply = self._fake.handle(read_call(method, url, headers or {}, post_data or ""))
        except Lost as error:
            text = f"no answer: {error}"
            raise stripe.APIConnectionError(text) from error  # type: ignore[no-untyped-call]  # the SDK's
        return reply.text, reply.status, reply.headers

    def close(self) -> None:
        """Nothing is open."""
