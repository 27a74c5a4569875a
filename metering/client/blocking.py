"""The client for programs without asyncio: the same answers, from a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, Self, TypeVar

from metering.client.connection import Metering as AsyncMetering
from metering.client.quotas import Decision, Number, Quotas, Reservation
from metering.client.usage import Delivery, Usage

T = TypeVar("T")


class Metering:
    """As `metering.client.Metering`, with the same arguments; use it as a context manager."""

    def __init__(self, brokers: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._runner = threading.Thread(target=self._loop.run_forever, name="metering", daemon=True)
        self._brokers, self._options = brokers, options
        self._inner: AsyncMetering | None = None

    def __enter__(self) -> Self:
        """Connect; UserError when that takes too long."""
        self._runner.start()
        try:
            self._inner = self._run(self._open())
        except BaseException:
            self._end()
            raise
        self.quotas = BlockingQuotas(self._inner.quotas, self._run)
        self.usage = BlockingUsage(self._inner.usage, self._run)
        return self

    async def _open(self) -> AsyncMetering:
        return await AsyncMetering(self._brokers, **self._options).__aenter__()

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        if self._inner is not None:
            self._run(self._inner.close())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._runner.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class BlockingQuotas:
    """See `metering.client.quotas.Quotas`."""

    def __init__(self, quotas: Quotas, run: Any) -> None:
        self._quotas, self._run = quotas, run

    def check(self, customer: str, meter: str, quantity: Number = 1, **options: Any) -> Decision:
        """Whether the customer may use so much now."""
        answer = self._quotas.check_locally(customer, meter, quantity, **options)
        if answer.verdict != "reserve" and not answer.lease:  # a lease is taken in the client's own thread
            allowed = answer.verdict == "allow"
            return Decision(allowed, answer.reason, answer.limit, retry_after_ms=answer.retry_after_ms)
        found: Decision = self._run(self._quotas.check(customer, meter, quantity, **options))
        return found

    def reserve(self, customer: str, meter: str, quantity: Number, **options: Any) -> Reservation:
        """Hold usage that is to come."""
        found: Reservation = self._run(self._quotas.reserve(customer, meter, quantity, **options))
        return found

    def commit(self, customer: str, lease: str, used: Number, **options: Any) -> Reservation:
        """Say what was used of a lease so far."""
        found: Reservation = self._run(self._quotas.commit(customer, lease, used, **options))
        return found

    def release(self, customer: str, lease: str) -> Reservation:
        """Give back what a lease still holds."""
        found: Reservation = self._run(self._quotas.release(customer, lease))
        return found


class BlockingUsage:
    """See `metering.client.usage.Usage`."""

    def __init__(self, usage: Usage, run: Any) -> None:
        self._usage, self._run = usage, run

    def emit(
        self,
        customer: str,
        event_type: str,
        data: Mapping[str, Any],
        decision: Decision | None = None,
        **options: Any,
    ) -> Delivery:
        """Send one event; returns when the broker, or the buffer, has it."""
        found: Delivery = self._run(self._usage.emit(customer, event_type, data, decision, **options))
        return found
