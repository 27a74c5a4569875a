"""How a customer's quotas stand, read from `quota.state`; for the terminal."""

import asyncio
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.errors import UserError
from metering.quota.wire import QuotaProfile, QuotaProgress, QuotaState, StateRecord, decode_state
from metering.settings import Settings
from metering.state.partitioning import partition_of
from metering.stopping import stop
from metering.topics import Names

_READ_SECONDS = 20.0


class Standing(NamedTuple):
    """One limit that applies to a customer; no state means that nothing was used in its window."""

    limit: str
    scope: str
    meter: str
    counts: str
    limit_kind: str
    state: str
    amount: int
    posted: int
    reserved: int
    remaining: int | None
    window_start: int
    window_end: int


class Found(NamedTuple):
    """A customer's limits, and when its partition was last heard of (epoch ms); 0: never."""

    standings: list[Standing]
    emitted: int


class Follower:
    """Reads the partition of one account from its beginning on."""

    def __init__(self, settings: Settings, account: str, customer: str) -> None:
        self._settings = settings
        self._customer = customer
        self._tp = TopicPartition(Names(settings).quota_state, partition_of(account, settings.partitions))
        self._held: dict[bytes, StateRecord] = {}
        self._consumer: Any = None

    async def __aenter__(self) -> "Follower":
        """Read to the end that the partition has now; UserError when it cannot be read."""
        brokers = self._settings.brokers()
        self._consumer = AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest")
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await self._consumer.start()
                self._consumer.assign([self._tp])
                end = (await self._consumer.end_offsets([self._tp]))[self._tp]
                while await self._consumer.position(self._tp) < end:
                    await self.more()
        except (KafkaError, OSError, TimeoutError) as error:
            await stop(self._consumer)
            raise UserError(
                f"{self._tp.topic} cannot be read at {brokers}: {error!r}",
                hint="is the broker running, and were the topics created (`metering topics apply`)?",
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        """Release the connection."""
        await stop(self._consumer)

    async def more(self) -> None:
        """Take what has come since."""
        for records in (await self._consumer.getmany(self._tp, timeout_ms=500)).values():
            for record in records:
                if record.value is None:
                    self._held.pop(record.key, None)
                else:
                    self._take(record.key, decode_state(record.value))

    def _take(self, place: bytes, record: StateRecord) -> None:
        held = self._held.get(place)
        if held is None or int(record.version) >= int(held.version):
            self._held[place] = record

    def found(self) -> Found:
        """How the customer stands."""
        records = self._held.values()
        mine = (r for r in records if isinstance(r, QuotaProfile) and r.customer == self._customer)
        profile = next(mine, None)
        emitted = max((r.emitted for r in records if isinstance(r, QuotaProgress)), default=0)
        return Found(_standings(profile, list(records)) if profile is not None else [], emitted)


def _standings(profile: QuotaProfile, records: list[StateRecord]) -> list[Standing]:
    found = []
    for card in profile.limits:
        states = [
            r
            for r in records
            if isinstance(r, QuotaState)
            and (r.account, r.scope, r.limit) == (profile.account, card.scope, card.id)
        ]
        state = max(states, key=lambda r: r.window_end, default=None)
        amount = int(card.amount or 0)
        plain = (card.id, card.scope, card.meter, card.counts, card.kind)
        if state is None:
            found.append(Standing(*plain, "ok", amount, 0, 0, amount, 0, 0))
            continue
        numbers = (int(state.amount), int(state.posted), int(state.reserved))
        remaining = int(state.remaining) if state.remaining else None
        window = (state.window_start, state.window_end)
        found.append(Standing(*plain, state.state, *numbers, remaining, *window))
    return found
