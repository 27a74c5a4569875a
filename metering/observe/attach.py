"""Lets a worker or sink say how it is: its report, its health, and the server that answers."""

import time
from importlib.metadata import version
from typing import Any

from faust.types import TP

from metering.errors import UserError
from metering.observe.health import Facts
from metering.observe.reports import Counted, Part, Report
from metering.observe.server import Server
from metering.settings import Settings
from metering.sink import Sink
from metering.state.meter_rules import Counters
from metering.topics import Names
from metering.worker import Worker


class Observed:
    """Answers for one process from what it holds anyway."""

    def __init__(self, app: Any, owner: Worker | Sink, settings: Settings) -> None:
        self._app, self._owner, self._settings = app, owner, settings
        self._has_loaded = False
        self._waits: dict[TP, tuple[int, float]] = {}  # position that more is folded than, and since when

    def report(self) -> Report:
        """How the process stands now."""
        program = "worker" if isinstance(self._owner, Worker) else "sink"
        made = Report(program, version("metering"), self._parts())
        if isinstance(self._owner, Worker):
            catalog = self._owner.catalog
            return made._replace(catalog_revision=catalog.revision if catalog else 0)
        waiting = [one.since for one in self._owner.pending.values() if one.next > one.first]
        return made._replace(oldest_unstored=min(waiting, default=0.0))

    def _parts(self) -> list[Part]:
        if isinstance(self._owner, Worker):
            return self._folds(self._owner)
        return [self._part(tp, pending.first) for tp, pending in self._owner.pending.items()]

    def _part(self, tp: TP, position: int) -> Part:
        topic = tp.topic.removeprefix(self._settings.topic_prefix)
        return Part(topic, tp.partition, position, self._app.monitor.ends.get(tp, position))

    def _folds(self, worker: Worker) -> list[Part]:
        found = []
        for tp, durable in worker.owned.items():
            part = self._part(tp, durable.saved_offset or 0)
            if (saved := durable.saved) is not None:
                last = worker.usage_at.get(tp, 0) / 1_000
                counted = _counted(saved.counters)
                part = part._replace(watermark=saved.watermark / 1_000, last_usage=last, counted=counted)
            found.append(part)
        return found

    def facts(self) -> Facts:
        """What decides on its health."""
        is_stopping = bool(self._app.should_stop or self._app.crashed)
        is_assigned = bool(self._app.monitor.is_assigned)
        if isinstance(self._owner, Worker):
            is_loading, has_catalog = self._owner.is_loading, self._owner.catalog is not None
            away = ""
        else:
            is_loading, has_catalog = False, True
            away = (
                "ClickHouse does not answer; Kafka keeps what is not written"
                if self._owner.writer.is_away
                else ""
            )
        self._has_loaded |= is_assigned and not is_loading
        behind = self._seconds_behind(time.monotonic())
        return Facts(is_stopping, is_assigned, is_loading, self._has_loaded, has_catalog, away, behind)

    def _seconds_behind(self, now: float) -> float:
        """How long the oldest position has stood still although more was read."""
        waits = {}
        for tp, (durable, read) in self._positions().items():
            if read > durable:
                known = self._waits.get(tp)
                waits[tp] = known if known is not None and known[0] == durable else (durable, now)
        self._waits = waits
        return now - min((since for _, since in waits.values()), default=now)

    def _positions(self) -> dict[TP, tuple[int, int]]:
        """Up to where each partition is durable, and up to where it was read."""
        if isinstance(self._owner, Worker):
            owned = self._owner.owned.items()
            return {tp: (one.saved_offset or 0, one.fold.offset or 0) for tp, one in owned}
        return {tp: (one.first, one.next) for tp, one in self._owner.pending.items()}


def _counted(counters: Counters) -> Counted:
    c = counters
    return Counted(c.read, c.accepted, c.duplicates, c.rejected, c.late)


def observe(app: Any, owner: Worker | Sink, settings: Settings) -> None:
    """Serve metrics and health with the app, when a port is set; make traces, when a share is."""
    if settings.trace_share:
        _trace(app, owner, settings)
    if not settings.metrics_port:
        return
    observed = Observed(app, owner, settings)
    server = Server(observed, observed.facts)
    start, stop = app.on_start, app.on_stop

    async def on_start() -> None:
        await server.start(settings.metrics_bind, settings.metrics_port)
        await start()

    async def on_stop() -> None:
        await stop()
        await server.stop()

    app.on_start, app.on_stop = on_start, on_stop


def _trace(app: Any, owner: Worker | Sink, settings: Settings) -> None:
    try:
        from metering.observe import traces  # an extra: nothing of it is imported unless it is asked for
    except ImportError as error:
        raise UserError(
            f"METERING_TRACE_SHARE is set, and {error.name} is not installed",
            hint="pip install 'metering[otel]', or set it to 0",
        ) from error
    provider = traces.provider("worker" if isinstance(owner, Worker) else "sink")
    made = traces.Traces(provider.get_tracer("metering"), settings.trace_share, Names(settings))
    if isinstance(owner, Sink):
        owner.on_stored = made.stored
    else:
        app.monitor.on_handled = made.handled
