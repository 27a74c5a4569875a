"""Asking for quotas: from memory where that is safe, from the owner where it is not."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from itertools import count
from typing import Literal, NamedTuple

import msgspec
from aiokafka.errors import KafkaError

from metering.catalog.resolved import Catalog
from metering.client.reading import ReplyReader, now_ms
from metering.quota.gate import Own
from metering.quota.held import answered
from metering.quota.local import Answer, LocalView
from metering.quota.wire import Check, Commit, Release, Reply, Request, Reserve
from metering.rating.money import MICRO, parse_decimal
from metering.state.partitioning import partition_of

BLOCK = 16  # near a limit so many requests of a size are reserved at once; the owner gives less
_AWAY_SECONDS = 5.0  # after a request that nobody answered
_REPEAT_SECONDS = 0.5  # a request that is not answered is sent again, under the same id

Number = int | str | Decimal
Send = Callable[[int, Request], Awaitable[None]]


class Decision(NamedTuple):
    """Whether to serve; true when it is. `reason` says why, `limit` which limit decided.

    `reuse_last` is an answer from a view that is behind while the owner does not answer;
    `stale` and `no_data` are answers by policy: the view is old, or there was never one, and the owner did
    not answer. Give it to `usage.emit`, so that the usage is covered by its `lease`.
    """

    allowed: bool
    reason: str
    limit: str = ""
    lease: str = ""
    retry_after_ms: int = 0
    meter: str = ""
    own: Own | None = None

    def __bool__(self) -> bool:
        """Whether to serve."""
        return self.allowed


class Reservation(NamedTuple):
    """What was reserved, or why nothing was; true when there is a lease or no limit.

    `granted` is exact, as the owner said it; use it until `expires` (epoch ms).
    """

    ok: bool
    reason: str
    lease: str = ""
    granted: Decimal = Decimal(0)
    requests: int = 0
    expires: int = 0
    final: bool = False
    limit: str = ""
    retry_after_ms: int = 0

    def __bool__(self) -> bool:
        """Whether it may be used."""
        return self.ok


class Quotas:
    """The quotas as one application sees them; quantities are numbers or decimal text, never floats.

    Nothing here raises for what a caller says: `bad_quantity` is an answer.
    """

    def __init__(
        self,
        view: LocalView,
        replies: ReplyReader,
        client: str,
        catalog: Callable[[], Catalog | None],
        send: Send,
        partitions: Callable[[], int],
        *,
        timeout_seconds: float,
        when_no_data: Literal["allow", "deny"],
    ) -> None:
        self.view = view
        self._replies = replies
        self._client = client
        self._catalog = catalog
        self._send = send
        self._partitions = partitions
        self._timeout = timeout_seconds
        self._when_no_data = when_no_data
        # A client's name may be used again, by a later process or a second one; a request's id never.
        run = uuid.uuid4().hex[:12]
        self._names = (f"{client}-{run}-{n}" for n in count(1))
        self._away_until = 0.0  # by the monotonic clock; until then nobody is asked for what may be reused

    def check_locally(
        self,
        customer: str,
        meter: str,
        quantity: Number = 1,
        *,
        requests: int = 1,
        dimensions: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer from memory alone: `allow`, `deny`, or `reserve` when only the owner can say."""
        micro = _micro(quantity)
        wanted = dict(dimensions) if dimensions else None
        return self.view.check(customer, meter, -1 if micro is None else micro, now_ms(), requests, wanted)

    def check_many(self, wanted: Iterable[tuple[str, str, Number]]) -> list[Answer]:
        """The answers from memory to many questions (customer, meter, quantity), each by itself."""
        asked = [(c, m, -1 if (q := _micro(n)) is None else q) for c, m, n in wanted]
        return self.view.check_many(asked, now_ms())

    async def check(
        self,
        customer: str,
        meter: str,
        quantity: Number = 1,
        *,
        requests: int = 1,
        dimensions: Mapping[str, str] | None = None,
    ) -> Decision:
        """Whether the customer may use so much now: from memory, near a limit by reservation."""
        asked = {"requests": requests, "dimensions": dimensions}
        answer = self.check_locally(customer, meter, quantity, **asked)  # type: ignore[arg-type]  # as given
        micro = _micro(quantity)
        if micro is None or answer.verdict != "reserve":
            return self._decided(answer, customer, meter, micro or 0, requests)
        if answer.reason == "behind" and time.monotonic() < self._away_until:
            return self._unanswered(customer, meter, answer, micro, requests)
        await self._give_back(customer, meter, micro, requests)
        reply = await self._hold(
            Reserve(
                *(next(self._names), self._client, customer, meter),
                quantity=str(micro * BLOCK),
                least=str(micro),
                requests=requests * BLOCK,
                dimensions=dict(dimensions or {}),
            )
        )
        if reply is None:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            return self._unanswered(customer, meter, answer, micro, requests)
        self.view.take_reply(customer, meter, reply, now_ms())
        if not reply.ok or not reply.lease:
            reason = "ok" if reply.ok and reply.reason == "granted" else reply.reason
            return Decision(reply.ok, reason, reply.limit, retry_after_ms=reply.retry_after_ms)
        again = Answer("allow", "lease", reply.limit, reply.lease)
        return self._decided(again, customer, meter, micro, requests)

    async def _give_back(self, customer: str, meter: str, micro: int, requests: int) -> None:
        """What is left of a lease but too small would stay held until its end."""
        for lease, used in self.view.too_small(customer, meter, micro, requests):
            done = Commit(next(self._names), self._client, customer, lease, 1, str(used), done=True)
            await self._tell(done)

    def _decided(self, answer: Answer, customer: str, meter: str, micro: int, requests: int) -> Decision:
        own = None
        if answer.lease:  # taken now: the next caller must not be promised the same
            own = self.view.begin(customer, meter, micro, requests, answer.lease)
        return Decision(
            *(answer.verdict == "allow", answer.reason, answer.limit, answer.lease, answer.retry_after_ms),
            *(meter, own),
        )

    def _unanswered(self, customer: str, meter: str, answer: Answer, micro: int, requests: int) -> Decision:
        """The owner is away: the limit's policy, or the client's when no limit is known."""
        if answer.reason == "behind":  # room by what was heard last, and not for long enough to be stale
            return Decision(True, "reuse_last", answer.limit)
        policy, limit = self.view.policy(customer, meter, micro, now_ms(), requests)
        if limit:
            return Decision(policy == "allow", "stale", limit)
        return Decision(self._when_no_data == "allow", "no_data", answer.limit)

    # -- reservations ----------------------------------------------------------------------------

    async def reserve(
        self,
        customer: str,
        meter: str,
        quantity: Number,
        *,
        least: Number | None = None,
        requests: int = 1,
        validity_seconds: int = 30,
        dimensions: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> Reservation:
        """Hold usage that is to come: all of it, or with `least` what is left but not less than that.

        The same `request_id` for the same customer again, within ten minutes and under the same name of the
        client, gets the same reply, and nothing is held twice.
        """
        micro, floor = _micro(quantity), _micro(least) if least is not None else None
        if micro is None or (least is not None and floor is None):
            return Reservation(False, "bad_quantity")
        reply = await self._hold(
            Reserve(
                *(self._id("reserve", customer, request_id), self._client, customer, meter, str(micro)),
                least="" if floor is None else str(floor),
                whole=floor is None,
                requests=requests,
                validity_ms=validity_seconds * 1_000,
                dimensions=dict(dimensions or {}),
            )
        )
        if reply is not None and reply.lease:
            self.view.give(customer, meter, reply, now_ms())
        return _reservation(reply)

    async def commit(
        self,
        customer: str,
        lease: str,
        used: Number,
        *,
        n: int = 1,
        done: bool = True,
        request_id: str = "",
    ) -> Reservation:
        """Say what was used of a lease so far; with `done` the rest is free again. It counts nothing."""
        micro = _micro(used)
        if micro is None:
            return Reservation(False, "bad_quantity", lease)
        if done:
            self.view.take_back(lease)
        name = self._id("commit", customer, request_id)
        commit = Commit(name, self._client, customer, lease, n, str(micro), done)
        return _reservation(await self._ask(commit))

    async def release(self, customer: str, lease: str, *, request_id: str = "") -> Reservation:
        """Give back what a lease still holds."""
        self.view.take_back(lease)
        name = self._id("release", customer, request_id)
        return _reservation(await self._ask(Release(name, self._client, customer, lease)))

    async def check_with_owner(
        self,
        customer: str,
        meter: str,
        quantity: Number = 1,
        *,
        requests: int = 1,
        dimensions: Mapping[str, str] | None = None,
    ) -> Reservation:
        """What the owner would admit now: a round trip, and nothing is held."""
        micro = _micro(quantity)
        if micro is None:
            return Reservation(False, "bad_quantity")
        named = (next(self._names), self._client, customer, meter, str(micro), requests)
        return _reservation(await self._ask(Check(*named, dict(dimensions or {}))))

    # -- the round trip --------------------------------------------------------------------------

    def _id(self, kind: str, customer: str, given: str) -> str:
        """What a request is known by: a new name, or the caller's, told apart by kind and customer."""
        return msgspec.json.encode([kind, customer, given]).decode() if given else next(self._names)

    async def _tell(self, request: Request) -> bool:
        """Send a request whose reply nobody waits for; whether it was sent."""
        catalog, partitions = self._catalog(), self._partitions()
        if catalog is None or not partitions:
            return False
        try:
            await self._send(partition_of(catalog.account_of(request.customer), partitions), request)
        except (TimeoutError, KafkaError, OSError, UnicodeError):  # half a surrogate pair has no encoding
            return False
        return True

    async def _hold(self, request: Reserve) -> Reply | None:
        """The owner's reply; what is asked for is not promised to others meanwhile."""
        asked, reply = self.view.ask(request), None
        try:
            reply = await self._ask(msgspec.structs.replace(request, unseen=asked.unseen))
        finally:
            answered(asked, reply)
        return reply

    async def _ask(self, request: Request) -> Reply | None:
        """The owner's reply; None when it does not come in time."""
        waiting = self._replies.expect(request.request)
        try:
            async with asyncio.timeout(self._timeout):
                while await self._tell(request):
                    done, _ = await asyncio.wait({waiting}, timeout=_REPEAT_SECONDS)
                    if done:
                        return waiting.result()
        except TimeoutError:
            return None
        finally:
            self._replies.forget(request.request)
        return None


def _reservation(reply: Reply | None) -> Reservation:
    if reply is None:
        return Reservation(False, "no_data")
    granted = Decimal(int(reply.granted or 0)).scaleb(-MICRO)
    return Reservation(
        *(reply.ok, reply.reason, reply.lease, granted, reply.requests, reply.expires),
        *(reply.final, reply.limit, reply.retry_after_ms),
    )


def _micro(quantity: Number) -> int | None:
    """Micro-units; None for what is no quantity of 10^-6, or below nothing."""
    try:
        micro = parse_decimal(quantity, MICRO)
    except (TypeError, ValueError):
        return None
    return micro if micro >= 0 else None
