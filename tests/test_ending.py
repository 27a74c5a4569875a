"""A process that must not go on ends, whatever becomes of its log."""

import subprocess
import sys
from pathlib import Path

from metering.ending import EXIT_CRASH

DIE = """
from metering.app import configure_logs
from metering.ending import die
from metering.errors import UserError
configure_logs("INFO")
die("state_not_loaded", UserError("what happened", hint="what to do"), partition=3)
"""


def test_it_says_why_and_what_to_do() -> None:
    ended = subprocess.run([sys.executable, "-c", DIE], capture_output=True, text=True)
    assert ended.returncode == EXIT_CRASH
    assert '"error": "what happened", "hint": "what to do"' in ended.stderr


def test_it_ends_when_the_disk_of_its_log_is_full() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", DIE], stderr=full)
    assert ended.returncode == EXIT_CRASH
