"""The agents of the metering worker: `meter` folds usage, `rate` hourly totals, `check` answers requests."""

from typing import Any

from metering.worker import Worker


def register(app: Any, worker: Worker, events: Any, hourly: Any, checks: Any) -> None:
    """Attach the agents to a Faust app."""

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

    @app.agent(checks, name="check")  # type: ignore[untyped-decorator]  # Faust ships no types
    async def check(stream: Any) -> None:
        """Requests: check, reserve, commit, release."""
        async for batch in stream:
            await worker.answer(batch)
