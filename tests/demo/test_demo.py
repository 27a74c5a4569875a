"""The demo's account on the real parts, and exactness through kills."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from metering.demo import traffic as made
from metering.demo.pipeline import Pipeline
from metering.demo.run import run_demo
from metering.local import process
from metering.settings import Settings

ROOT = Path(__file__).parent.parent.parent
BILL = "39.055310"  # of the largest customer, as the README prints it


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def run(settings: Settings, folder: Path, *, workers: int = 1) -> tuple[int, str]:
    figures = folder / "figures.json"
    own = settings.model_copy(update={"home": folder, "kafka_brokers": settings.brokers()})
    own = own.model_copy(update={"clickhouse_url": settings.clickhouse()})
    code = run_demo(own, workers=workers, json_file=figures)
    return code, figures.read_text()


def kill_when_it_runs(pid_file: Path, delays: list[float], killed: list[int]) -> threading.Thread:
    def work() -> None:
        deadline = time.monotonic() + 60
        while not pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        for delay in delays:
            time.sleep(delay)
            running = process.find(pid_file)
            if running is not None:
                os.kill(running.pid, signal.SIGKILL)
                killed.append(running.pid)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_the_traffic_is_the_trace(tmp_path: Path) -> None:
    sent = made.traffic(ROOT / "examples" / "llm" / "data")
    assert (sent.requests, sent.input_tokens, sent.output_tokens) == (28_185, 40_421_844, 4_334_561)
    assert len(sent.records) == sent.requests + sent.duplicates + sent.malformed


def test_the_traffic_is_the_same_each_time() -> None:
    folder = ROOT / "examples" / "llm" / "data"
    assert made.traffic(folder).records == made.traffic(folder).records


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_the_account_adds_up(local_parts: Settings, tmp_path: Path) -> None:
    code, figures = run(local_parts, tmp_path)
    assert code == 0
    assert f'"total": "{BILL}"' in figures


@pytest.mark.parts
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "workers", "delays"),
    [("worker-1", 1, [4.0, 3.0]), ("worker-2", 2, [5.0]), ("sink-1", 1, [4.0, 2.0])],
)
@pytest.mark.slow
def test_the_account_is_the_same_through_kills(
    local_parts: Settings, tmp_path: Path, name: str, workers: int, delays: list[float]
) -> None:
    killed: list[int] = []
    thread = kill_when_it_runs(tmp_path / "demo" / "run" / f"{name}.pid", delays, killed)
    code, figures = run(local_parts, tmp_path, workers=workers)
    thread.join(30)
    assert killed, "nothing was killed: the test proves nothing"
    assert code == 0
    assert f'"total": "{BILL}"' in figures


def test_a_pipeline_names_its_processes(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka_brokers="k:1", clickhouse_url="http://c:2")
    assert Pipeline(settings, settings, 2, print).pids() == {}
