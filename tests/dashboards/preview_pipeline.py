"""The preview of *Pipeline*: worker, sink and watch under the demo's traffic, and a real Prometheus that asks them.

    python -m tests.dashboards.preview_pipeline

It needs `prometheus` (Debian's package, which promtool comes with) and takes some minutes.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from dashboards.generate import GENERATED, HERE
from dashboards.preview import FOLDER, SPAN, Sources, page
from dashboards.prometheus_query import Prometheus
from dashboards.run import load
from metering.catalog.load import load_folder
from metering.catalog.publish import publish
from metering.demo.pipeline import environment
from metering.demo.traffic import traffic
from metering.local import parts, process
from metering.producer import UsageProducer
from metering.settings import Settings, settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.topics import Names, apply
from tests.observe.test_live import started, wait_for_status

EXAMPLE = Path("examples/llm")
DATABASE = "metering_preview"
SECONDS, SLICES = 180, 90
ABOUT = (
    f"{SECONDS // 60} minutes of the demo's traffic through one worker and one sink, as a Prometheus saw them"
)


def deployment(folder: Path) -> Settings:
    """Topics, database and folder of its own on the local parts."""
    given = settings()
    parts.up(given, print)
    with connect(given.clickhouse(), "default") as client:
        client.command(f"DROP DATABASE IF EXISTS {DATABASE}")  # of the time before, under other topics
    changes = {
        "kafka_brokers": given.brokers(),
        "clickhouse_url": given.clickhouse(),
        "kafka_simulated": given.is_simulated(),
        "home": folder,
        "database": DATABASE,
        "topic_prefix": f"preview-{time.time_ns()}.",
        "checkpoint_seconds": 1.0,
        "sink_batch_seconds": 1.0,
    }
    return given.model_copy(update=changes)


@contextmanager
def prometheus(folder: Path, jobs: dict[str, int]) -> Iterator[str]:
    """A server with our rules that asks each port every five seconds."""
    for name in ("recording.yml", "alerts.yml"):
        shutil.copy(HERE / "prometheus" / name, folder)
    scrapes = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for name, port in jobs.items()
    ]
    every = {"scrape_interval": "5s", "evaluation_interval": "5s"}
    config = {"global": every, "rule_files": ["recording.yml", "alerts.yml"], "scrape_configs": scrapes}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{process.free_port()}"
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("w") as log:
        command = ["prometheus", *words, f"--web.listen-address={address}"]
        running = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield f"http://{address}"
        finally:
            running.terminate()
            running.wait(30)


async def send(own: Settings) -> None:
    """The demo's traffic, evenly over the time."""
    records = traffic(EXAMPLE / "data").records
    size = len(records) // SLICES + 1
    async with UsageProducer(own.brokers(), Names(own).events) as producer:
        for first in range(0, len(records), size):
            await producer.send((one.key, one.value) for one in records[first : first + size])
            await asyncio.sleep(SECONDS / SLICES)


@contextmanager
def watching(own: Settings, folder: Path) -> Iterator[int]:
    """`metering watch` on a port."""
    port = process.free_port()
    command = [sys.executable, "-m", "metering", "watch", "--every", "10", "--port", str(port)]
    with (folder / "watch.log").open("w") as log:
        running = subprocess.Popen(command, env={**os.environ, **environment(own)}, stdout=log, stderr=log)
        try:
            yield port
        finally:
            running.terminate()
            running.wait(30)


def main() -> None:
    """Run it all, and write the page."""
    board = next(b for b in load(HERE / GENERATED) if b["uid"] == "metering-pipeline")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        own = deployment(folder / "home")
        asyncio.run(apply(own))
        migrate(own.clickhouse(), own.database)
        asyncio.run(publish(own.brokers(), Names(own).catalog, load_folder(EXAMPLE / "catalog")))
        ports = {p: stack.enter_context(started(own, p, folder)) for p in ("worker", "sink")}
        for port in ports.values():
            wait_for_status(port, "ready")
        ports["watch"] = stack.enter_context(watching(own, folder))
        address = stack.enter_context(prometheus(folder, ports))
        asyncio.run(send(own))
        made = page(Sources(None, Prometheus(address, SECONDS)), board, SPAN, {}, ABOUT)
    file = FOLDER / f"{board['uid']}.html"
    file.write_text(made, "utf-8")
    sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
