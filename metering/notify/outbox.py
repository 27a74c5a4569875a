"""The outbox: each event once for each target, until it is delivered or a person decides."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from metering.notify.happening import Happening

State = Literal["waiting", "sent", "dead", "skipped"]
# Seconds after the first, second, … failure; after the last, the delivery is dead.
PAUSES = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000)
_TABLES = """
CREATE TABLE IF NOT EXISTS delivery (
    event TEXT NOT NULL, target TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, made INTEGER NOT NULL,
    state TEXT NOT NULL, tries INTEGER NOT NULL, next_at INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (event, target));
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (state, next_at);
CREATE TABLE IF NOT EXISTS look (name TEXT PRIMARY KEY, at INTEGER NOT NULL);
"""
_COLUMNS = "event, target, kind, body, made, state, tries, next_at, reason"


class Delivery(NamedTuple):
    """One event for one target; times are epoch seconds."""

    event: str
    target: str
    kind: str
    body: str
    made: int
    state: State
    tries: int
    next_at: int
    reason: str


class Outbox:
    """A SQLite file, committed before anything is sent."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(file, isolation_level=None, timeout=30)
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = FULL")
        self._base.executescript(_TABLES)

    def close(self) -> None:
        """Release the file."""
        self._base.close()

    def looked_at(self) -> int:
        """When the sources were last read whole; 0 before the first time."""
        row = self._base.execute("SELECT at FROM look WHERE name = 'sources'").fetchone()
        return int(row[0]) if row else 0

    def keep(
        self, found: Iterable[tuple[Happening, str]], now: int, *, skip: bool = False, looked: bool = False
    ) -> int:
        """Keep events with their targets, all or none; how many are new. Skipped ones are never sent."""
        state = "skipped" if skip else "waiting"
        new = 0
        self._base.execute("BEGIN IMMEDIATE")
        try:
            for one, target in found:
                row = (one.id, target, one.kind, one.body(), now, state, 0, now, "")
                new += self._base.execute(
                    f"INSERT INTO delivery ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (event, target) DO NOTHING",
                    row,
                ).rowcount
            if looked:
                self._base.execute("INSERT OR REPLACE INTO look (name, at) VALUES ('sources', ?)", (now,))
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")
        return new

    def due(self, now: int, limit: int = 100) -> list[Delivery]:
        """What is to be sent now, the oldest first."""
        return self._read("state = 'waiting' AND next_at <= ? ORDER BY next_at, event LIMIT ?", now, limit)

    def dead(self) -> list[Delivery]:
        """What was given up: it waits for a person."""
        return self._read("state = 'dead' ORDER BY made, event, target")

    def of_event(self, event: str) -> list[Delivery]:
        """The deliveries of one event."""
        return self._read("event = ? ORDER BY target", event)

    def _read(self, where: str, *values: object) -> list[Delivery]:
        return [
            Delivery(*row)
            for row in self._base.execute(f"SELECT {_COLUMNS} FROM delivery WHERE {where}", values)
        ]

    def sent(self, one: Delivery) -> None:
        """It was taken."""
        self._set(one, "sent", one.tries + 1, 0, "")

    def failed(self, one: Delivery, reason: str, now: int, *, final: bool = False) -> State:
        """It was not taken: try again later, or give up after the last pause or a final answer."""
        gone = final or one.tries >= len(PAUSES)
        next_at = 0 if gone else now + PAUSES[one.tries]
        state: State = "dead" if gone else "waiting"
        self._set(one, state, one.tries + 1, next_at, reason[:500])
        return state

    def retry(self, event: str, now: int) -> int:
        """Let the dead deliveries of an event, or of all (`""`), go again; how many there were."""
        return self._base.execute(
            "UPDATE delivery SET state = 'waiting', tries = 0, next_at = ? WHERE state = 'dead'"
            " AND (? = '' OR event = ?)",
            (now, event, event),
        ).rowcount

    def _set(self, one: Delivery, state: State, tries: int, next_at: int, reason: str) -> None:
        self._base.execute(
            "UPDATE delivery SET state = ?, tries = ?, next_at = ?, reason = ?"
            " WHERE event = ? AND target = ?",
            (state, tries, next_at, reason, one.event, one.target),
        )
