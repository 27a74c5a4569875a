"""The embedded ClickHouse engine behind ClickHouse's own HTTP protocol, on loopback.

`python -m metering.local.clickhouse --path DIR --port N`. For one machine: one process, no users,
no replication. Clients cannot tell it from a server: same statements, formats, settings, errors.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import chdb
from aiohttp import web

from metering.local import clickhouse_wire as wire

_THREADS = 16
_MEMORY_BYTES = 4_000_000_000
_BODY_BYTES = 1 << 30
_SESSION_SECONDS = 300.0
# Parameters of the protocol itself; every other one is a setting of the query.
_RESERVED = frozenset(
    "query database default_format session_id session_timeout session_check query_id user password"
    " quota_key compress decompress wait_end_of_query client_protocol_version role close_session"
    " enable_http_compression buffer_size send_progress_in_http_headers http_headers_progress_interval_ms"
    " cancel_http_readonly_queries_on_client_close".split()
)
# The engine runs as this user on this machine: without grants a reader could read and write files.
_USERS = """<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default>
<password></password><profile>default</profile><quota>default</quota>
<networks><ip>::/0</ip></networks><grants><query>GRANT SELECT, INSERT, ALTER, CREATE, DROP, TRUNCATE,
OPTIMIZE, SHOW, KILL QUERY ON *.*</query></grants></default></users></clickhouse>"""
_CONFIG = """<clickhouse><max_server_memory_usage>{memory}</max_server_memory_usage>
<users_config>{users}</users_config></clickhouse>"""


_connect: Callable[[str], Any] = chdb.connect


class Engine:
    """The one engine of this process; each request gets a handle of its own (0.9 ms)."""

    def __init__(self, path: Path) -> None:
        data = path / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._inserts = path / "inserts"
        shutil.rmtree(self._inserts, ignore_errors=True)  # those that a kill cut off
        self._inserts.mkdir()
        users, config = path / "users.xml", path / "config.xml"
        users.write_text(_USERS)
        config.write_text(_CONFIG.format(memory=_MEMORY_BYTES, users=users))
        self._address = f"{data}?config-file={config}"
        self._keep = _connect(self._address)
        self.sessions: dict[str, tuple[Any, asyncio.Lock, float]] = {}

    @contextmanager
    def file(self, content: memoryview) -> Iterator[Path]:
        """What is to be inserted, as a file for a while."""
        file = self._inserts / uuid.uuid4().hex
        try:
            file.write_bytes(content)
            yield file
        finally:
            file.unlink(missing_ok=True)

    def open(self, database: str) -> Any:
        """A fresh handle: `SET` and `USE` of one request never reach another."""
        handle = _connect(self._address)
        try:
            if database:
                handle.query("USE `" + database.replace("`", "\\`") + "`")
        except Exception:
            handle.close()
            raise
        return handle


class Request:
    """One HTTP request, taken apart."""

    def __init__(self, request: web.Request) -> None:
        self.http = request
        self.params = dict(request.query)
        self.statement = b""
        self.tag = uuid.uuid4().hex[:16]
        self.started = time.perf_counter_ns()
        self.response: web.StreamResponse | None = None
        self.headers = {
            "X-ClickHouse-Query-Id": self.params.get("query_id") or str(uuid.uuid4()),
            "X-ClickHouse-Server-Display-Name": "metering local",
            "X-ClickHouse-Timezone": "UTC",
        }

    async def read(self) -> None:
        """Read parameters and statement, in whatever form and encoding they came."""
        body = b""
        if self.http.content_type == "multipart/form-data":
            form = await self.http.post()
            self.params.update({k: v for k, v in form.items() if isinstance(v, str)})
        else:
            encoding = self.http.headers.get("Content-Encoding", "")
            body = wire.decompress(encoding, await self.http.read())
        query = self.params.get("query", "").encode()
        self.statement = query + (b"\n" if query and body else b"") + body

    @property
    def database(self) -> str:
        """The database that the client named."""
        return self.params.get("database") or str(self.http.headers.get("X-ClickHouse-Database", ""))

    @property
    def settings(self) -> dict[str, str]:
        """Settings of this query."""
        return {
            k: v
            for k, v in self.params.items()
            if k not in _RESERVED and not k.startswith("param_") and re.fullmatch(r"\w+", k)
        }

    @property
    def values(self) -> dict[str, str]:
        """Values of the query's `{name:Type}` parameters."""
        return {k[6:]: v for k, v in self.params.items() if k.startswith("param_")}

    def answer_encoding(self) -> str:
        """The encoding that the client accepts and asked for."""
        if self.params.get("enable_http_compression") != "1":
            return ""
        offered = self.http.headers.get("Accept-Encoding", "").split(",")
        names = [name.split(";")[0].strip() for name in offered]
        return next((n for n in names if n in ("lz4", "zstd", "gzip", "deflate")), "")

    def summary(self, **figures: int) -> str:
        """ClickHouse's summary header."""
        elapsed = time.perf_counter_ns() - self.started
        return json.dumps({k: str(v) for k, v in {**figures, "elapsed_ns": elapsed}.items()})


