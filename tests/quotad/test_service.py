"""A batch in front of an owner that is silent."""

import asyncio
from typing import Any, cast

from metering.client import Metering
from metering.client.quotas import Quotas
from metering.client.reading import ReplyReader
from metering.quota.local import LocalView
from metering.quotad.models import BatchRequest, CheckRequest
from metering.quotad.service import Quotad
from tests.quota.world import catalog

FOUND = catalog({"limits": []}, "a", "b")


class Silent:
    """A client whose view was never filled, and whose requests nobody answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        options: Any = {"timeout_seconds": 0.3, "when_no_data": "deny"}
        replies = ReplyReader("", "", "app")
        self.quotas = Quotas(LocalView(), replies, "app", lambda: FOUND, self.send, lambda: 1, **options)

    async def send(self, _: int, request: Any) -> None:
        self.asked.append(request.customer)


def test_a_silent_owner_is_waited_for_once_a_customer_and_meter() -> None:
    client = Silent()
    quotad = Quotad(lambda: cast(Metering, client), allow_without_data=False)
    checks = [CheckRequest(customer, "tokens", n) for n in range(20) for customer in "ab"]
    found = asyncio.run(quotad.batch(BatchRequest([*checks, CheckRequest("a", "tokens", -1)])))
    assert [answer.reason for answer in found.answers] == ["no_data"] * 40 + ["bad_quantity"]
    assert sorted(client.asked) == ["a", "b"]
