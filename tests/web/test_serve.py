"""`metering web` and `metering demo --serve` as processes: they say where they are and end when told."""

import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metering.demo.pipeline import environment
from metering.settings import Settings
from metering.sinks.migrate import migrate

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def served(settings: Settings, *words: str, seconds: float) -> Iterator[str]:
    """Run a command until it says where its page is; then end it by SIGTERM, which must end it well."""
    own = {**os.environ, **environment(settings), "METERING_WEB_PORT": "0", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "metering", *words], env=own, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield _address(process, time.monotonic() + seconds)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(60)


def _address(process: subprocess.Popen[str], deadline: float) -> str:
    assert process.stdout is not None
    said = ""
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([process.stdout], [], [], 1)[0]:
            said += os.read(process.stdout.fileno(), 65_536).decode()
        if found := re.search(r"page on (http://\S+);", said):
            return found[1]
    raise AssertionError(f"no address within the deadline:\n{said}")


def page(address: str) -> str:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return str(answer.read().decode())


@pytest.mark.parts
def test_the_command_serves_until_it_is_told_to_stop(deployment: Settings) -> None:
    migrate(deployment.clickhouse(), deployment.database)
    with served(deployment, "web", seconds=60) as address:
        assert address.startswith("http://127.0.0.1:")
        assert "What has come in" in page(address)


@pytest.mark.parts
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_keeps_its_page_up(local_parts: Settings, tmp_path: Path) -> None:
    own = {
        "home": tmp_path,
        "kafka_brokers": local_parts.brokers(),
        "clickhouse_url": local_parts.clickhouse(),
    }
    with served(local_parts.model_copy(update=own), "demo", "--serve", seconds=300) as address:
        found = re.sub(r"<[^>]*>|\s", "", page(f"{address}/?period=2023-11"))
        assert "HarborAnalyticsscaleUSD39.055310" in found