class Endpoint:
    """The HTTP side of the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(_THREADS)

    async def _run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """Run one statement."""
        request = Request(http)
        try:
            await request.read()
            if not request.statement.strip():
                return web.Response(text="Ok.\n")
            return await self._with_handle(request)
        except Exception as error:  # every error goes to the client in ClickHouse's own form
            return await self._fail(request, error)

    async def _with_handle(self, request: Request) -> web.StreamResponse:
        session = request.params.get("session_id", "")
        if not session:
            handle = await self._run(lambda: self._engine.open(request.database))
            try:
                return await self._execute(request, handle)
            finally:
                await self._run(handle.close)
        await self._expire_sessions()
        if session not in self._engine.sessions:
            handle = await self._run(lambda: self._engine.open(request.database))
            self._engine.sessions[session] = (handle, asyncio.Lock(), time.monotonic())
        handle, lock, _ = self._engine.sessions[session]
        self._engine.sessions[session] = (handle, lock, time.monotonic())
        async with lock:
            try:
                return await self._execute(request, handle)
            finally:
                for name in request.settings:
                    await self._run(partial(handle.query, f"SET {name} = DEFAULT"))

    async def _expire_sessions(self) -> None:
        limit = time.monotonic() - _SESSION_SECONDS
        for name, (handle, lock, used) in list(self._engine.sessions.items()):
            if used < limit and not lock.locked():
                del self._engine.sessions[name]
                await self._run(handle.close)

    async def _execute(self, request: Request, handle: Any) -> web.StreamResponse:
        if request.settings:
            given = ", ".join(f"{name} = {wire.quote(value)}" for name, value in request.settings.items())
            await self._run(partial(handle.query, f"SET {given}"))
        body = request.statement
        if wire.INSERT.match(body):
            found = wire.INSERT_FORMAT.search(body, 0, 1 << 16)
            if found and not re.search(rb"\b(SELECT|VALUES)\b", body[: found.start()], re.IGNORECASE):
                return await self._insert(request, handle, found)
        return await self._query(request, handle, body.decode("utf-8", "surrogateescape"))

    async def _insert(self, request: Request, handle: Any, found: "re.Match[bytes]") -> web.StreamResponse:
        def insert() -> Any:
            # The engine's stream of inserted bytes swallows what goes wrong behind its parser: a constraint,
            # too many partitions, a full disk. As a file it is a statement like any other.
            with self._engine.file(memoryview(request.statement)[found.end() :]) as file:
                return handle.query(wire.insert_from(request.statement, found, str(file)), "Null")

        done = await self._run(insert)
        request.headers["X-ClickHouse-Summary"] = request.summary(
            written_rows=done.rows_written(), written_bytes=done.bytes_written()
        )
        return web.Response(headers=request.headers)

    async def _query(self, request: Request, handle: Any, text: str) -> web.StreamResponse:
        if wire.HOST_FILES.search(text):
            raise PermissionError("Code: 497. DB::Exception: files of the host are out of reach")
        named = wire.FORMAT.search(text)
        form = (
            (named.group(1) if named else "")
            or request.params.get("default_format")
            or request.http.headers.get("X-ClickHouse-Format")
            or "TabSeparated"
        )
        request.headers["X-ClickHouse-Format"] = form
        encoding = request.answer_encoding()
        if encoding:
            request.headers["Content-Encoding"] = encoding
        codec = wire.compressor(encoding)
        if form in wire.STREAM_FORMATS and wire.STREAMED.match(text):
            plain = text[: named.start()] if named else text
            return await self._stream(request, handle, (text, plain, form), codec)
        result = await self._run(lambda: handle.query(text, form, params=request.values))
        body = result.bytes() or b""
        if not body and not wire.READS.match(text):
            del request.headers["X-ClickHouse-Format"]
        request.headers["X-ClickHouse-Summary"] = request.summary(
            read_rows=result.rows_read(), read_bytes=result.bytes_read(), written_rows=0
        )
        return web.Response(body=codec.compress(body) + codec.flush(), headers=request.headers)

    async def _stream(
        self, request: Request, handle: Any, query: tuple[str, str, str], codec: wire.Codec
    ) -> web.StreamResponse:
        text, plain, form = query
        stream = await self._run(lambda: handle.send_query(text, form, params=request.values))
        parts = iter(stream)

        def following() -> bytes | None:
            return next((b for b in (part.bytes() for part in parts) if b), None)

        chunk = await self._run(following)
        if chunk is None and form == "Native":
            stream.close()
            described = await self._run(
                lambda: handle.query(plain + "\nFORMAT JSON", "JSON", params=request.values)
            )
            header = wire.native_header(json.loads(described.bytes())["meta"])
            body = codec.compress(header) + codec.flush()
            return web.Response(body=body, headers=request.headers)
        request.headers["X-ClickHouse-Exception-Tag"] = request.tag
        request.response = web.StreamResponse(headers=request.headers)
        await request.response.prepare(request.http)
        while chunk:
            await request.response.write(codec.compress(chunk))
            chunk = await self._run(following)
        await request.response.write(codec.flush())
        await request.response.write_eof()
        return request.response

    async def _fail(self, request: Request, error: Exception) -> web.StreamResponse:
        status, code, message = wire.error_of(error)
        if request.response is not None:  # the answer is under way: say it inside, then cut it off
            await request.response.write(wire.exception_frame(request.tag, message))
            await asyncio.sleep(0.05)
            if request.http.transport is not None:
                request.http.transport.abort()
            return request.response
        headers = {
            k: v for k, v in request.headers.items() if k not in ("X-ClickHouse-Format", "Content-Encoding")
        }
        headers["X-ClickHouse-Exception-Code"] = str(code)
        return web.Response(status=status, text=message + "\n", headers=headers)


def application(path: Path) -> web.Application:
    """The endpoint over the data in a folder."""
    endpoint = Endpoint(Engine(path))

    async def ping(_: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    app = web.Application(client_max_size=_BODY_BYTES, handler_args={"auto_decompress": False})
    app.add_routes([web.get("/ping", ping), web.route("*", "/", endpoint.handle)])
    return app


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="Embedded ClickHouse behind its HTTP protocol")
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    path = arguments.path.resolve()
    path.mkdir(parents=True, exist_ok=True)
    os.chdir(path)  # the engine would load a config.xml of whatever folder we were started in
    web.run_app(application(path), host="127.0.0.1", port=arguments.port, print=None)


if __name__ == "__main__":
    main()
