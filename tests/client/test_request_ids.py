"""A request id is never used for two requests, whatever clients are called."""

import asyncio
from typing import Any

from metering.catalog.resolved import Catalog
from metering.client.quotas import Quotas
from metering.client.reading import ReplyReader
from metering.quota.local import LocalView
from tests.quota.world import catalog

FOUND: Catalog = catalog({"limits": []})


async def sent(work: str, **more: Any) -> str:
    """The id of what a client named `app` sends, to an owner that does not answer."""
    ids = []

    async def send(_: int, request: Any) -> None:
        ids.append(request.request)
        raise TimeoutError

    replies = ReplyReader("", "", "app")
    options: Any = {"timeout_seconds": 1, "when_no_data": "deny"}
    quotas = Quotas(LocalView(), replies, "app", lambda: FOUND, send, lambda: 1, **options)
    await getattr(quotas, work)(**more)
    return str(ids[0])


def reserved(customer: str = "a", **more: Any) -> str:
    return asyncio.run(sent("reserve", customer=customer, meter="tokens", quantity=1, **more))


def test_a_client_that_starts_again_under_its_name_is_not_answered_with_old_leases() -> None:
    assert reserved() != reserved()


def test_a_request_id_is_the_same_in_every_process() -> None:
    assert reserved(request_id="7") == reserved(request_id="7")


def test_a_request_id_belongs_to_one_customer_and_one_operation() -> None:
    released = asyncio.run(sent("release", customer="a", lease="l", request_id="7"))
    committed = asyncio.run(sent("commit", customer="a", lease="l", used=1, request_id="7"))
    assert len({reserved(request_id="7"), reserved("b", request_id="7"), released, committed}) == 4
