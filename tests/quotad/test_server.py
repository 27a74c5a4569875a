"""The service without a broker: what it refuses and how, and how it starts."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from metering.client import Metering
from metering.errors import UserError
from metering.quotad.link import Link
from metering.quotad.operations import OPERATIONS
from metering.quotad.server import Server
from metering.quotad.settings import QuotadSettings, quotad_settings

SETTINGS = QuotadSettings(token="t", max_body_bytes=1_024, max_batch=2)  # type: ignore[arg-type]  # read as text
CHECK = {"customer": "a", "meter": "m"}
ASKED = {
    "/v1/check": CHECK,
    "/v1/check/batch": {"checks": [CHECK]},
    "/v1/reserve": {**CHECK, "quantity": 1},
    "/v1/commit": {"customer": "a", "lease": "l", "used": 1},
    "/v1/release": {"customer": "a", "lease": "l"},
}
Client = TestClient[Request, Application]


def unconnected() -> Metering:
    return Metering("127.0.0.1:1", start_seconds=0.5)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    link = Link(unconnected, 10)
    link.start()
    async with TestClient(TestServer(Server(SETTINGS, link).app())) as found:
        yield found
    await link.stop()


async def post(client: Client, path: str, body: object, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", "Authorization": "Bearer t", **headers}
    async with client.post(path, data=data, headers=sent) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("path", ASKED)
async def test_without_data_every_operation_says_so(client: Client, path: str) -> None:
    status, body = await post(client, path, ASKED[path])
    answer = body["answers"][0] if "answers" in body else body
    assert (status, answer["reason"]) == (200, "no_data")
    assert not answer.get("allowed", answer.get("ok"))


async def test_before_it_has_read_the_quotas_it_is_starting(client: Client) -> None:
    live, ready = await client.get("/health/live"), await client.get("/health/ready")
    assert (live.status, ready.status) == (200, 503)
    assert (await ready.json())["status"] == "starting"


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        (b"{", 400, "bad_json", "truncated"),
        (b"\xff", 400, "bad_json", "no JSON"),
        (b'{"customer": "\\ud800", "meter": "m"}', 400, "bad_json", "no JSON"),
        ([], 400, "bad_request", "Expected `object`"),
        ({"customer": "a"}, 400, "bad_request", "required field `meter`"),
        ({**CHECK, "quantty": 3}, 400, "bad_request", "unknown field `quantty`"),
        ({**CHECK, "quantity": 1.5}, 400, "bad_request", "$.quantity"),
        ({**CHECK, "requests": -1}, 400, "bad_request", "$.requests"),
        ({**CHECK, "dimensions": {"a": 1}}, 400, "bad_request", "$.dimensions[...]"),
        ({**CHECK, "dimensions": {"a": "x" * 1_024}}, 413, "body_too_large", "Too Large"),
    ],
    ids=str,
)
async def test_a_bad_request_is_told_what_is_wrong(
    client: Client, body: object, status: int, code: str, said: str
) -> None:
    found, problem = await post(client, "/v1/check", body)
    assert (found, problem["error"]["code"]) == (status, code)
    assert said in problem["error"]["message"]


async def test_a_batch_has_a_limit(client: Client) -> None:
    status, problem = await post(client, "/v1/check/batch", {"checks": [CHECK] * 3})
    assert (status, problem["error"]["code"]) == (400, "batch_too_large")
    assert "2 at most" in problem["error"]["message"]


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer x", "Basic t", "t"])
async def test_without_the_token_nothing_is_answered(client: Client, given: str) -> None:
    status, problem = await post(client, "/v1/check", CHECK, Authorization=given)
    assert (status, problem["error"]["code"]) == (401, "unauthorized")


async def test_a_page_of_a_browser_cannot_ask(client: Client) -> None:
    """A form of another site may send text without asking first; JSON it may not."""
    status, problem = await post(client, "/v1/check", CHECK, **{"Content-Type": "text/plain"})
    assert (status, problem["error"]["code"]) == (415, "not_json")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nope", 404), ("GET", "/v1/check", 405), ("POST", "/metrics", 405)],
)
async def test_an_unknown_place_is_json_too(client: Client, method: str, path: str, status: int) -> None:
    async with client.request(method, path) as response:
        assert response.status == status
        assert set(await response.json()) == {"error"}


async def test_what_breaks_inside_is_not_shown(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("customer-x")

    operations = [one._replace(call=broken) for one in OPERATIONS]
    monkeypatch.setattr("metering.quotad.server.OPERATIONS", operations)
    link = Link(unconnected, 10)
    async with TestClient(TestServer(Server(SETTINGS, link).app())) as inner:
        status, problem = await post(inner, "/v1/check", CHECK)
    assert (status, problem["error"]["code"]) == (500, "internal")
    assert "customer-x" not in str(problem)


async def test_a_policy_may_allow_without_data() -> None:
    settings = QuotadSettings(when_no_data="allow")
    async with TestClient(TestServer(Server(settings, Link(unconnected, 10)).app())) as inner:
        assert (await post(inner, "/v1/check", CHECK))[1]["allowed"]


async def test_it_is_dead_when_a_reader_has_ended() -> None:
    async def ends() -> None:
        raise RuntimeError("a bug")

    link = Link(unconnected, 10)
    link.metering = metering = unconnected()
    metering._tasks = [asyncio.create_task(ends(), name="StateReader")]
    await asyncio.wait(metering._tasks)
    async with TestClient(TestServer(Server(SETTINGS, link).app())) as inner:
        live = await inner.get("/health/live")
        assert live.status == (await inner.get("/health/ready")).status == 503
        assert await live.json() == {
            "status": "dead",
            "detail": "StateReader: RuntimeError('a bug')",
            "silent_ms": 0,
        }


async def test_it_is_dead_when_it_can_never_connect() -> None:
    def never() -> Metering:
        raise RuntimeError("a bug")

    link = Link(never, 10)
    link.start()
    await asyncio.sleep(0)
    assert link.health().status == "dead"
    await link.stop()


def test_beyond_loopback_a_token_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_QUOTAD_HOST", "0.0.0.0")
    with pytest.raises(UserError, match="no token is set"):
        quotad_settings()
    monkeypatch.setenv("METERING_QUOTAD_TOKEN", "t")
    assert quotad_settings().host == "0.0.0.0"


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_QUOTAD_PORT", "many")
    with pytest.raises(UserError, match="METERING_QUOTAD_PORT"):
        quotad_settings()
