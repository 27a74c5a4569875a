"""The operations of quotad: the client's own, in the models of the service. No HTTP here."""

import asyncio
from collections.abc import Callable

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
        """Each check by itself. Those of one customer and meter in turn: they may share a reservation."""
        groups: dict[tuple[str, str], list[int]] = {}
        for place, check in enumerate(asked.checks):
            groups.setdefault((check.customer, check.meter), []).append(place)
        found: dict[int, CheckAnswer] = {}
        await asyncio.gather(*(self._in_turn(asked, places, found) for places in groups.values()))
        return BatchAnswer([found[place] for place in range(len(asked.checks))])

    async def _in_turn(self, asked: BatchRequest, places: list[int], found: dict[int, CheckAnswer]) -> None:
        """A group that was not answered once is not waited for again: a batch takes one timeout."""
        unanswered: CheckAnswer | None = None
        for place in places:
            check = asked.checks[place]
            if unanswered is not None and self._needs_owner(check):
                found[place] = unanswered
                continue
            answer = found[place] = await self.check(check)
            if answer.reason in _UNANSWERED:
                unanswered = answer

    def _needs_owner(self, check: CheckRequest) -> bool:
        metering = self._metering()
        return metering is None or (
            metering.quotas.check_locally(
                check.customer,
                check.meter,
                check.quantity,
                requests=check.requests,
                dimensions=check.dimensions,
            ).verdict
            == "reserve"
        )

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
