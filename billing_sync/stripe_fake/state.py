"""What the fake holds: objects and idempotency answers in SQLite, so that they survive restarts."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_TABLES = """
CREATE TABLE IF NOT EXISTS object (
    id TEXT PRIMARY KEY, kind TEXT, parent TEXT, n INTEGER, body TEXT);
CREATE INDEX IF NOT EXISTS object_of ON object (kind, parent, n);
CREATE TABLE IF NOT EXISTS answer (
    key TEXT PRIMARY KEY, fingerprint TEXT, status INTEGER, body TEXT, at INTEGER);
CREATE TABLE IF NOT EXISTS made (n INTEGER);
"""
KEY_SECONDS = 24 * 3_600


class Answer(NamedTuple):
    """A stored answer to an idempotency key."""

    fingerprint: str
    status: int
    body: str


class State:
    """Objects by id, in the order in which they were made; without a path they live in memory."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(_TABLES)
        # Ids are never given twice, also not after the newest object was deleted.
        ((kept,),) = self._db.execute("SELECT coalesce(max(n), 0) FROM made").fetchall()
        ((held,),) = self._db.execute("SELECT coalesce(max(n), 0) FROM object").fetchall()
        self._made = max(kept, held)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A request has its whole effect or none, also when the process dies in it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def create(self, kind: str, prefix: str, body: dict[str, Any], parent: str = "") -> dict[str, Any]:
        """Store a new object under the next id."""
        self._made += 1
        made = {"id": f"{prefix}_fake{self._made:06d}", "object": kind, **body}
        self._db.execute(
            "INSERT INTO object VALUES (?, ?, ?, ?, ?)",
            (made["id"], kind, parent, self._made, json.dumps(made)),
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
        """Remove an object and what belongs to it."""
        self._db.execute("INSERT INTO made VALUES (?)", (self._made,))
        self._db.execute("DELETE FROM object WHERE id = ? OR parent = ?", (identity, identity))

    def all(self, kind: str, parent: str = "") -> list[dict[str, Any]]:
        """The objects of a kind, newest first as Stripe lists them."""
        where, values = ("AND parent = ?", (kind, parent)) if parent else ("", (kind,))
        sql = f"SELECT body FROM object WHERE kind = ? {where} ORDER BY n DESC"
        return [json.loads(row[0]) for row in self._db.execute(sql, values)]

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
