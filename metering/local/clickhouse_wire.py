"""The small codecs of ClickHouse's HTTP protocol: body encodings, native headers, error statuses."""

import gzip
import re
import zlib
from typing import Any, Protocol

import lz4.frame
from backports import zstd

FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
INSERT = re.compile(rb"\s*INSERT\s+INTO\b", re.IGNORECASE)
INSERT_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)(?:[ \t]*;)?(?:[ \t]*\r?\n|[ \t]+|$)", re.IGNORECASE)
_SETTINGS = re.compile(r"\sSETTINGS\s", re.IGNORECASE)
READS = re.compile(r"\s*(SELECT|WITH|SHOW|DESC|DESCRIBE|EXPLAIN|EXISTS|\()", re.IGNORECASE)
STREAMED = re.compile(r"\s*(SELECT|WITH|\()", re.IGNORECASE)
HOST_FILES = re.compile(r"\bINTO\s+OUTFILE\b|\bFROM\s+INFILE\b", re.IGNORECASE)
STREAM_FORMATS = frozenset(
    ["Native", "TabSeparated", "TSV", "CSV", "RowBinary", "JSONEachRow", "JSONCompactEachRow"]
)
_STATUS = {516: 403, 497: 403, 164: 403, 60: 404, 81: 404, 62: 400, 47: 400, 159: 408, 202: 503}


class Codec(Protocol):
    """A streaming compressor."""

    def compress(self, data: bytes) -> bytes:
        """The next compressed bytes."""

    def flush(self) -> bytes:
        """The end of the stream."""


class _Plain:
    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Lz4:
    def __init__(self) -> None:
        self._codec = lz4.frame.LZ4FrameCompressor()
        self._head: bytes = self._codec.begin()

    def compress(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._codec.compress(data))

    def flush(self) -> bytes:
        return self._head + bytes(self._codec.flush())


def compressor(encoding: str) -> Codec:
    """A compressor for an answer; plain for an encoding that is not known."""
    if encoding == "gzip":
        return zlib.compressobj(3, zlib.DEFLATED, 31)
    if encoding == "deflate":
        return zlib.compressobj(3)
    if encoding == "zstd":
        codec: Codec = zstd.ZstdCompressor(level=1)
        return codec
    return _Lz4() if encoding == "lz4" else _Plain()


def insert_from(statement: bytes, form: "re.Match[bytes]", file: str) -> str:
    """An INSERT of data in a format as one of a file; its settings stand behind the file."""
    into, *settings = _SETTINGS.split(statement[: form.start()].decode(), maxsplit=1)
    given = f" SETTINGS {settings[0]}" if settings else ""
    return f"{into} FROM INFILE {quote(file)} COMPRESSION 'none'{given} FORMAT {form.group(1).decode()}"


def decompress(encoding: str, data: bytes) -> bytes:
    """The body of a request."""
    if encoding == "gzip":
        return gzip.decompress(data)
    if encoding == "deflate":
        return zlib.decompress(data)
    if encoding == "zstd":
        return bytes(zstd.decompress(data))
    return _lz4_frames(data) if encoding == "lz4" else data


def _lz4_frames(data: bytes) -> bytes:
    # Clients send one frame per block; decompress() would silently drop all but the first.
    parts = []
    while data:
        frame = lz4.frame.LZ4FrameDecompressor()
        parts.append(frame.decompress(data))
        data = frame.unused_data or b""
    return b"".join(parts)


def native_header(meta: list[dict[str, Any]]) -> bytes:
    """An empty Native block: the engine emits nothing for no rows, readers want the columns."""
    columns = b"".join(_text(c["name"]) + _text(c["type"]) for c in meta)
    return _varint(len(meta)) + _varint(0) + columns


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def _text(text: str) -> bytes:
    raw = text.encode()
    return _varint(len(raw)) + raw


def error_of(error: BaseException) -> tuple[int, int, str]:
    """HTTP status, ClickHouse code and message of an engine's error."""
    message = str(error)
    start = message.find("Code: ")
    message = message[start:] if start > 0 else message
    found = re.match(r"Code: (\d+)", message)
    code = int(found.group(1)) if found else 1001
    return _STATUS.get(code, 500), code, message


def exception_frame(tag: str, message: str) -> bytes:
    """How ClickHouse says inside a running answer that the query failed."""
    body = message.encode() + b"\n"
    mark = b"__exception__\r\n"
    return b"\r\n" + mark + tag.encode() + b"\r\n" + body + f"{len(body)} {tag}\r\n".encode() + mark


def quote(text: str) -> str:
    """A string literal of ClickHouse's SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
