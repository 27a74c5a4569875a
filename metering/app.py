"""The two Faust apps, worker and sink: wiring only."""

import gc
from typing import Any

import faust
from faust.types import TP

from metering.agents import sink as sink_agents
from metering.agents import worker as worker_agents
from metering.observe import logs
from metering.observe.attach import observe
from metering.observe.monitor import Monitor
from metering.settings import Settings
from metering.sink import Sink
from metering.topics import Names
from metering.transport import SCHEME, BatchSchema
from metering.worker import Worker

STAY_AWAKE_SECONDS = 0.5
PROGRESS_SECONDS = 1.0
RESULTS_FASTER = 5  # a charge is waited for, a row of the archive is not
_BUFFERED_BATCHES = 32
_GARBAGE = (100_000, 50, 100)  # objects before a collection: a batch makes many, and nearly none in a circle


def _app(settings: Settings, group: str) -> Any:
    return faust.App(
        group,
        monitor=Monitor(settings.topic_prefix),
        broker=[f"{SCHEME}://{address}" for address in settings.brokers().split(",")],
        # Topics are made by `metering topics apply`, which knows their settings.
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        stream_buffer_maxsize=_BUFFERED_BATCHES,  # counts batches
        stream_wait_empty=False,  # it can wait for ever at shutdown; our states know their position
        consumer_max_fetch_size=1 << 20,
        consumer_auto_offset_reset="earliest",
        # Faust's own commits are not used: the state's position decides.
        broker_commit_interval=3_600.0,
        broker_commit_every=10**9,
        broker_session_timeout=10,
        broker_heartbeat_interval=2,
        broker_rebalance_timeout=30,
        broker_request_timeout=40,
        # Static membership: a quick restart is not a rebalance.
        consumer_group_instance_id=f"{group}-{settings.instance}",
        table_standby_replicas=1,  # keeps Faust's assignor, which keeps partitions where they are
        worker_redirect_stdouts=False,
        web_enabled=False,  # Faust's web server shows state to anyone
        datadir=settings.home / "faust" / settings.instance,
    )


def worker_app(settings: Settings) -> Any:
    """The app of a metering worker."""
    names = Names(settings)
    app = _app(settings, names.worker_group)
    worker = app.positions = Worker(settings)
    events = app.topic(names.events, schema=BatchSchema(), acks=False)
    hourly = app.topic(names.hourly, schema=BatchSchema(), acks=False)
    checks = app.topic(names.quota_checks, schema=BatchSchema(), acks=False)
    worker_agents.register(app, worker, events, hourly, checks)

    @app.timer(settings.checkpoint_seconds)  # type: ignore[untyped-decorator]  # Faust ships no types
    async def checkpoint() -> None:
        await worker.checkpoint_all()

    @app.timer(settings.quota_push_seconds)  # type: ignore[untyped-decorator]  # Faust ships no types
    async def push_quotas() -> None:
        await worker.push_quotas()

    @app.timer(PROGRESS_SECONDS)  # type: ignore[untyped-decorator]  # Faust ships no types
    async def report() -> None:
        await worker.report_progress()
        await worker.tick_idle()

    @app.timer(STAY_AWAKE_SECONDS)  # type: ignore[untyped-decorator]  # Faust ships no types
    async def stay_awake() -> None:
        worker.stay_awake()

    _follow_partitions(app, worker, start=worker.start)
    observe(app, worker, settings)
    return app


def sink_app(settings: Settings) -> Any:
    """The app of the sink process."""
    names = Names(settings)
    app = _app(settings, names.sink_group)
    app.is_patient = True  # rows can wait a tenth of a second; a worker answers quota checks
    sink = app.positions = Sink(settings)
    events = app.topic(names.events, schema=BatchSchema(), acks=False)
    results = app.topic(
        names.hourly,
        names.charges,
        names.rejected,
        names.progress,
        names.quota_events,
        names.quota_facts,
        schema=BatchSchema(),
        acks=False,
    )
    sink_agents.register(app, sink, events, results)

    @app.task  # type: ignore[untyped-decorator]  # Faust ships no types
    async def follow_catalog() -> None:
        await sink.follow_catalog()

    @app.timer(settings.sink_batch_seconds)  # type: ignore[untyped-decorator]  # Faust ships no types
    async def flush() -> None:
        await sink.flush_all()

    @app.timer(settings.sink_batch_seconds / RESULTS_FASTER)  # type: ignore[untyped-decorator]  # Faust ships no types
    async def flush_results() -> None:
        await sink.flush_results()

    _follow_partitions(app, sink, start=None)
    observe(app, sink, settings)
    return app


def _follow_partitions(app: Any, owner: Worker | Sink, start: Any) -> None:
    """Let the owner of states know its consumer, and which partitions go."""

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]  # Faust ships no types
    async def release(_: Any, revoked: set[TP], **__: Any) -> None:
        await app.consumer.end_loading()
        await owner.release({TP(tp.topic, tp.partition) for tp in revoked})

    original = app.on_start

    async def on_start() -> None:
        await original()
        owner.consumer = app.consumer
        if start is not None:
            await start()

    app.on_start = on_start


def run(app: Any, settings: Settings) -> None:
    """Run an app until it is told to stop; logs go to standard error."""
    gc.set_threshold(*_GARBAGE)
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "faust").mkdir(parents=True, exist_ok=True)
    logging_config = logs.configure(settings.log_level)
    worker = faust.Worker(
        app, loglevel=settings.log_level, redirect_stdouts=False, logging_config=logging_config
    )
    worker.execute_from_commandline()


def configure_logs(level: str) -> None:
    """Structured logs: readable on a terminal, JSON elsewhere."""
    logs.configure(level)
