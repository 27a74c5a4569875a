"""Every bad input of an application has an answer of its own, and none is an exception."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from metering.client import quotas as client_quotas
from metering.client.quotas import Decision, Quotas, Reservation
from metering.client.reading import ReplyReader
from metering.client.usage import Placed, Usage
from metering.errors import UserError
from metering.quota.limits import ONE
from metering.quota.local import LocalView
from metering.quota.wire import GrantFact, LimitFact, Request, decode_request, encode
from tests.quota.world import catalog, quotas

LIMITS = [
    {"id": "l", "meter": "tokens", "units": 100, "window": "month"},
    {"id": "none", "meter": "calls", "units": 0, "window": "month"},
]
ODD = ["", "\ud800", "x" * 10_000]


class World:
    """A client whose requests the real owner answers at once, in memory."""

    def __init__(self, skew: int = 0) -> None:
        self.skew = skew
        self.now = time.time_ns() // 1_000_000
        found = catalog({"limits": LIMITS})
        self.owner = quotas(found, self.now)
        self.view, self.replies = LocalView(), ReplyReader("", "", "app")
        self.is_away = False
        options: Any = {"timeout_seconds": 5, "when_no_data": "deny"}
        self.quotas = Quotas(self.view, self.replies, "app", lambda: found, self.send, lambda: 1, **options)
        self.tell()
        self.view.is_ready = True

    async def send(self, _: int, request: Request) -> None:
        if self.is_away:
            raise TimeoutError
        self.owner.advance(self.now)
        reply = self.owner.ask(decode_request(encode(request)))
        self.replies._take(b"app", encode(reply))

    def tell(self) -> None:
        self.owner.advance(self.now)
        for record in [*self.owner.take(0).states, self.owner.heartbeat(self.now)]:
            self.view.apply(*record, 0, self.now + self.skew)

    def used(self, units: int) -> None:
        self.owner.post("a", "tokens", (), self.now, units * ONE)
        self.tell()

    def set_limit(self, units: int) -> None:
        self.owner.learn(LimitFact("a", "l", str(units * ONE), actor="ops", reason="x"))
        self.tell()


def answer(work: Callable[[World], Awaitable[Any]]) -> Any:
    return asyncio.run(work(World()))


def test_a_limit_of_zero_admits_nothing() -> None:
    found = answer(lambda w: w.quotas.check("a", "calls", 1))
    assert (found.allowed, found.reason, found.limit) == (False, "limit_reached", "none")


def test_a_limit_below_what_is_used_admits_nothing() -> None:
    async def work(world: World) -> Decision:
        world.used(60)
        world.set_limit(40)
        return await world.quotas.check("a", "tokens", 1)

    assert answer(work).reason == "limit_reached"


@pytest.mark.parametrize("quantity", [-1, "-0.01", "many", 0.5, None, "1e999", "NaN", "0.0000001"])
def test_what_is_no_quantity_is_refused_everywhere(quantity: Any) -> None:
    async def work(world: World) -> set[str]:
        asked = world.quotas
        return {
            (await asked.check("a", "tokens", quantity)).reason,
            asked.check_locally("a", "tokens", quantity).reason,
            asked.check_many([("a", "tokens", quantity)])[0].reason,
            (await asked.check_with_owner("a", "tokens", quantity)).reason,
            (await asked.reserve("a", "tokens", quantity)).reason,
            (await asked.commit("a", "a/1", quantity)).reason,
        }

    assert answer(work) == {"bad_quantity"}


def test_requests_below_zero_are_refused() -> None:
    async def work(world: World) -> tuple[str, str]:
        checked = await world.quotas.check("a", "tokens", 1, requests=-1)
        reserved = await world.quotas.reserve("a", "tokens", 1, requests=-1)
        return checked.reason, reserved.reason

    assert answer(work) == ("bad_quantity", "bad_quantity")


def test_an_unknown_customer_has_no_limit_and_no_lease() -> None:
    async def work(world: World) -> tuple[Decision, Reservation]:
        return await world.quotas.check("b", "tokens", 1), await world.quotas.reserve("b", "tokens", 1)

    checked, reserved = answer(work)
    assert (checked.allowed, checked.reason) == (True, "no_limit")
    assert (reserved.ok, reserved.reason) == (False, "unknown_customer")


def test_an_unknown_meter_has_no_limit_and_no_lease() -> None:
    async def work(world: World) -> tuple[Decision, Reservation]:
        return await world.quotas.check("a", "nothing", 1), await world.quotas.reserve("a", "nothing", 1)

    checked, reserved = answer(work)
    assert (checked.allowed, checked.reason) == (True, "no_limit")
    assert (reserved.ok, reserved.reason) == (False, "unknown_meter")


def test_an_unknown_lease_is_said() -> None:
    async def work(world: World) -> tuple[str, str]:
        committed = await world.quotas.commit("a", "none", 1)
        return committed.reason, (await world.quotas.release("a", "none")).reason

    assert answer(work) == ("unknown_lease", "unknown_lease")


def test_a_commit_after_the_end_of_its_lease_is_said() -> None:
    async def work(world: World) -> str:
        held = await world.quotas.reserve("a", "tokens", 10, validity_seconds=1)
        world.now += 3_000
        return (await world.quotas.commit("a", held.lease, 10)).reason

    assert answer(work) == "lease_ended"


def test_a_commit_of_more_than_was_reserved_is_taken_and_said() -> None:
    async def work(world: World) -> Reservation:
        held = await world.quotas.reserve("a", "tokens", 10)
        return await world.quotas.commit("a", held.lease, 11)

    found = answer(work)
    assert (found.ok, found.reason) == (True, "more_than_reserved")


def test_a_repeated_request_holds_once() -> None:
    async def work(world: World) -> tuple[Reservation, Reservation]:
        asked = [await world.quotas.reserve("a", "tokens", 60, request_id="7") for _ in range(2)]
        return asked[0], asked[1]

    first, again = answer(work)
    assert first.ok
    assert first == again


def test_commits_out_of_order_are_said() -> None:
    async def work(world: World) -> str:
        held = await world.quotas.reserve("a", "tokens", 10)
        await world.quotas.commit("a", held.lease, 5, n=2, done=False)
        return (await world.quotas.commit("a", held.lease, 3, n=1, done=False)).reason

    assert answer(work) == "reordered"


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_wrong_clock_is_set_by_a_heartbeat(hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> str:
        world = World(hours * 3_600_000)
        wrong = world.now + world.skew
        monkeypatch.setattr(client_quotas, "now_ms", lambda: wrong)
        world.view.apply(*world.owner.heartbeat(world.now + 1), 0, wrong)
        return (await world.quotas.check("a", "tokens", 1)).reason

    assert asyncio.run(work()) == "ok"


def test_a_client_that_falls_behind_says_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> Decision:
        world.is_away = True
        monkeypatch.setattr(client_quotas, "now_ms", lambda: world.now + 61_000)
        return await world.quotas.check("a", "tokens", 1)

    found = answer(work)
    assert (found.allowed, found.reason) == (False, "stale")


def test_a_state_of_a_newer_version_is_asked_about() -> None:
    async def work(world: World) -> tuple[str, str]:
        profile = b'["profile","a","a"]'
        world.view.apply(profile, b'{"kind":"profile","v":2}', 0, world.now)
        asked = (await world.quotas.check("a", "tokens", 1)).reason
        world.is_away = True
        return asked, (await world.quotas.check("a", "tokens", 100)).reason

    assert answer(work) == ("lease", "no_data")


@pytest.mark.parametrize("odd", ODD)
def test_names_that_make_no_sense_are_no_accident(odd: str) -> None:
    async def work(world: World) -> list[Any]:
        return [
            await world.quotas.check(odd, "tokens", 1),
            await world.quotas.check("a", odd, 1),
            await world.quotas.reserve(odd, "tokens", 1),
            await world.quotas.reserve("a", odd, 1),
            await world.quotas.commit("a", odd, 1),
            await world.quotas.release(odd, odd),
        ]

    found = answer(work)
    assert not any(one.ok for one in found if isinstance(one, Reservation))


def test_a_grant_of_nothing_is_refused_by_the_owner_and_said() -> None:
    world = World()
    assert not world.owner.learn(GrantFact("g", "a", "l", "-1", world.now))


@pytest.mark.parametrize(("customer", "data"), [("\ud800", {"units": 1}), ("acme", {"units": object()})])
async def test_usage_that_cannot_be_written_says_so(customer: str, data: dict[str, Any]) -> None:
    sent: list[str] = []

    async def send(key: str, _: dict[str, object]) -> Placed:
        sent.append(key)
        return Placed(0, 0)

    usage = Usage(LocalView(), lambda: catalog({"limits": LIMITS}), send, None)
    with pytest.raises(UserError, match="cannot be written as JSON"):
        await usage.emit(customer, "tokens", data)
    assert not sent
