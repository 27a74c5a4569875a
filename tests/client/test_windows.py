"""Limits in money and rolling windows on the real stack: from an event to what a client answers."""

import asyncio
import time
from collections.abc import Callable

import pytest

from metering.client import Decision, Metering
from metering.settings import Settings
from tests.client.test_client import client, until
from tests.demo.world import running
from tests.state.folding import CATALOG

pytestmark = [pytest.mark.parts, pytest.mark.timeout(300)]
MINUTE = 60.0


def limited(limit: str) -> str:
    wanted = "plans: [{id: plan, name: Plan, rate_card: card}]"
    assert wanted in CATALOG
    return CATALOG.replace(wanted, wanted.replace("}]", f", limits: [{limit}]}}]"))


async def decided(metering: Metering, meter: str, n: int, what: Callable[[Decision], bool]) -> Decision:
    """The answer to the same question as soon as it is one that is waited for."""
    async with asyncio.timeout(2 * MINUTE):
        while not what(found := await metering.quotas.check("a", meter, n)):  # noqa: ASYNC110 - a view tells nobody
            await asyncio.sleep(0.1)
    return found


async def use(metering: Metering, meter: str, n: int) -> None:
    allowed = await decided(metering, meter, n, bool)
    await metering.usage.emit("a", "use", {"n": n, "kind": "x"}, allowed)


def posted(metering: Metering, meter: str) -> str:
    (gate,) = metering.view._spots["a", meter]
    return next((state.posted for state in gate.states.values() if state is not None), "")


def test_a_limit_in_money_is_spent_by_the_prices_of_rating(deployment: Settings) -> None:
    """A token is 0.10, so 20.00 buy 200."""

    async def work(own: Settings) -> None:
        async with client(own) as metering:
            await until(lambda: ("a", "tokens") in metering.view._spots, 90)
            await use(metering, "tokens", 150)
            await until(lambda: posted(metering, "tokens") == "15000000", 90)
            refused = await decided(metering, "tokens", 51, lambda found: found.reason == "limit_reached")
            assert refused.limit == "money"
            await use(metering, "tokens", 50)
            await until(lambda: posted(metering, "tokens") == "20000000", 90)
            assert not await metering.quotas.check("a", "tokens", 1)
            assert await metering.quotas.check("a", "tokens", 0)

    own = deployment.model_copy(update={"partitions": 2, "quota_lag_ms": 200})
    with running(own, limited("{id: money, meter: tokens, money: 20, window: month}")):
        asyncio.run(work(own))


@pytest.mark.slow
def test_a_rolling_window_lets_go_of_what_is_older_than_it(deployment: Settings) -> None:
    """Nothing comes in meanwhile: the worker lets time pass."""

    async def work(own: Settings) -> None:
        async with client(own) as metering:
            await until(lambda: ("a", "calls") in metering.view._spots, 90)
            for _ in range(2):
                await use(metering, "calls", 1)
            await asyncio.sleep(3)
            began = time.monotonic()
            await use(metering, "calls", 1)
            refused = await decided(metering, "calls", 1, lambda found: not found)
            assert refused.limit == "burst"
            await decided(metering, "calls", 1, bool)
            again = await decided(metering, "calls", 1, bool)
            assert time.monotonic() - began > MINUTE - 10, again
            await until(lambda: posted(metering, "calls") == "0", 2 * MINUTE)

    own = deployment.model_copy(update={"partitions": 2, "quota_lag_ms": 200})
    with running(own, limited("{id: burst, meter: calls, requests: 3, window: rolling 1m}")):
        asyncio.run(work(own))
