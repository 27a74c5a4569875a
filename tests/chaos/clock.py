"""Stepping the wall clock of one process: a small library built with the C compiler, if there is one."""

import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")
_SECOND = 1_000_000_000


class Clocks:
    """A clock for each process; all run with the machine's until they are stepped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._library = _build(folder)

    @property
    def can_step(self) -> bool:
        """Whether there is a library to step clocks with."""
        return self._library is not None

    def environment(self, name: str) -> dict[str, str]:
        """What a process needs in its environment so that its clock can be stepped."""
        if self._library is None:
            return {}
        if not self._file(name).exists():
            self._file(name).write_bytes(struct.pack("q", 0))
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file(name))}

    def step(self, name: str, seconds: int) -> None:
        """Set the difference between a process's clock and the machine's."""
        with self._file(name).open("r+b") as file:
            file.write(struct.pack("q", seconds * _SECOND))

    def _file(self, name: str) -> Path:
        return (self._folder / f"{name}.step").resolve()


def _build(folder: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = (folder / "clock.so").resolve()
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"]
    return library if subprocess.run(command, capture_output=True, timeout=60).returncode == 0 else None
