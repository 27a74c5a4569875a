"""The agents of the sink process: `archive` stores usage events, `results` what the worker made."""

from typing import Any

from metering.sink import Sink


def register(app: Any, sink: Sink, events: Any, results_topic: Any) -> None:
    """Attach both agents to a Faust app."""

    @app.agent(events, name="archive")  # type: ignore[untyped-decorator]  # Faust ships no types
    async def archive(stream: Any) -> None:
        """Every readable copy of every usage event."""
        async for batch in stream:
            await sink.take(batch)

    @app.agent(results_topic, name="results")  # type: ignore[untyped-decorator]  # Faust ships no types
    async def results(stream: Any) -> None:
        """Hourly totals, charges, closes, dead letters and progress."""
        async for batch in stream:
            await sink.take(batch)
