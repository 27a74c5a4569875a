"""Numbered SQL migrations: applied once, in order, and never edited afterwards."""

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

from metering.errors import UserError
from metering.sinks.client import connect

_BOOKKEEPING = """
CREATE TABLE IF NOT EXISTS schema_versions (
    version UInt32, name String, md5 String, applied DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY version
"""
_NAME = re.compile(r"(\d{3})_([a-z0-9_]+)\.sql")


class Migration(NamedTuple):
    """One migration file."""

    version: int
    name: str
    sql: str

    @property
    def md5(self) -> str:
        """The fingerprint that an applied file must keep."""
        return hashlib.md5(self.sql.encode(), usedforsecurity=False).hexdigest()


def bundled() -> list[Migration]:
    """The migrations of this package, in order."""
    found = []
    for file in files("metering.sinks").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    return sorted(found)


def migrate(url: str, database: str, migrations: list[Migration] | None = None) -> list[Migration]:
    """Bring a database to the newest schema; the migrations that were applied now."""
    if not re.fullmatch(r"[A-Za-z_]\w*", database) or database == "default":
        raise UserError(
            f"`{database}` cannot be the database of the books",
            hint="set METERING_DATABASE to a name of letters and digits other than `default`",
        )
    with connect(url, "default") as server:
        server.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    with connect(url, database) as client:
        client.command(_BOOKKEEPING)
        known = dict(client.query("SELECT version, md5 FROM schema_versions FINAL").result_rows)
        return [m for m in migrations or bundled() if _apply(client, m, known.get(m.version))]


def _apply(client: Any, migration: Migration, known: str | None) -> bool:
    if known is not None:
        if known != migration.md5:
            raise UserError(
                f"migration {migration.version:03}_{migration.name}.sql was edited after it was applied",
                hint="restore the file and put the change into a new migration",
            )
        return False
    for statement in statements(migration.sql):
        client.command(statement)
    row = [migration.version, migration.name, migration.md5]
    client.insert("schema_versions", [row], column_names=["version", "name", "md5"])
    return True


def statements(sql: str) -> Iterator[str]:
    """The statements of a file: separated by semicolons outside strings and comments."""
    token = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:\\.|''|[^'\\])*'|;|[^;'/-]+|.", re.DOTALL)
    current: list[str] = []
    for match in token.finditer(sql):
        text = match.group()
        if text == ";":
            yield from _whole(current)
            current = []
        elif not text.startswith(("--", "/*")):
            current.append(text)
    yield from _whole(current)


def _whole(parts: list[str]) -> Iterator[str]:
    text = "".join(parts).strip()
    if text:
        yield text
