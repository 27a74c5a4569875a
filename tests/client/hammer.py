"""An application that hammers a hard limit with reservations: one process of `test_hammer`.

`python -m tests.client.hammer BROKERS PREFIX SECONDS` prints what it was allowed to use, and how long
its reservations took in milliseconds.
"""

import asyncio
import json
import sys
import time
from decimal import Decimal

from metering.client import Metering


async def work(brokers: str, prefix: str, seconds: float) -> None:
    """Reserve, use, commit; again and again, until the time is over."""
    used, trips = Decimal(0), []
    async with Metering(brokers, prefix=prefix, start_seconds=60, timeout_seconds=15) as metering:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            began = time.monotonic_ns()
            held = await metering.quotas.reserve("a", "tokens", 7, least=1)
            trips.append((time.monotonic_ns() - began) // 1_000)
            if not held:
                await asyncio.sleep(min(held.retry_after_ms, 200) / 1_000 + 0.01)
                continue
            data = {"n": str(held.granted), "kind": "x"}
            await metering.usage.emit("a", "use", data, lease=held.lease)
            used += held.granted
            await metering.quotas.commit("a", held.lease, held.granted)
    print(json.dumps({"used": str(used), "trips": trips}))  # noqa: T201 - its result


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
