"""Our Faust monitor: batches, commits and rebalances in seconds, with the names of our own families.

Faust's own Prometheus sensor counts milliseconds, times requests and rebalances from their end, and
forgets its series at every rebalance.
"""

from collections.abc import Callable
from typing import Any

import faust
from faust.types import TP

from metering.observe.families import BATCHES_READ, COMMIT, HANDLE, REBALANCE, REBALANCES
from metering.transport import Batch


class Monitor(faust.Monitor):
    """Feeds our families; `ends` are the ends of the logs as the last fetch of each partition saw them."""

    def __init__(self, prefix: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.ends: dict[TP, int] = {}
        self.is_assigned = False
        self.on_handled: Callable[[Batch, float], None] | None = None  # a batch, and the seconds that it took
        self._prefix = prefix
        self._by_topic: dict[str, tuple[Any, Any]] = {}

    def _of(self, topic: str) -> tuple[Any, Any]:
        """The children of a topic; resolved once, a look-up by labels each time costs more."""
        found = self._by_topic.get(topic)
        if found is None:
            name = topic.removeprefix(self._prefix)
            found = self._by_topic[topic] = (HANDLE.labels(name), BATCHES_READ.labels(name))
        return found

    def on_stream_event_in(self, tp: TP, offset: int, stream: Any, event: Any) -> dict[str, Any] | None:
        """A batch is handed to an agent; `on_message_in` is only called for topics with Faust's acks."""
        state: dict[str, Any] | None = super().on_stream_event_in(tp, offset, stream, event)
        self._of(tp.topic)[1].inc()
        batch = event.value
        if isinstance(batch, Batch) and batch.highwater is not None:
            self.ends[TP(tp.topic, tp.partition)] = batch.highwater
        return state

    def on_stream_event_out(self, tp: TP, offset: int, stream: Any, event: Any, state: Any = None) -> None:
        """An agent has handled a batch."""
        super().on_stream_event_out(tp, offset, stream, event, state)
        if state is not None:
            self._of(tp.topic)[0].observe(state["time_total"])
            if self.on_handled is not None and isinstance(event.value, Batch):
                self.on_handled(event.value, state["time_total"])

    def on_commit_completed(self, consumer: Any, state: Any) -> None:
        """Positions were committed."""
        super().on_commit_completed(consumer, state)
        COMMIT.observe(self.time() - float(state))

    def on_rebalance_start(self, app: Any) -> dict[str, Any]:
        """Partitions begin to move."""
        REBALANCES.inc()
        state: dict[str, Any] = super().on_rebalance_start(app)
        return state

    def on_rebalance_end(self, app: Any, state: dict[str, Any]) -> None:
        """Partitions are assigned; the time counts from the beginning."""
        super().on_rebalance_end(app, state)
        self.is_assigned = True
        REBALANCE.observe(state["latency_end"])
