"""A running pipeline on the shared parts, for tests that send events and look into the books."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metering.catalog.load import load_texts
from metering.catalog.publish import publish
from metering.demo.pipeline import Pipeline
from metering.producer import UsageProducer
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.sinks.queries import Books
from metering.topics import Names, apply


def wait_for(what: Callable[[Books], bool], settings: Settings, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with connect(settings.clickhouse(), settings.database) as client:
            if what(Books(client)):
                return
        time.sleep(0.3)
    raise AssertionError("not within the deadline")


def send(settings: Settings, *values: bytes, key: bytes = b"a") -> None:
    async def work() -> None:
        async with UsageProducer(settings.brokers(), Names(settings).events) as producer:
            await producer.send([(key, value) for value in values])

    asyncio.run(work())


def set_up(settings: Settings, text: str) -> None:
    asyncio.run(apply(settings))
    migrate(settings.clickhouse(), settings.database)
    put_in_force(settings, text)


def put_in_force(settings: Settings, text: str) -> None:
    catalog = load_texts({"catalog.yaml": text})
    asyncio.run(publish(settings.brokers(), Names(settings).catalog, catalog))


@contextmanager
def running(settings: Settings, text: str) -> Iterator[Pipeline]:
    """A worker and a sink under a catalog; stopped by their ids."""
    set_up(settings, text)
    with resumed(settings) as pipeline:
        yield pipeline


@contextmanager
def resumed(settings: Settings) -> Iterator[Pipeline]:
    """A worker and a sink of a deployment that is there already."""
    pipeline = Pipeline(settings, settings, 1, print)
    pipeline.start()
    try:
        yield pipeline
    finally:
        pipeline.stop()
