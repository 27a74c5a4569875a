"""Saying what was used: the right key, the right partition, and what becomes of each event is known."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
import structlog
from aiokafka.errors import KafkaError

from metering.catalog.resolved import Catalog
from metering.client.buffer import Buffer, Waiting
from metering.client.quotas import Decision
from metering.client.reading import now_ms
from metering.errors import UserError
from metering.events import Refusal, decode_values
from metering.quota.gate import Own
from metering.quota.local import LocalView
from metering.state.measure import measure

log = structlog.get_logger()

_DRAIN_SECONDS = 0.5
_DRAINED_AT_ONCE = 500


class Placed(NamedTuple):
    """Where the broker has an event."""

    partition: int
    offset: int


class Delivery(NamedTuple):
    """What became of an event: the broker has it (`sent`), or this machine's disk (`buffered`)."""

    state: Literal["sent", "buffered"]
    event_id: str
    partition: int = -1
    offset: int = -1


Send = Callable[[str, dict[str, object]], Awaitable[Placed]]


class Usage:
    """Sends usage events; `buffer` keeps what the broker does not take."""

    def __init__(
        self, view: LocalView, catalog: Callable[[], Catalog | None], send: Send, buffer: Buffer | None
    ) -> None:
        self._view = view
        self._catalog = catalog
        self._send = send
        self._buffer = buffer
        self._kept: dict[str, list[Own]] = {}  # what waits on disk still counts here

    @property
    def waiting(self) -> int:
        """How many events wait on this machine's disk."""
        return len(self._buffer) if self._buffer is not None else 0

    async def emit(
        self,
        customer: str,
        event_type: str,
        data: Mapping[str, Any],
        decision: Decision | None = None,
        *,
        lease: str = "",
        event_id: str = "",
        time_ms: int = 0,
    ) -> Delivery:
        """Send one event; returns when the broker, or the buffer, has it.

        The same `event_id` again counts once. `decision` is what `quotas.check` said, `lease` a reservation
        of one's own. UserError when neither broker nor buffer takes it, or JSON cannot say it.
        """
        event: dict[str, object] = {
            "id": event_id or str(uuid.uuid4()),
            "customer": customer,
            "type": event_type,
            "time": time_ms or now_ms(),
            "data": dict(data),
        }
        held = lease or (decision.lease if decision is not None else "")
        if held:
            event["lease"] = held
        key = self._key(customer)
        own = self._begin(_encoded(event), held, decision)
        try:
            placed = await self._send(key, event)
        except (KafkaError, OSError, TimeoutError) as error:
            return self._keep(Waiting(key, event), own, error)
        for one in own:
            self._view.delivered(one, placed.offset)
        return Delivery("sent", str(event["id"]), *placed)

    def _key(self, customer: str) -> str:
        """The customer's pool, or the customer: what is counted together lies in one partition."""
        catalog = self._catalog()
        assert catalog is not None, "a client begins with a catalog"
        return catalog.account_of(customer)

    def _begin(self, value: bytes, lease: str, decision: Decision | None) -> list[Own]:
        """Count it here until a state includes it; what a lease covers is held already."""
        catalog = self._catalog()
        (item,) = decode_values([value])
        read = item.event
        if catalog is None or isinstance(read, Refusal):
            return []  # the pipeline will say what is wrong with it
        measures = measure(read, catalog)
        if isinstance(measures, Refusal):
            return []
        taken = decision.meter if decision is not None and decision.own is not None else ""
        return [
            self._view.begin(read.customer, one.meter.id, one.quantity, 1, lease, now_ms())
            for one in measures
            if one.meter.id != taken
        ]

    def _keep(self, one: Waiting, own: list[Own], error: Exception) -> Delivery:
        if self._buffer is None:
            for counted in own:
                self._view.failed(counted)
            raise UserError(
                f"the broker does not take usage: {error!r}",
                hint="send it again with the same `event_id`, or give the client a `buffer` file",
            ) from error
        self._buffer.put(one)
        name = str(one.event["id"])
        self._kept[name] = own
        return Delivery("buffered", name)

    async def drain(self) -> None:
        """Send what waits on disk, oldest first, for ever; a copy that came through counts once."""
        while self._buffer is not None:
            await asyncio.sleep(_DRAIN_SECONDS)
            sent = 0
            try:
                for one in self._buffer.first(_DRAINED_AT_ONCE):
                    placed = await self._send(one.key, one.event)
                    sent += 1
                    for own in self._kept.pop(str(one.event["id"]), ()):
                        self._view.delivered(own, placed.offset)
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("usage_waits", waiting=len(self._buffer), error=repr(error))
            if sent:
                self._buffer.strike_off(sent)


def _encoded(event: dict[str, object]) -> bytes:
    try:
        return msgspec.json.encode(event)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"event `{event['id']!a}` cannot be written as JSON: {error}",
            hint="customer, type and data are text, numbers, lists and objects; text must be valid Unicode",
        ) from error
