"""Commands that stay running, each in a terminal of its own, until they are stopped."""

import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from metering.local import process
from tests.docs.pages import Block

PATIENCE = 240.0  # machines are shared; a step that works takes a second
_STOP_SECONDS = 90.0  # what is stopped may stop others in turn
_PAUSE = 0.1
_CTRL_C = (0, 130)


class _Open(NamedTuple):
    """A command that runs, or is stopped for a while."""

    command: str
    block: Block
    pid_file: Path


class Terminals:
    """What stays running while a reader goes on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[_Open] = []
        self._stopped: list[_Open] = []
        self._count = 0

    def runs(self, command: str) -> bool:
        """Whether a command runs in one of them."""
        return any(one.command == command for one in self._open)

    def start(self, block: Block, env: Mapping[str, str]) -> None:
        """Start the last line of a block behind the others, and wait until it says that it is ready."""
        *before, last = map(_command, block.text.strip().splitlines())
        log = self._log()
        words = ["bash", "-euc", "\n".join([f"cd '{self._folder}'", *before, f"exec {last}"])]
        pid_file = log.with_suffix(".pid")
        running = process.start(words, pid_file=pid_file, log_file=log, env=env)
        self._open.append(_Open(last, block, pid_file))
        self._stopped = [one for one in self._stopped if one.command != last]  # this is its new terminal
        process.wait_until_ready(
            running,
            lambda: block.said("background") in log.read_text(),
            what=block.place,
            log_file=log,
            seconds=PATIENCE,
        )

    def arrange(self, stopped: str, env: Mapping[str, str]) -> None:
        """Stop a command; start again those that need not stand still any more."""
        for one in [one for one in self._open if one.command == stopped]:
            self._open.remove(one)
            process.stop(one.pid_file, seconds=_STOP_SECONDS)
            self._stopped.append(one)
        if not stopped:
            for one in self._stopped:
                self.start(one.block, env)

    def line_by_line(self, block: Block, env: Mapping[str, str]) -> str:
        """Run each line until it has said what it should, and end it with Ctrl-C; what went wrong."""
        for line in block.text.strip().splitlines():
            log, text = self._log(), re.compile(block.said("line by line"))
            with log.open("w") as out:
                words = ["bash", "-euc", f"exec env --default-signal=INT {line}"]
                done = subprocess.Popen(words, cwd=self._folder, env=dict(env), stdout=out, stderr=out)
            code, allowed = _until_said(done, log, text)
            said = log.read_text()
            if code not in allowed or not text.search(said):
                return f"`{line}` ends with {code} and says\n{said}"
        return ""

    def close(self) -> None:
        """Stop what runs."""
        for one in reversed(self._open):
            process.stop(one.pid_file, seconds=_STOP_SECONDS)

    def _log(self) -> Path:
        self._count += 1
        return self._folder / f"terminal-{self._count}.log"


def _until_said(
    done: subprocess.Popen[bytes], log: Path, text: re.Pattern[str]
) -> tuple[int, tuple[int, ...]]:
    """The exit code of a command, and the ones that it may have."""
    deadline = time.monotonic() + PATIENCE
    while done.poll() is None and not text.search(log.read_text()) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    if done.poll() is not None:
        return done.wait(), (0,)
    done.send_signal(signal.SIGINT)
    try:
        return done.wait(_STOP_SECONDS), _CTRL_C
    finally:
        done.kill()


def _command(line: str) -> str:
    """A line without the comment behind it."""
    return line.partition("  #")[0].strip()
