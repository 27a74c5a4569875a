"""The readers of `quota.state` in other languages: the vectors, and a topic on the real Kafka."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from metering.quota.limits import ONE
from metering.settings import Settings
from metering.state.fold import Output
from metering.state.publish import Publisher
from metering.topics import Names, apply
from tests.quota.world import catalog, quotas

ROOT = Path(__file__).parent.parent.parent
EXAMPLES, VECTORS = ROOT / "examples", ROOT / "tests" / "vectors" / "quota"
node = pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not here")
go = pytest.mark.skipif(not shutil.which("go"), reason="go is not here")


def run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "QUOTA_VECTORS": str(VECTORS)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def node_program(tmp_path: Path) -> list[str]:
    """The example with its packages, in a folder of its own."""
    folder = tmp_path / "node"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--prefer-offline"], folder)
    return ["node", str(folder / "check.mjs")]


def go_program(tmp_path: Path) -> list[str]:
    run(["go", "build", "-o", str(tmp_path / "reader"), "."], EXAMPLES / "go")
    return [str(tmp_path / "reader")]


@node
def test_node_answers_as_the_vectors_say() -> None:
    assert "all as they should be" in run(["node", "vectors.mjs", str(VECTORS)], EXAMPLES / "node")


@go
@pytest.mark.timeout(240)
def test_go_answers_as_the_vectors_say() -> None:
    assert "ok" in run(["go", "test", "-count=1", "./..."], EXAMPLES / "go")
    assert run(["gofmt", "-l", "."], EXAMPLES / "go") == ""


def publish(settings: Settings) -> None:
    """What an owner writes for two customers, one of them in a pool, in one of two partitions."""
    limit = {"id": "l", "meter": "tokens", "units": 100, "window": "month"}
    members = [{"id": "a"}, {"id": "b", "pool": "p"}]
    now = time.time_ns() // 1_000_000
    owner = quotas(catalog({"limits": [limit], "pools": [{"id": "p"}], "customers": members}), now)
    owner.post("a", "tokens", (), now, 40 * ONE)
    records = [*owner.take(1).states, owner.heartbeat(now)]

    async def work() -> None:
        publisher = Publisher(settings.brokers())
        await publisher.start()
        topic = Names(settings).quota_state
        await publisher.publish(0, [Output(topic, key, value) for key, value in records])
        await publisher.stop()

    asyncio.run(apply(settings))
    asyncio.run(work())


@pytest.mark.parts
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "program", [pytest.param(node_program, marks=node), pytest.param(go_program, marks=go)]
)
def test_a_reader_answers_from_kafka(
    program: Callable[[Path], list[str]], deployment: Settings, tmp_path: Path
) -> None:
    own = deployment.model_copy(update={"partitions": 2})
    publish(own)
    command = program(tmp_path)

    def asked(customer: str, quantity: int) -> dict[str, str]:
        words = [*command, own.brokers(), customer, "tokens", str(quantity), own.topic_prefix]
        found: dict[str, str] = json.loads(run(words, tmp_path))
        return found

    denied = {"verdict": "deny", "reason": "limit_reached", "limit": "l", "key": "a"}
    assert asked("a", 61) == denied
    assert asked("a", 60) == {**denied, "verdict": "reserve", "reason": "strict_zone"}
    assert asked("b", 5) == {"verdict": "allow", "reason": "ok", "limit": "", "key": "p"}
