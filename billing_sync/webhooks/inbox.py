"""The inbox: every event once, whatever order and however often it comes.

It is beside the ledger and not in it: an endpoint must answer while a round holds the ledger.
"""

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import text

from billing_sync.ledger.store import SQLITE, engine_of

_TABLE = """
CREATE TABLE IF NOT EXISTS webhook (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL, received BIGINT NOT NULL,
    state TEXT NOT NULL, tries INTEGER NOT NULL, next_at BIGINT NOT NULL, reason TEXT NOT NULL)
"""
_COLUMNS = "id, kind, body, received, state, tries, reason"
WAITING, DONE, FAILED = "waiting", "done", "failed"
MOST_TRIES, _FIRST_PAUSE, _LONGEST_PAUSE = 10, 30, 6 * 3_600


class Delivery(NamedTuple):
    """A stored event; `body` as it came."""

    id: str
    kind: str
    body: str
    received: int
    state: str
    tries: int
    reason: str


def inbox_url(ledger: str) -> str:
    """The inbox of a ledger: the same PostgreSQL, or a SQLite file beside it."""
    if not ledger.startswith(SQLITE):
        return ledger
    return f"{SQLITE}{Path(ledger.removeprefix(SQLITE)).with_name('inbox.sqlite3')}"


class Inbox:
    """Events that came, by id."""

    def __init__(self, url: str) -> None:
        if url.startswith(SQLITE):
            Path(url.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        self._engine = engine_of(url)
        with self._engine.begin() as connection:
            connection.execute(text(_TABLE))

    def close(self) -> None:
        """Release it."""
        self._engine.dispose()

    def keep(self, event_id: str, kind: str, body: str, now: int) -> bool:
        """Store an event; whether it is new."""
        with self._engine.begin() as connection:
            done = connection.execute(
                text(
                    "INSERT INTO webhook (id, kind, body, received, state, tries, next_at, reason)"
                    " VALUES (:id, :kind, :body, :now, 'waiting', 0, :now, '')"
                    " ON CONFLICT (id) DO NOTHING"
                ),
                {"id": event_id, "kind": kind, "body": body, "now": now},
            )
        return done.rowcount == 1

    def due(self, now: int) -> list[Delivery]:
        """What has to be processed, oldest first."""
        return self._read(f"state = '{WAITING}' AND next_at <= :now", now=now)

    def failed(self) -> list[Delivery]:
        """What did not go through after every try."""
        return self._read(f"state = '{FAILED}'")

    def _read(self, where: str, **values: int) -> list[Delivery]:
        sql = f"SELECT {_COLUMNS} FROM webhook WHERE {where} ORDER BY received, id"
        with self._engine.begin() as connection:
            return [Delivery(*row) for row in connection.execute(text(sql), values)]

    def done(self, event_id: str) -> None:
        """It has had its effect."""
        self._set(event_id, DONE, 0, 0, "")

    def put_off(self, delivery: Delivery, reason: str, now: int) -> None:
        """Try again later, and after the last try put it on the list of failures."""
        tries = delivery.tries + 1
        state = FAILED if tries >= MOST_TRIES else WAITING
        pause = min(_FIRST_PAUSE * 2**tries, _LONGEST_PAUSE)
        self._set(delivery.id, state, tries, now + pause, reason)

    def retry(self, event_id: str, now: int) -> bool:
        """Let a failed event go again; whether there was one."""
        if not any(delivery.id == event_id for delivery in self.failed()):
            return False
        self._set(event_id, WAITING, 0, now, "")
        return True

    def _set(self, event_id: str, state: str, tries: int, next_at: int, reason: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE webhook SET state = :state, tries = :tries, next_at = :next_at,"
                    " reason = :reason WHERE id = :id"
                ),
                {"id": event_id, "state": state, "tries": tries, "next_at": next_at, "reason": reason},
            )
