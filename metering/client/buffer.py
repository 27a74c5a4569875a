"""Usage that the broker could not take yet, in a file of its own: nothing is lost when it is away.

One JSON line an event, synced before `put` returns. What was sent is struck off by rewriting the file,
so a crash in between sends an event twice; its id counts once.
"""

import os
from pathlib import Path
from typing import NamedTuple

import msgspec


class Waiting(NamedTuple):
    """An event and its key."""

    key: str
    event: dict[str, object]


class Buffer:
    """A file of events that wait; one process uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._waiting = self._read()
        self.strike_off(0)  # what a crash has cut off is not continued

    def __len__(self) -> int:
        return len(self._waiting)

    def _read(self) -> list[Waiting]:
        if not self._path.exists():
            return []
        lines = self._path.read_bytes().split(b"\n")
        lines.pop()  # empty, or cut off by a crash before `put` had returned
        return [msgspec.json.decode(line, type=Waiting) for line in lines]

    def put(self, one: Waiting) -> None:
        """Keep an event; it is on disk when this returns."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(one) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._waiting.append(one)

    def first(self, most: int) -> list[Waiting]:
        """The oldest events."""
        return self._waiting[:most]

    def strike_off(self, sent: int) -> None:
        """Forget the oldest events: the broker has them."""
        rest = self._waiting[sent:]
        partial = self._path.with_suffix(".new")
        with partial.open("wb") as file:
            file.writelines(msgspec.json.encode(one) + b"\n" for one in rest)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
        self._waiting = rest
