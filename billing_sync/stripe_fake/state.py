"""What the fake holds: objects and idempotency answers in SQLite, so that they survive restarts."""

import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

_TABLES = """
CREATE TABLE IF NOT EXISTS object (id TEXT PRIMARY KEY, kind TEXT, parent TEXT, n INTEGER, body TEXT);
CREATE TABLE IF NOT EXISTS answer (
    key TEXT PRIMARY KEY, fingerprint TEXT, status INTEGER, body TEXT, at INTEGER);
"""
KEY_SECONDS = 24 * 3_600


class Answer(NamedTuple):
    """A stored answer to an idempotency key."""

    fingerprint: str
    status: int
    body: str


class State:
    """Objects by id, in the order in which they were made."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def create(self, kind: str, prefix: str, body: dict[str, Any], parent: str = "") -> dict[str, Any]:
        """Store a new object under the next id."""
        ((number,),) = self._db.execute("SELECT count(*) + 1 FROM object").fetchall()
        made = {"id": f"{prefix}_fake{number:06d}", "object": kind, **body}
        self._db.execute(
            "INSERT INTO object VALUES (?, ?, ?, ?, ?)",
            (made["id"], kind, parent, number, json.dumps(made)),
        )
        return made

    def get(self, identity: str) -> dict[str, Any] | None:
        """An object by id."""
        row = self._db.execute("SELECT body FROM object WHERE id = ?", (identity,)).fetchone()
        return dict(json.loads(row[0])) if row else None

    def put(self, body: dict[str, Any]) -> None:
        """Replace an object."""
        self._db.execute("UPDATE object SET body = ? WHERE id = ?", (json.dumps(body), body["id"]))

    def delete(self, identity: str) -> None:
        """Remove an object."""
        self._db.execute("DELETE FROM object WHERE id = ?", (identity,))

    def all(self, kind: str, parent: str = "") -> list[dict[str, Any]]:
        """The objects of a kind, newest first as Stripe lists them."""
        rows = self._db.execute(
            "SELECT body FROM object WHERE kind = ? AND (? = '' OR parent = ?) ORDER BY n DESC",
            (kind, parent, parent),
        ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def answer(self, key: str, now: int) -> Answer | None:
        """The stored answer of a key that is not older than a day."""
        row = self._db.execute(
            "SELECT fingerprint, status, body FROM answer WHERE key = ? AND at > ?",
            (key, now - KEY_SECONDS),
        ).fetchone()
        return Answer(*row) if row else None

    def store_answer(self, key: str, answer: Answer, now: int) -> None:
        """Keep the answer of a key."""
        self._db.execute("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)", (key, *answer, now))
