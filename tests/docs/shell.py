"""Blocks run as a reader runs them: in a shell, in one folder, against one deployment."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from metering.demo.pipeline import environment
from metering.local import process
from metering.settings import Settings
from tests.docs.pages import ROOT, Block, missing
from tests.docs.warm import CALL

_PATIENCE = 240.0  # machines are shared; a step that works takes a second
_PAUSE = 0.5
INSTALLED = "#!{python}\nfrom {package}.cli import main\nmain()\n"


class Reader:
    """Someone who follows the pages literally."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._folder = folder
        self._background: list[Path] = []
        self._env = {**os.environ, **environment(settings), "COLUMNS": "160"}
        self._env |= {"PYTHONPATH": str(ROOT), "METERING_HOME": str(folder / "home")}
        self._own = self._with_programs("installed", INSTALLED)
        socket = folder / "warm"
        self._start(Block("", 0, "", "", f"{sys.executable} -m tests.docs.warm {socket}"), socket.exists)
        self._env = self._with_programs("called", CALL.replace("{path!r}", repr(str(socket))))

    def _with_programs(self, name: str, text: str) -> dict[str, str]:
        """The variables with our programs on the path."""
        folder = self._folder / name
        folder.mkdir()
        for program, package in (("metering", "metering"), ("billing-sync", "billing_sync")):
            file = folder / program
            file.write_text(text.format(python=sys.executable, program=program, package=package))
            file.chmod(0o755)
        # Not a link: Python looks for its installation beside the name that it was called by.
        python = folder / "python3"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        return {**self._env, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def follow(self, block: Block) -> None:
        """Run a block; AssertionError with its place when it fails or says something else."""
        if block.says == "background":
            self._start(block)
            return
        deadline = time.monotonic() + (_PATIENCE if block.says == "wait" else 0)
        while True:
            problem = self._problem(block)
            if not problem:
                return
            assert time.monotonic() < deadline, f"{block.place}: {problem}"
            time.sleep(_PAUSE)

    def _problem(self, block: Block) -> str:
        shell = ["bash", "-euo", "pipefail"] if block.language == "sh" else [sys.executable]
        done = subprocess.run(
            [*shell, "-c", block.text],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        said = done.stdout + done.stderr
        if done.returncode:
            return f"exit code {done.returncode}\n{said}"
        line = missing(block.expected, said)
        return f"it does not say `{line}` but\n{said}" if line else ""

    def _start(self, block: Block, is_ready: Callable[[], bool] | None = None) -> None:
        file = self._folder / f"background-{len(self._background)}.pid"
        log = file.with_suffix(".log")
        words = ["bash", "-c", f"cd '{self._folder}' && exec {block.text.strip()}"]
        running = process.start(words, pid_file=file, log_file=log, env=self._own)
        self._background.append(file)
        ready = is_ready or (lambda: "Ctrl-C" in log.read_text())
        process.wait_until_ready(running, ready, what=block.text, log_file=log, seconds=_PATIENCE)

    def stop(self) -> None:
        """Stop what stayed running."""
        for file in self._background:
            process.stop(file, seconds=30)
