"""The agents of the metering worker: `meter` folds usage events, `rate` folds hourly totals."""

from typing import Any

from metering.worker import Worker


def register(app: Any, worker: Worker, events: Any, hourly: Any) -> None:
    """Attach both agents to a Faust app."""

    @app.agent(events, name="meter")  # type: ignore[untyped-decorator]  # Faust ships no types
    async def meter(stream: Any) -> None:
        """Usage events: refuse, deduplicate, add up by the hour."""
        async for batch in stream:
            await worker.take(batch)

    @app.agent(hourly, name="rate")  # type: ignore[untyped-decorator]  # Faust ships no types
    async def rate(stream: Any) -> None:
        """Hourly totals: charges and closes."""
        async for batch in stream:
            await worker.take(batch)
