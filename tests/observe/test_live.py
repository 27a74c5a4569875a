"""A worker and a sink on the real parts: their metrics, their health, their names for both."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from metering.demo.pipeline import environment
from metering.local import process
from metering.settings import Settings
from metering.topics import apply
from tests.demo.test_books_commands import CATALOG
from tests.demo.world import send, set_up, wait_for

Samples = dict[tuple[str, tuple[str, ...]], float]


@contextmanager
def started(settings: Settings, program: str, folder: Path, **more: str) -> Iterator[int]:
    """A process of ours, and the port that it answers on."""
    port = process.free_port()
    env = {**os.environ, **environment(settings), "METERING_METRICS_PORT": str(port), **more}
    env["METERING_INSTANCE"] = f"{program}-1"
    with (folder / f"{program}.log").open("w") as log:
        running = subprocess.Popen([sys.executable, "-m", "metering", program], env=env, stderr=log)
        try:
            yield port
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait(10)


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_for_status(port: int, status: str, path: str = "/health/ready") -> tuple[int, dict[str, str]]:
    deadline, last = time.monotonic() + 120, ""
    while time.monotonic() < deadline:
        try:
            code, last = get(port, path)
            if json.loads(last)["status"] == status:
                return code, json.loads(last)
        except OSError as error:
            last = repr(error)
        time.sleep(0.2)
    raise AssertionError(f"not {status}: {last}")


def samples(text: str) -> Samples:
    return {
        (s.name, tuple(value for _, value in sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def event(number: int) -> bytes:
    return json.dumps(
        {"id": f"e{number}", "customer": "a", "type": "call", "time": time.time_ns() // 1_000_000,
         "data": {"region": "eu", "size": "1"}}
    ).encode()  # fmt: skip


@pytest.fixture(scope="module")
def scraped(local_parts: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What worker and sink say after ten events, two of them twice, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("observe")
    settings = local_parts.model_copy(
        update={
            "home": folder,
            "kafka_brokers": local_parts.brokers(),
            "clickhouse_url": local_parts.clickhouse(),
            "kafka_simulated": local_parts.is_simulated(),
            "database": "observed",
            "topic_prefix": "observed.",
            "partitions": 1,
            "checkpoint_seconds": 0.2,
            "sink_batch_seconds": 0.2,
        }
    )
    set_up(settings, CATALOG)
    with started(settings, "worker", folder) as worker, started(settings, "sink", folder) as sink:
        events = [event(n) for n in range(10)]
        send(settings, *events, *events[:2], b"not an event")
        wait_for(lambda books: books.counters().read == 13, settings, 180)
        wait_for_status(worker, "ready")
        wait_for_status(sink, "ready")
        return {
            "worker": get(worker, "/metrics")[1],
            "sink": get(sink, "/metrics")[1],
            "live": str(get(worker, "/health/live")[0]),
        }


@pytest.mark.parts
@pytest.mark.timeout(400)
def test_what_was_read_is_the_sum_of_its_outcomes(scraped: dict[str, str]) -> None:
    found = samples(scraped["worker"])
    outcomes = {
        labels[0]: value for (name, labels), value in found.items() if name == "metering_events_total"
    }
    assert outcomes == {"accepted": 10, "duplicate": 2, "rejected": 1}
    assert found["metering_events_read_total", ("0",)] == sum(outcomes.values())


@pytest.mark.parts
@pytest.mark.timeout(400)
def test_a_worker_says_where_it_stands(scraped: dict[str, str]) -> None:
    found = samples(scraped["worker"])
    assert found["metering_position_records", ("0", "usage.events")] >= 13
    assert found["metering_lag_records", ("0", "usage.events")] == 0
    assert abs(found["metering_watermark_timestamp_seconds", ("0",)] - time.time()) < 3_600
    assert found["metering_checkpoint_seconds_count", ()] > 0
    assert found["metering_handle_seconds_count", ("usage.events",)] > 0
    assert found["metering_batches_read_total", ("usage.events",)] > 0
    assert found["metering_rebalances_total", ()] >= 1
    assert found["metering_catalog_revision", ()] == 1
    assert scraped["live"] == "200"


@pytest.mark.parts
@pytest.mark.timeout(400)
def test_a_sink_says_what_it_stored(scraped: dict[str, str]) -> None:
    found = samples(scraped["sink"])
    assert found["metering_sink_rows_total", ("events",)] >= 12
    assert found["metering_sink_dead_letters_total", ("not_json",)] == 1
    assert found["metering_sink_flush_seconds_count", ()] > 0
    assert ("metering_sink_oldest_unstored_timestamp_seconds", ()) in found


@pytest.mark.parts
@pytest.mark.timeout(400)
def test_no_label_holds_a_customer_or_an_event(scraped: dict[str, str]) -> None:
    for program in ("worker", "sink"):
        for family in text_string_to_metric_families(scraped[program]):
            for sample in family.samples:
                assert set(sample.labels) <= {
                    "topic", "partition", "outcome", "table", "reason", "remedy", "program", "version", "le",
                }  # fmt: skip


@pytest.mark.parts
@pytest.mark.timeout(400)
@pytest.mark.parametrize("program", ["worker", "sink"])
def test_promtool_has_nothing_to_say_about_the_names(scraped: dict[str, str], program: str) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is missing: make promtool")
    made = subprocess.run([tool, "check", "metrics"], input=scraped[program], capture_output=True, text=True)
    assert (made.stdout + made.stderr).strip() == ""


@pytest.mark.parts
@pytest.mark.timeout(400)
def test_without_a_catalog_a_worker_is_starting(deployment: Settings, tmp_path: Path) -> None:
    asyncio.run(apply(deployment))
    with started(deployment, "worker", tmp_path) as port:
        code, found = wait_for_status(port, "starting")
        assert code == 503
        assert "catalog" in found["reason"]
        assert get(port, "/health/live")[0] == 200


@pytest.mark.parts
@pytest.mark.timeout(400)
def test_a_sink_without_clickhouse_is_degraded_and_left_alone(deployment: Settings, tmp_path: Path) -> None:
    set_up(deployment, CATALOG)
    away = deployment.model_copy(update={"clickhouse_url": f"http://127.0.0.1:{process.free_port()}"})
    with started(away, "sink", tmp_path) as port:
        code, found = wait_for_status(port, "degraded")
        assert code == 200
        assert "ClickHouse does not answer" in found["reason"]
