"""Environments of the peers: a virtual environment or a Maven build each, in the user's cache folder."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from metering.errors import UserError
from metering.local import kafka

_HERE = Path(__file__).parent
_PROJECT = _HERE / "kafka-streams"
_SECONDS = 900


def python_of(peer: str) -> str:
    """The interpreter of a peer; made on first use from its pinned requirements."""
    pins = _HERE / "requirements" / f"{peer}.txt"
    if not pins.exists():
        return sys.executable  # a limit: our own client libraries
    folder = _folder(peer, pins.read_bytes())
    interpreter = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)], peer)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([str(interpreter), *install, "-r", str(pins)], peer)
        (folder / "ready").touch()
    return str(interpreter)


def kafka_streams() -> list[str]:
    """The command that runs the Kafka Streams peer, built with Maven on first use."""
    java, mvn = kafka.find_java(), shutil.which("mvn")
    if java is None or mvn is None or shutil.which("javac") is None:
        raise UserError("Kafka Streams needs a JDK and Maven", hint="install them, or leave this peer out")
    sources = [_PROJECT / "pom.xml", *sorted(_PROJECT.rglob("*.java"))]
    folder = _folder("kafka-streams", b"".join(file.read_bytes() for file in sources))
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(_PROJECT, folder / "project", ignore=shutil.ignore_patterns("target"))
        goals = ["package", "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'libs'}"]
        _run([mvn, "-q", "-B", "-f", str(folder / "project" / "pom.xml"), *goals], "kafka-streams")
        (folder / "ready").touch()
    path = f"{folder}/project/target/bench-kafka-streams-1.jar:{folder}/libs/*"
    return [java, "-Xmx2g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", path]


def _folder(peer: str, content: bytes) -> Path:
    return kafka.cache_folder().parent / "peers" / f"{peer}-{hashlib.sha256(content).hexdigest()[:12]}"


def _run(command: list[str], peer: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[:8])
        raise UserError(f"the environment of {peer} was not made:\n{said}", hint="is the registry reachable?")
