"""`metering status` on the real parts: a live, a quiet and a dead partition, and what waits for a person."""

import json
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from typer.testing import CliRunner

from metering import standing
from metering.cli import app
from metering.demo.pipeline import environment
from metering.settings import Settings
from metering.state.partitioning import partition_of
from tests.demo.world import running, send, wait_for
from tests.state.folding import CATALOG, event


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_live_quiet_and_dead_partitions_and_open_letters(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = deployment.model_copy(update={"tick_idle_seconds": 4.0})
    for name, value in environment(own).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "120")
    mine = partition_of("a", own.partitions)
    other = (mine + 1) % own.partitions

    def metering(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    def now() -> Any:
        return json.loads(metering("status", "--json"))

    def state(partition: int) -> str:
        return str(now()["partitions"][partition]["state"])

    with running(own, CATALOG):
        numbers = count()

        def usage_flows() -> bool:
            send(own, event(next(numbers)), b"noise")
            return state(mine) == "live"

        until(usage_flows)
        assert state(other) == "quiet"
        sent = next(numbers)
        wait_for(lambda books: books.counters().read == 2 * sent, own)
        metering("rejected", "discard", f"{mine}:1", "--reason", "a test", "--yes")
        until(lambda: state(mine) == "quiet")
        until(lambda: now()["not_stored"] <= 1)  # a tick
        until(lambda: now()["dead_letters"]["not_json"]["discarded"] == 1)
        said = metering("status")
        assert "quiet" in said
        assert "dead" not in said.replace("Dead letters", "")
        found = now()
        assert found["events"]["read"] == 2 * sent
        assert found["dead_letters"]["not_json"]["open"] == sent - 1
        assert found["watermark"] > (time.time() - 60) * 1_000  # though nobody uses anything
    send(own, event(1_000), event(1_001), event(1_002))
    monkeypatch.setattr(standing, "DEAD_SECONDS", 0.5)
    until(lambda: state(mine) == "dead")
    one = now()["partitions"][mine]
    assert one["lag"] >= 3
    said = metering("status")
    assert "start a worker" in said
    assert "(dead) holds it back" in said
