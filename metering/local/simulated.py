"""The simulated broker: librdkafka's mock cluster in a process of its own, memory only.

For machines where neither Java nor Maven can be had. It knows groups and commits, but no topic
settings, no compaction and no disk; what it holds is gone when it stops.
"""

import argparse
import signal
import sys
from pathlib import Path

from metering.local import process

NAME = "simulated broker, memory only"
_START_SECONDS = 20.0


def start(folder: Path) -> tuple[process.Running, int]:
    """Start the simulated broker; the port is its own choice."""
    folder.mkdir(parents=True, exist_ok=True)
    port_file, log_file = folder / "port", folder / "simulated.log"
    port_file.unlink(missing_ok=True)
    running = process.start(
        [sys.executable, "-m", "metering.local.simulated", "--port-file", str(port_file)],
        pid_file=folder / "pid",
        log_file=log_file,
    )
    process.wait_until_ready(running, port_file.exists, what=NAME, log_file=log_file, seconds=_START_SECONDS)
    return running, int(port_file.read_text())


def main() -> None:
    """Serve until told to stop."""
    from confluent_kafka import Producer

    parser = argparse.ArgumentParser(description=NAME)
    parser.add_argument("--port-file", type=Path, required=True)
    port_file: Path = parser.parse_args().port_file
    cluster = Producer({"test.mock.num.brokers": 1})
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    partial = port_file.with_suffix(".new")
    partial.write_text(str(broker.port))
    partial.rename(port_file)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
