"""Readers of the pages, each with a folder and a deployment of their own."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from metering.local import process
from metering.local.process import free_port
from metering.settings import Settings
from tests.docs.pages import DOCS, ROOT, blocks
from tests.docs.shell import Reader, programs
from tests.docs.terminals import PATIENCE
from tests.docs.warm import CALL
from tests.notify.conftest import SECRET, Hook, Mails

_BESIDE = ("Makefile", "pyproject.toml", "hatch_build.py", "constraints.txt", ".env.example")
_PORTS = ("8091",)  # as options on the pages; the others are settings


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where our programs answer that are loaded once."""
    folder = tmp_path_factory.mktemp("warm")
    socket, log, pid_file = folder / "socket", folder / "log", folder / "pid"
    words = [sys.executable, "-m", "tests.docs.warm", str(socket)]
    running = process.start(words, pid_file=pid_file, log_file=log, env={"COLUMNS": "160"}, cwd=ROOT)
    process.wait_until_ready(running, socket.exists, what="programs", log_file=log, seconds=PATIENCE)
    yield socket
    process.stop(pid_file)


@pytest.fixture
def newcomer(local_parts: Settings, warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader of the front page."""
    with _reader(local_parts, warm, tmp_path_factory.mktemp("newcomer")) as found:
        yield found


@pytest.fixture
def reader(local_parts: Settings, warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader of the tutorial."""
    with _reader(local_parts, warm, tmp_path_factory.mktemp("reader")) as found:
        yield found


@contextmanager
def _reader(local_parts: Settings, warm: Path, folder: Path) -> Iterator[Reader]:
    name = "".join(c for c in folder.name if c.isalnum())
    settings = local_parts.model_copy(
        update={
            "home": folder / "home",
            "kafka_brokers": local_parts.brokers(),
            "kafka_simulated": local_parts.is_simulated(),
            "clickhouse_url": local_parts.clickhouse(),
            "database": f"docs_{name}",
            "topic_prefix": f"docs.{name}.",
            "checkpoint_seconds": 0.2,
            "sink_batch_seconds": 0.2,
            "tick_idle_seconds": 86_400.0,  # months close by the usage on the pages, not by today's date
        }
    )
    hook, mails = Hook(), Mails()
    quotad, web, watch = (str(free_port()) for _ in range(3))
    env = {
        "METERING_QUOTAD_PORT": quotad,
        "METERING_WEB_PORT": web,
        "METERING_NOTIFY_FILE": str(_notify_file(folder / "notify", hook, mails)),
    }
    places = {port: str(free_port()) for port in _PORTS} | {
        ":8710": f":{quotad}",
        "metering watch  ": f"metering watch --port {watch} ",
        "topics grow": "topics grow --wait 1",  # no producer of the pages has metadata of before
        '"127.0.0.1:9092"': f'"{settings.brokers()}", prefix="{settings.topic_prefix}"',
    }
    _as_installed(folder, warm)
    found = Reader(settings, folder, places, env)
    try:
        yield found
    finally:
        found.stop()
        hook.stop()
        mails.stop()


def _as_installed(folder: Path, warm: Path) -> None:
    """What `make install` leaves of the repository, as far as the pages use it."""
    for name in ("examples", "dashboards"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("node_modules"))
    for name in _BESIDE:
        shutil.copy(ROOT / name, folder / name)
    bin_ = programs(folder / ".venv" / "bin", CALL.replace("{path!r}", repr(str(warm))))
    (bin_ / "activate").write_text("# The programs are on the path.\n")
    (folder / ".venv" / ".ready").touch()


def _notify_file(folder: Path, hook: Hook, mails: Mails) -> Path:
    """The file on the page of notifications, with receivers that are there."""
    (page,) = (b.text for b in blocks(DOCS / "notifications.md") if b.language == "yaml")
    said = yaml.safe_load(page)
    said["webhooks"][0]["url"] = hook.url
    server = {"host": "127.0.0.1", "port": mails.port, "security": "none"}
    said["smtp"] = server | {"sender": said["smtp"]["sender"]}
    folder.mkdir()
    (folder / "ops.secret").write_text(SECRET)
    (folder / "notify.yaml").write_text(yaml.safe_dump(said))
    return folder / "notify.yaml"
