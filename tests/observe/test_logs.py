"""Logs have one format, whoever writes them, and withhold what they must not hold."""

import json
import subprocess
import sys

SCRIPT = """
import logging, logging.config
import structlog
from metering.observe.logs import configure
logging.config.dictConfig(configure("INFO"))
structlog.get_logger().info("gap_seek_back", topic="t", partition=1, offset=7, payload=b"{}", key="acme")
structlog.get_logger().debug("never")
logging.getLogger("faust.worker").info("started %s", "worker-1")
logging.getLogger("aiokafka.consumer").info("a heartbeat")
logging.getLogger("aiokafka.consumer").warning("lost")
try:
    raise ValueError("x")
except ValueError:
    logging.getLogger("mode").exception("crashed")
"""


def lines() -> list[dict[str, object]]:
    made = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert made.stdout == ""
    return [json.loads(line) for line in made.stderr.splitlines()]


def test_every_line_is_an_object_with_event_level_and_time() -> None:
    found = lines()
    assert [line["event"] for line in found] == ["gap_seek_back", "started worker-1", "lost", "crashed"]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in found)
    assert "ValueError: x" in str(found[3]["exception"])


def test_our_facts_are_keys_and_payloads_are_withheld() -> None:
    first = lines()[0]
    assert (first["topic"], first["partition"], first["offset"]) == ("t", 1, 7)
    assert (first["payload"], first["key"]) == ("(withheld)", "(withheld)")
