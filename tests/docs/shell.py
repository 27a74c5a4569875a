"""Blocks run as a reader runs them: in a shell, in one folder, against one deployment."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from metering.demo.pipeline import environment
from metering.settings import Settings
from tests.docs.pages import ROOT, Block, missing
from tests.docs.terminals import PATIENCE, Terminals

_PAUSE = 0.5
_COLD = "#!{python}\nfrom {package}.cli import main\nmain()\n"
_PROGRAMS = {"metering": "metering", "billing-sync": "billing_sync"}
# Not a link: Python looks for its installation beside the name that it was called by.
_PYTHON = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
_AWAITING = """import ast, asyncio, sys
made = eval(compile(sys.argv[1], "the page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
asyncio.run(made) if asyncio.iscoroutine(made) else None
"""
_OWN = {"_", "SHLVL", "PWD", "OLDPWD"}  # variables that each shell sets for itself
_IN_FORCE = re.compile(r"revision (\d+) \(\w+\) is in force")


class Reader:
    """Someone who follows the pages literally.

    `folder` is the repository's as the pages use it, with our programs in `.venv/bin`; `places` are the
    addresses on the pages with those of this deployment.
    """

    def __init__(
        self, settings: Settings, folder: Path, places: Mapping[str, str], env: Mapping[str, str]
    ) -> None:
        self._folder, self._places, self._settings = folder, places, settings
        self._terminals = Terminals(folder)
        self._env = {**os.environ, **environment(settings), "COLUMNS": "160", "HOME": str(folder), **env}
        self._env["PYTHONPATH"] = str(ROOT)
        # Completion is for the shell that called: behind the warm programs there is none.
        cold = programs(folder / "cold", _COLD)
        self._cold = {**self._env, "PATH": f"{cold}{os.pathsep}{os.environ['PATH']}"}
        self._env["PATH"] = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def follow(self, block: Block) -> None:
        """Run a block; AssertionError with its place when it fails or says something else."""
        if "real broker" in block.says and self._settings.kafka_simulated:
            return
        for shown, here in self._places.items():
            block = block._replace(text=block.text.replace(shown, here))
        if block.said("background"):
            self._terminals.start(block, self._env)
            return
        self._terminals.arrange(block.said("stopped"), self._env)
        self._until_it_works(block)

    def _until_it_works(self, block: Block) -> None:
        deadline = time.monotonic() + (PATIENCE if "wait" in block.says else 0)
        while True:
            problem = self._problem(block)
            if not problem:
                return
            assert time.monotonic() < deadline, f"{block.place}: {problem}"
            time.sleep(_PAUSE)

    def _problem(self, block: Block) -> str:
        for example, command in re.findall(r"here (\S+) is: (.*)", "\n".join(block.says)):
            found = self._run(["bash", "-euo", "pipefail", "-c", command]).stdout.split()
            if not found:
                return f"nothing stands for {example}"
            block = block._replace(text=block.text.replace(example, found[0]))
        return self._said_otherwise(block)

    def _said_otherwise(self, block: Block) -> str:
        if block.said("line by line"):
            return self._terminals.line_by_line(block, self._env)
        if block.language == "sh":
            exported = self._folder / "exported"
            done = self._run(
                ["bash", "-euo", "pipefail", "-c", f"{block.text}\nenv -0 > '{exported}'"],
                cold="-completion" in block.text,
            )
        else:
            done = self._run([sys.executable, "-c", _AWAITING, block.text])
        said = (done.stdout + done.stderr).replace(self._settings.topic_prefix, "")
        if done.returncode:
            return f"exit code {done.returncode}\n{said}"
        line = missing(block.expected, said)
        if line:
            return f"it does not say `{line}` but\n{said}"
        if block.language == "sh" and "export " in block.text:
            self._keep(exported.read_text())
        self._wait_for_catalog(said)
        return ""

    def _run(self, words: list[str], *, cold: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self._folder,
            env=self._cold if cold else self._env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def _keep(self, exported: str) -> None:
        """What a block has exported holds from then on, as in a terminal."""
        found = dict(one.split("=", 1) for one in exported.split("\0") if one)
        self._env = {k: v for k, v in found.items() if k not in _OWN}

    def _wait_for_catalog(self, said: str) -> None:
        """A person is slower than a worker: what is sent next comes behind the catalog that was published."""
        revision = _IN_FORCE.search(said)
        log = self._folder / self._env["METERING_HOME"] / "run" / "worker-1.log"
        if not revision or not log.exists() or not self._terminals.runs("metering dev"):
            return
        deadline = time.monotonic() + PATIENCE
        while int(revision[1]) not in _adopted(log):
            assert time.monotonic() < deadline, f"the worker does not take revision {revision[1]}: {log}"
            time.sleep(_PAUSE / 5)

    def stop(self) -> None:
        """Stop what stayed running."""
        self._terminals.close()


def _adopted(log: Path) -> set[int]:
    lines = [line for line in log.read_text().splitlines() if '"catalog_adopted"' in line]
    return {json.loads(line)["revision"] for line in lines}


def programs(folder: Path, text: str) -> Path:
    """A folder with our programs, each made from a text."""
    folder.mkdir(parents=True)
    for program, package in _PROGRAMS.items():
        (folder / program).write_text(text.format(python=sys.executable, program=program, package=package))
    for name in ("python", "python3"):
        (folder / name).write_text(_PYTHON)
    for file in folder.iterdir():
        file.chmod(0o755)
    return folder
