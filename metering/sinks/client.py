"""Connections to ClickHouse over HTTP, and what to do about each of its errors."""

from enum import Enum
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from metering.errors import UserError
from metering.sinks.blocks import Block

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 30
LONG_ANSWER_SECONDS = 1_800  # of a question over all the books

# From measurements with ClickHouse 26 and the list that Kafka Connect's sink retries.
_RETRY = frozenset([3, 159, 164, 202, 203, 209, 210, 236, 241, 242, 252, 285, 319, 394, 425, 999])
_POISON = frozenset([6, 26, 27, 38, 41, 53, 69, 70, 117, 349, 376, 407, 469])


class Remedy(Enum):
    """What a sink does after an error."""

    RETRY = "try again with the same token"
    POISON = "find the row and put it aside"
    STOP = "a person has to act"


def remedy_for(error: BaseException) -> Remedy:
    """Classify an error of the client, the network or the server."""
    if isinstance(error, ClickHouseError):
        code = getattr(error, "code", None)
        if code in _RETRY or (code is None and isinstance(error, OperationalError)):
            return Remedy.RETRY
        return Remedy.POISON if code in _POISON else Remedy.STOP
    if isinstance(error, OSError | TimeoutError):
        return Remedy.RETRY
    # The client's own refusal to encode a value.
    if isinstance(error, ValueError | OverflowError | AttributeError | TypeError):
        return Remedy.POISON
    return Remedy.STOP


def _parameters(url: str, database: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{url!r} is not a ClickHouse address", hint="write http://user:password@host:8123")
    return {
        "host": parts.hostname,
        "port": parts.port or (8443 if parts.scheme == "https" else 8123),
        "secure": parts.scheme == "https",
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "database": database,
        "connect_timeout": _CONNECT_SECONDS,
        "send_receive_timeout": _ANSWER_SECONDS,
        "tz_mode": "aware",
        # One session would make parallel statements wait for each other.
        "autogenerate_session_id": False,
    }


def connect(url: str, database: str, *, answer_seconds: int = _ANSWER_SECONDS) -> Any:
    """A blocking client; an unreachable address is an error that says what to do."""
    parameters = _parameters(url, database) | {"send_receive_timeout": answer_seconds}
    try:
        return clickhouse_connect.get_client(**parameters)
    except (ClickHouseError, OSError) as error:
        raise unreachable(url, database, error) from error


class Inserter:
    """An asyncio client that takes rows as columns: encoding them row by row costs four times as much."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.create_insert_context = client.create_insert_context
        self.query = client.query
        self.close = client.close

    async def insert(self, table: str, block: Block, **how: Any) -> None:
        """As `insert` of clickhouse-connect."""
        await self._client.insert(table, block.columns, column_oriented=True, **how)


async def connect_async(url: str, database: str) -> Any:
    """An asyncio client, for a writer."""
    try:
        return Inserter(await clickhouse_connect.get_async_client(**_parameters(url, database)))
    except (ClickHouseError, OSError) as error:
        raise unreachable(url, database, error) from error


def unreachable(url: str, database: str, error: BaseException) -> UserError:
    """The error for an address that does not answer, or a database that is not there."""
    place = urlsplit(url)
    where = f"{place.scheme}://{place.hostname}:{place.port}"  # never the password
    if getattr(error, "code", None) == 81:
        return UserError(f"ClickHouse at {where} has no database `{database}`", hint="run `metering migrate`")
    return UserError(
        f"ClickHouse at {where} does not answer: {str(error).splitlines()[0][:200]}",
        hint="run `metering local up`, or check CLICKHOUSE_URL",
    )
