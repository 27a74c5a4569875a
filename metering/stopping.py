"""Stopping a Kafka client without being stopped by it."""

import asyncio
from typing import Any


async def stop(client: Any) -> None:
    """Release a client's connections, whatever state it is in.

    A consumer that could not begin (the broker was away) waits for a task of its own that it has just
    cancelled, and so cancels its caller: a load ends without a word, a follower follows no more.
    """
    try:
        await client.stop()
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if caller is None or caller.cancelling():
            raise
