"""The client on a running pipeline: what it answers, what it sends, and that a hard limit holds."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metering.client import Decision, Metering
from metering.client.blocking import Metering as BlockingMetering
from metering.client.buffer import Buffer, Waiting
from metering.errors import UserError
from metering.quota.wire import GrantFact, LimitFact
from metering.quota_facts import publish, read
from metering.settings import Settings
from metering.topics import Names
from tests.demo.world import running
from tests.state.folding import CATALOG

LIMITED = CATALOG.replace(
    "plans: [{id: plan, name: Plan, rate_card: card}]",
    "pools: [{id: club, limits: [{id: all, meter: calls, requests: 6, window: month}]}]\n"
    "plans: [{id: plan, name: Plan, rate_card: card,"
    " limits: [{id: l, meter: tokens, units: 1000, window: month}]}]",
) + "".join(
    f"  - {{id: {c}, name: C, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z{pool}}}\n"
    for c, pool in (("c", ", pool: club"), ("d", ", pool: club"), ("e", ""), ("f", ""), ("g", ""))
)
ONE = 1_000_000
pytestmark = [pytest.mark.parts, pytest.mark.timeout(240)]


@contextmanager
def deployed(settings: Settings) -> Iterator[Settings]:
    own = settings.model_copy(update={"partitions": 2, "quota_lag_ms": 200})
    with running(own, LIMITED):
        yield own


def client(settings: Settings, **options: object) -> Metering:
    return Metering(settings.brokers(), prefix=settings.topic_prefix, **options)  # type: ignore[arg-type]


async def until(what: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 - a view tells nobody
            await asyncio.sleep(0.02)


async def use(metering: Metering, customer: str, n: int) -> bool:
    """One request of an application."""
    allowed = await metering.quotas.check(customer, "tokens", n)
    if allowed:
        await metering.usage.emit(customer, "use", {"n": n, "kind": "x"}, allowed)
    return bool(allowed)


async def settled(metering: Metering, customer: str, meter: str, n: int) -> Decision:
    """The answer once nothing without a lease may be on its way: that takes two seconds."""
    deadline = time.monotonic() + 30
    found = await metering.quotas.check(customer, meter, n)
    while found.reason in ("settling", "denied") and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        found = await metering.quotas.check(customer, meter, n)
    return found


async def knows(metering: Metering, customer: str, meter: str = "tokens") -> None:
    await until(lambda: metering.quotas.check_locally(customer, meter, 1).reason == "ok")


def test_an_application_is_served_up_to_its_limit_and_not_beyond(deployment: Settings) -> None:
    async def work(own: Settings) -> None:
        async with client(own) as metering:
            await knows(metering, "a")
            served = 0
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and served < 100:
                served += await use(metering, "a", 10)
                await asyncio.sleep(0)  # a denial is answered from memory: let others work
            assert served == 100
            refused = await metering.quotas.check("a", "tokens", 10)
            assert not refused, (refused, metering.view._spots["a", "tokens"])
            await grants_serve_again(own, metering)
            await pools_share(metering)
            await reservations_hold(metering)

    with deployed(deployment) as own:
        asyncio.run(work(own))
        blocking_is_the_same(own)


async def grants_serve_again(own: Settings, metering: Metering) -> None:
    now = time.time_ns() // 1_000_000
    names = Names(own)
    grant = GrantFact("bonus", "a", "l", str(20 * ONE), now - 1, actor="ops", reason="sorry")
    await publish(own.brokers(), names.quota_facts, grant)
    await until(lambda: metering.quotas.check_locally("a", "tokens", 10).verdict != "deny")
    allowed = await settled(metering, "a", "tokens", 10)
    assert allowed, allowed
    await metering.usage.emit("a", "use", {"n": 10, "kind": "x"}, allowed)
    assert await read(own.brokers(), names.quota_facts) == [grant]
    await publish(own.brokers(), names.quota_facts, LimitFact("a", "l", str(5 * ONE), actor="ops"))
    await until(lambda: metering.quotas.check_locally("a", "tokens", 1).verdict == "deny")


async def pools_share(metering: Metering) -> None:
    await knows(metering, "c", "calls")
    for customer in "cdcdcd":
        allowed = await settled(metering, customer, "calls", 1)
        assert allowed, allowed
        sent = await metering.usage.emit(customer, "use", {"n": 1, "kind": "x"}, allowed)
        assert sent.state == "sent"
    refused = await settled(metering, "d", "calls", 1)
    assert (refused.allowed, refused.limit) == (False, "all")


async def reservations_hold(metering: Metering) -> None:
    held = await metering.quotas.reserve("e", "tokens", 900)
    assert held
    assert not await metering.quotas.reserve("e", "tokens", 200)
    part = await metering.quotas.reserve("e", "tokens", 200, least=10)
    assert 10 <= part.granted <= 100
    assert (await metering.quotas.release("e", part.lease)).reason == "released"
    assert (await metering.quotas.commit("e", held.lease, 100)).reason == "committed"
    assert (await metering.quotas.commit("e", "none", 1)).reason == "unknown_lease"
    assert (await metering.quotas.reserve("e", "tokens", -1)).reason == "bad_quantity"
    assert (await metering.quotas.reserve("nobody", "tokens", 1)).reason == "unknown_customer"
    assert (await metering.quotas.check("e", "tokens", "x")).reason == "bad_quantity"
    assert (await metering.quotas.check_with_owner("e", "tokens", 500)).reason == "ok"


def blocking_is_the_same(own: Settings) -> None:
    with BlockingMetering(own.brokers(), prefix=own.topic_prefix) as metering:
        deadline = time.monotonic() + 30
        while metering.quotas.check("f", "tokens", 10).reason != "ok":
            assert time.monotonic() < deadline
        allowed = metering.quotas.check("f", "tokens", 10)
        assert metering.usage.emit("f", "use", {"n": 10, "kind": "x"}, allowed).state == "sent"
        assert metering.quotas.check("f", "tokens", 1001).reason == "limit_reached"
        assert metering.quotas.release("f", "none").reason == "unknown_lease"


def test_without_a_broker_a_client_says_so_and_what_to_do() -> None:
    async def work() -> None:
        async with Metering("127.0.0.1:1", start_seconds=1):
            raise AssertionError

    with pytest.raises(UserError, match="no quotas from"):
        asyncio.run(work())


def test_a_buffer_keeps_what_a_crash_leaves_of_it(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    buffer = Buffer(path)
    for n in range(3):
        buffer.put(Waiting("a", {"id": str(n)}))
    buffer.strike_off(1)
    with path.open("ab") as file:
        file.write(b'["a",{"id"')  # a crash within a write
    again = Buffer(path)
    assert [one.event["id"] for one in again.first(9)] == ["1", "2"]
    again.put(Waiting("a", {"id": "3"}))
    assert [one.event["id"] for one in Buffer(path).first(9)] == ["1", "2", "3"]
