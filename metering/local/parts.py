"""The local parts together: up, down, status, and the file that tells the others where they are."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from metering.local import kafka, process, simulated
from metering.settings import Settings

KAFKA, CLICKHOUSE = "kafka", "clickhouse"
_CLICKHOUSE_SECONDS = 60.0
_RELEASE_SECONDS = 10.0
_CLICKHOUSE_NAME = "ClickHouse, embedded engine (chDB)"

Tell = Callable[[str], None]


class Part(NamedTuple):
    """One part as it is now."""

    name: str
    kind: str
    address: str
    running: bool
    pid: int
    data: str


def up(settings: Settings, tell: Tell = lambda _: None) -> list[Part]:
    """Start what is not running and not given by the environment; safe to call again."""
    ports = _ports(settings)
    if settings.kafka_brokers:
        _announce(settings, KAFKA, settings.kafka_brokers, "given by KAFKA_BROKERS")
    else:
        _timed(tell, KAFKA, lambda: _start_kafka(settings, ports))
    if settings.clickhouse_url:
        _announce(settings, CLICKHOUSE, settings.clickhouse_url, "given by CLICKHOUSE_URL")
    else:
        _timed(tell, CLICKHOUSE, lambda: _start_clickhouse(settings, ports))
    return status(settings)


def down(settings: Settings) -> list[str]:
    """Stop what `up` started; the names of what was running."""
    stopped = [name for name in (CLICKHOUSE, KAFKA) if process.stop(_folder(settings, name) / "pid")]
    settings.endpoints_file.unlink(missing_ok=True)
    return stopped


def restart(settings: Settings, name: str) -> None:
    """Start one part again on its port; its data is where it was."""
    process.stop(_folder(settings, name) / "pid")  # a killed process can take a moment to be gone
    ports = _ports(settings)
    if name == KAFKA:
        _start_kafka(settings, ports)
    else:
        _start_clickhouse(settings, ports)


def is_alive(settings: Settings, name: str) -> bool:
    """Whether a part that we started is still running; one that was given always counts as alive."""
    given = settings.kafka_brokers if name == KAFKA else settings.clickhouse_url
    return bool(given) or process.find(_folder(settings, name) / "pid") is not None


def status(settings: Settings) -> list[Part]:
    """Both parts as they are now."""
    known = _read(settings.endpoints_file)
    parts = []
    for name in (KAFKA, CLICKHOUSE):
        given = settings.kafka_brokers if name == KAFKA else settings.clickhouse_url
        running = process.find(_folder(settings, name) / "pid")
        parts.append(
            Part(
                name,
                str(known.get(f"{name}_kind", "not started")),
                given or str(known.get(name, "")),
                bool(given) or running is not None,
                running.pid if running else 0,
                "" if given else str(_folder(settings, name)),
            )
        )
    return parts


def _start_kafka(settings: Settings, ports: dict[str, int]) -> str:
    folder = _folder(settings, KAFKA)
    running = process.find(folder / "pid")
    if running is not None:
        return str(_read(settings.endpoints_file).get("kafka_kind", kafka.NAME))
    if os.environ.get("METERING_LOCAL_KAFKA") == "simulated" or not kafka.is_available():
        running, port = simulated.start(folder)
        kind = simulated.NAME
    else:
        kafka.download()
        port = ports["broker"]
        running = kafka.start(folder, port, ports["controller"])
        kind = f"{kafka.NAME}, one KRaft node, process {running.pid}"
    _announce(settings, KAFKA, f"127.0.0.1:{port}", kind)
    return kind


def _start_clickhouse(settings: Settings, ports: dict[str, int]) -> str:
    folder = _folder(settings, CLICKHOUSE)
    running = process.find(folder / "pid")
    if running is None:
        port = ports["clickhouse"]
        command = [sys.executable, "-m", "metering.local.clickhouse"]
        command += ["--path", str(folder.resolve()), "--port", str(port)]
        log_file = folder / "clickhouse.log"
        running = process.start(
            command,
            pid_file=folder / "pid",
            log_file=log_file,
            env={"TMPDIR": str(folder.resolve())},
        )
        process.wait_until_ready(
            running,
            lambda: process.is_listening(port),
            what=_CLICKHOUSE_NAME,
            log_file=log_file,
            seconds=_CLICKHOUSE_SECONDS,
        )
        kind = f"{_CLICKHOUSE_NAME}, process {running.pid}"
        _announce(settings, CLICKHOUSE, f"http://127.0.0.1:{port}", kind)
    return str(_read(settings.endpoints_file).get("clickhouse_kind", _CLICKHOUSE_NAME))


def _timed(tell: Tell, name: str, start: Callable[[], str]) -> None:
    began = time.monotonic()
    kind = start()
    tell(f"{name:<10} {kind} ({time.monotonic() - began:.1f} s)")


def _folder(settings: Settings, name: str) -> Path:
    return settings.home / "local" / name


def _ports(settings: Settings) -> dict[str, int]:
    """Ports stay the same over down and up, unless somebody else took them."""
    file = settings.home / "local" / "ports.json"
    ports = {name: int(str(port)) for name, port in _read(file).items()}
    owners = {"broker": KAFKA, "controller": KAFKA, "clickhouse": CLICKHOUSE}
    for name, part in owners.items():
        mine = process.find(_folder(settings, part) / "pid") is not None
        if name not in ports or not (mine or process.wait_until_free(ports[name], _RELEASE_SECONDS)):
            ports[name] = process.free_port()
    _write(file, ports)
    return ports


def _announce(settings: Settings, name: str, address: str, kind: str) -> None:
    known = _read(settings.endpoints_file)
    _write(settings.endpoints_file, {**known, name: address, f"{name}_kind": kind})


def _read(file: Path) -> dict[str, object]:
    try:
        return dict(json.loads(file.read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def _write(file: Path, content: dict[str, object] | dict[str, int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(file)
