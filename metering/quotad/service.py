"""The operations of quotad: the client's own, in the models of the service. No HTTP here."""

import asyncio
from collections.abc import Callable
from typing import Any

from metering.client import Decision, Metering, Reservation
from metering.quotad.models import (
    BatchAnswer,
    BatchRequest,
    CheckAnswer,
    CheckRequest,
    CommitRequest,
    ReleaseRequest,
    ReservationAnswer,
    ReserveRequest,
)
from metering.rating.money import MICRO, format_exact, parse_decimal

_UNANSWERED = ("stale", "no_data")


class Quotad:
    """Answers; `metering` gives the client, or None before it is connected: then there is no data."""

    def __init__(self, metering: Callable[[], Metering | None], *, allow_without_data: bool) -> None:
        self._metering = metering
        self._no_data = CheckAnswer(allow_without_data, "no_data")

    async def check(self, asked: CheckRequest) -> CheckAnswer:
        """Whether the customer may use so much now: from memory, near a limit by reservation."""
        metering = self._metering()
        if metering is None:
            return self._no_data
        decision = await metering.quotas.check(
            asked.customer,
            asked.meter,
            asked.quantity,
            requests=asked.requests,
            dimensions=asked.dimensions,
        )
        return _check_answer(decision)

    async def batch(self, asked: BatchRequest) -> BatchAnswer:
        """Each check by itself. Those of one customer and meter that need the owner share reservations."""
        found = [self._from_memory(check) for check in asked.checks]
        groups: dict[tuple[str, str], list[int]] = {}
        for place, check in enumerate(asked.checks):
            if found[place] is None:
                groups.setdefault((check.customer, check.meter), []).append(place)
        await asyncio.gather(*(self._in_turn(asked, places, found) for places in groups.values()))
        return BatchAnswer([answer for answer in found if answer is not None])

    def _from_memory(self, check: CheckRequest) -> CheckAnswer | None:
        """The answer when memory has one that takes nothing from a lease."""
        metering = self._metering()
        if metering is None:
            return self._no_data
        wanted = (check.customer, check.meter, check.quantity)
        options: Any = {"requests": check.requests, "dimensions": check.dimensions}
        found = metering.quotas.check_locally(*wanted, **options)
        if found.verdict == "reserve" or found.lease:
            return None
        reason: Any = found.reason
        return CheckAnswer(found.verdict == "allow", reason, found.limit, "", found.retry_after_ms)

    async def _in_turn(self, asked: BatchRequest, places: list[int], found: list[CheckAnswer | None]) -> None:
        """Once nothing is known of a group it is not waited for again; a batch takes two timeouts at most."""
        unanswered: CheckAnswer | None = None
        for place in places:
            check = asked.checks[place]
            answer = self._from_memory(check) or unanswered or await self.check(check)
            if answer.reason in _UNANSWERED:
                unanswered = answer
            found[place] = answer

    async def reserve(self, asked: ReserveRequest) -> ReservationAnswer:
        """Hold usage that is to come."""
        metering = self._metering()
        if metering is None:
            return _WITHOUT_DATA
        reservation = await metering.quotas.reserve(
            asked.customer,
            asked.meter,
            asked.quantity,
            least=asked.least,
            requests=asked.requests,
            validity_seconds=asked.validity_seconds,
            dimensions=asked.dimensions,
            request_id=asked.request_id,
        )
        return _reservation_answer(reservation)

    async def commit(self, asked: CommitRequest) -> ReservationAnswer:
        """Say what was used of a lease so far."""
        metering = self._metering()
        if metering is None:
            return _WITHOUT_DATA
        reservation = await metering.quotas.commit(
            asked.customer,
            asked.lease,
            asked.used,
            n=asked.n,
            done=asked.done,
            request_id=asked.request_id,
        )
        return _reservation_answer(reservation)

    async def release(self, asked: ReleaseRequest) -> ReservationAnswer:
        """Give back what a lease still holds."""
        metering = self._metering()
        if metering is None:
            return _WITHOUT_DATA
        released = await metering.quotas.release(asked.customer, asked.lease, request_id=asked.request_id)
        return _reservation_answer(released)


_WITHOUT_DATA = ReservationAnswer(ok=False, reason="no_data")


def _check_answer(decision: Decision) -> CheckAnswer:
    return CheckAnswer(
        decision.allowed,
        decision.reason,  # type: ignore[arg-type]  # one of them: tests/quotad/test_models.py
        decision.limit,
        decision.lease,
        decision.retry_after_ms,
    )


def _reservation_answer(found: Reservation) -> ReservationAnswer:
    return ReservationAnswer(
        ok=found.ok,
        reason=found.reason,  # type: ignore[arg-type]  # one of them: tests/quotad/test_models.py
        lease=found.lease,
        granted=format_exact(parse_decimal(found.granted, MICRO), MICRO),
        requests=found.requests,
        expires=found.expires,
        final=found.final,
        limit=found.limit,
        retry_after_ms=found.retry_after_ms,
    )
