"""Processes of the local parts: started apart from the terminal, found again, stopped by their id."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from metering.errors import UserError

STOP_SECONDS = 20.0
_PORTS = range(20_000, 30_000)


class Running(NamedTuple):
    """A process, told from a later one with the same id by its start time."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return _start_time(self.pid) == self.started


def start(
    command: Sequence[str],
    *,
    pid_file: Path,
    log_file: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Running:
    """Start a command in a session of its own; its output goes to `log_file`."""
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    running = Running(process.pid, _start_time(process.pid))
    pid_file.write_text(f"{running.pid} {running.started}\n")
    return running


def find(pid_file: Path) -> Running | None:
    """The process that a pid file names, if it still runs."""
    try:
        pid, started = pid_file.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    running = Running(int(pid), started)
    return running if running.is_alive() else None


def stop(pid_file: Path, *, seconds: float = STOP_SECONDS) -> bool:
    """Stop the process that a pid file names; True when one was running."""
    running = find(pid_file)
    if running is not None:
        _signal(running, signal.SIGTERM)
        if not _wait(lambda: not running.is_alive(), seconds):
            _signal(running, signal.SIGKILL)
            _wait(lambda: not running.is_alive(), 5.0)
    pid_file.unlink(missing_ok=True)
    return running is not None


def wait_until_ready(
    running: Running, is_ready: Callable[[], bool], *, what: str, log_file: Path, seconds: float
) -> None:
    """Wait until a started process answers; an early end or a deadline is an error with its log."""
    if _wait(lambda: is_ready() or not running.is_alive(), seconds) and running.is_alive():
        return
    state = "did not answer in time" if running.is_alive() else "ended while starting"
    tail = "\n".join(log_file.read_text(errors="replace").splitlines()[-8:])
    raise UserError(f"{what} {state}; the end of {log_file}:\n{tail}", hint="read the whole log")


def is_listening(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A loopback port that is free now.

    Below the range from which the system picks ports for outgoing connections: one of those could
    take a part's port while the part is down.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise UserError(
        f"no port from {_PORTS[0]} to {_PORTS[-1]} is free on loopback", hint="stop what listens there"
    )


def wait_until_free(port: int, seconds: float) -> bool:
    """Wait until a killed process has let go of its port."""
    return _wait(lambda: not is_listening(port), seconds)


def _signal(running: Running, number: int) -> None:
    if running.is_alive():
        os.kill(running.pid, number)


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if fields[0] == "Z":
        _reap(pid)
        return ""
    return fields[19]


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # somebody else's child
