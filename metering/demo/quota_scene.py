"""A customer at its limit: warned, blocked, granted a bonus, served again. Real answers of a real worker."""

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from metering.client import Decision, Metering
from metering.demo.account import Line
from metering.errors import UserError
from metering.quota.limits import ONE
from metering.quota.wire import GrantFact
from metering.quota_facts import publish
from metering.quota_view import Follower, Standing
from metering.settings import Settings
from metering.topics import Names

CUSTOMER, LIMIT, METER = "juniper-foods", "daily", "output_tokens"
BONUS = 5_000
_SECONDS = 180.0
_PAUSE = 0.05


class Step(NamedTuple):
    """What the customer asked for, and what it was told."""

    tokens: int
    answer: str


async def quota_scene(own: Settings, watch: Callable[[], None]) -> tuple[list[Step], Line]:
    """The steps, and what was served against what the meter counted; UserError when it takes too long."""
    scene = _Scene(own, watch)
    try:
        async with (
            asyncio.timeout(_SECONDS),
            Metering(own.brokers(), prefix=own.topic_prefix, client="demo") as scene.metering,
        ):
            return await scene.play()
    except TimeoutError as error:
        raise UserError(
            f"the quota scene was not over after {_SECONDS:.0f} s: {scene.steps}",
            hint=f"read the logs in {own.home / 'run'}",
        ) from error


class _Scene:
    def __init__(self, own: Settings, watch: Callable[[], None]) -> None:
        self._own, self._watch = own, watch
        self.metering: Metering
        self.steps: list[Step] = []
        self._served = 0

    async def play(self) -> tuple[list[Step], Line]:
        await self._ask(5_000, "served")
        await self._ask(3_500, "served")
        state = await self._until(lambda found: found.state == "warn")
        self._say(0, f"warned: {_units(state.posted)} of {_units(state.amount)} tokens of the day are used")
        await self._ask(1_500, "served from a reservation: it is the last of the limit")
        await self._until(lambda found: found.state == "blocked")
        await self._ask(1_000, "")
        await self._grant()
        await self._until(lambda found: found.amount == state.amount + BONUS * ONE)
        await self._ask(1_000, "served again")
        wanted = self._served * ONE
        counted = await self._until(lambda found: found.posted >= wanted)
        served, posted = f"{self._served:,}", _units(counted.posted)
        return self.steps, Line("tokens served at a limit = counted by it", served, posted)

    def _say(self, tokens: int, answer: str) -> None:
        self.steps.append(Step(tokens, answer))

    async def _ask(self, tokens: int, answer: str) -> None:
        """One request of the customer; an empty answer is one that must be refused."""
        found = await self._decided(tokens, must_serve=bool(answer))
        if found:
            data = {"product": "chat", "context_tokens": 0, "generated_tokens": tokens}
            await self.metering.usage.emit(CUSTOMER, "llm.completion", data, found)
            self._served += tokens
        self._say(tokens, answer if found else f"refused: {found.reason}")

    async def _decided(self, tokens: int, *, must_serve: bool) -> Decision:
        """The answer; one that says only how long to wait is asked for again."""
        while True:
            found = await self.metering.quotas.check(CUSTOMER, METER, tokens)
            if bool(found) is must_serve:
                return found
            await self._wait()

    async def _grant(self) -> None:
        now = time.time_ns() // 1_000_000
        amount = str(BONUS * ONE)
        fact = GrantFact(
            "goodwill", CUSTOMER, LIMIT, amount, starts=now, actor="demo", reason="a trial that convinces"
        )
        await publish(self._own.brokers(), Names(self._own).quota_facts, fact)
        self._say(0, f"granted: {BONUS:,} tokens more")

    async def _until(self, is_so: Callable[[Standing], bool]) -> Standing:
        """How the limit stands, once it stands so."""
        async with Follower(self._own, CUSTOMER, CUSTOMER) as follower:
            while True:
                for found in follower.found().standings:
                    if found.limit == LIMIT and is_so(found):
                        return found
                self._watch()
                await follower.more()

    async def _wait(self) -> None:
        self._watch()
        await asyncio.sleep(_PAUSE)


def _units(micro: int) -> str:
    return f"{Decimal(micro) / ONE:,.0f}"
