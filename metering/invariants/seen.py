"""What earlier rounds saw, kept in a file: the next round, also of another process, compares with it."""

from pathlib import Path

import msgspec


class Place(msgspec.Struct, frozen=True):
    """How far a partition was (`offset`), its watermark (epoch ms), and since when it stands there."""

    offset: int
    watermark: int
    since: int


class Seen:
    """The highest positions and watermarks by epoch and partition."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._places: dict[str, Place] = {}
        if file.exists():
            self._places = msgspec.json.decode(file.read_bytes(), type=dict[str, Place])

    def place(self, epoch: int, partition: int) -> Place | None:
        """What was seen of a partition."""
        return self._places.get(f"{epoch}/{partition}")

    def note(self, epoch: int, partition: int, offset: int, watermark: int, now: int) -> None:
        """Remember where a partition is now; what is lower than before is not taken."""
        known = self.place(epoch, partition)
        if known is not None and known.offset >= offset:
            place = Place(known.offset, max(known.watermark, watermark), known.since)
        else:
            place = Place(offset, max(known.watermark if known else 0, watermark), now)
        self._places[f"{epoch}/{partition}"] = place

    def save(self) -> None:
        """Write the file anew, whole or not at all."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".new")
        partial.write_bytes(msgspec.json.encode(self._places))
        partial.replace(self._file)
