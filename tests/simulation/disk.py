"""A disk in memory behind the interface of RocksDB: what was not synced is gone after a power loss."""

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from tests.simulation.chance import Chance
from tests.simulation.clients import alive
from tests.simulation.loop import PROCESS, Process

SYNCED = 0.3  # the share of writes after which the system writes everything out


class Path(PurePosixPath):
    """A path that nothing is made at."""

    def mkdir(self, **_: Any) -> None:
        """There is no such folder."""

    def is_dir(self) -> bool:
        """The ids of these small worlds stay in memory."""
        return False


class Folder:
    """One database: its content, and how to take back what is not synced, oldest first."""

    def __init__(self) -> None:
        self.content: dict[bytes, bytes] = {}
        self.undo: list[dict[bytes, bytes | None]] = []
        self.holder: Process | None = None

    def take_back(self, batches: int) -> None:
        """Lose the latest writes."""
        for _ in range(batches):
            for key, value in self.undo.pop().items():
                if value is None:
                    self.content.pop(key, None)
                else:
                    self.content[key] = value
        self.undo.clear()


class Disk:
    """The folders of one machine."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self._folders: dict[str, Folder] = {}

    def open(self, path: str) -> Folder:
        """Open a folder that nobody else holds."""
        folder = self._folders.setdefault(path, Folder())
        if folder.holder is not None and folder.holder.alive:
            raise OSError(f"{path}: lock held by {folder.holder.name}")
        folder.holder = PROCESS.get()
        return folder

    def lose_power(self) -> None:
        """Keep only what was synced, and by chance a part of the rest."""
        for folder in self._folders.values():
            folder.take_back(self.chance.random.randint(0, len(folder.undo)))

    def erase(self) -> None:
        """Another machine takes its place."""
        self._folders.clear()


class WriteBatch:
    """As rocksdict's, applied as a whole."""

    def __init__(self, *, raw_mode: bool) -> None:
        assert raw_mode
        self.changes: dict[bytes, bytes | None] = {}
        self.ranges: list[tuple[bytes, bytes]] = []

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        self.changes[key] = None

    def delete_range(self, first: bytes, stop: bytes) -> None:
        """Remove keys from one on, another not included."""
        self.ranges.append((first, stop))


class Database:
    """As rocksdict's `Rdict`, over a folder of a disk."""

    def __init__(self, disk: Disk, path: str) -> None:
        alive()
        self._chance = disk.chance
        self._folder = disk.open(path)

    def get(self, key: bytes) -> bytes | None:
        """A value; None when there is none."""
        return self._folder.content.get(key)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._apply({key: value})

    def __delitem__(self, key: bytes) -> None:
        self._apply({key: None})

    def write(self, batch: WriteBatch) -> None:
        """Apply a batch, whole."""
        content = self._folder.content
        gone = {k: None for first, stop in batch.ranges for k in content if first <= k < stop}
        self._apply({**gone, **batch.changes})

    def _apply(self, changes: dict[bytes, bytes | None]) -> None:
        alive()
        content = self._folder.content
        self._folder.undo.append({key: content.get(key) for key in changes})
        for key, value in changes.items():
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
        if self._chance.random.random() < SYNCED:
            self._folder.undo.clear()

    def items(self, *, from_key: bytes, read_opt: Any) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in order."""
        assert read_opt is not None
        keys = sorted(self._folder.content)
        for key in keys[bisect_left(keys, from_key) :]:
            yield key, self._folder.content[key]

    def close(self) -> None:
        """Release the folder."""
        if self._folder.holder is PROCESS.get(None):
            self._folder.holder = None
