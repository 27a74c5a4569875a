"""The archive row of one event, made by itself: what the columns of a whole fetch must come to."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from metering.events import TICK_TYPE, UsageEvent, decode_values
from metering.sinks.rows import TableRow
from metering.state.fold import Chunk

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def archive_rows(chunks: Sequence[Chunk], topic: str, partition: int) -> list[TableRow]:
    """One row for each readable copy of an event; ticks are left out."""
    return [
        TableRow("events", _row(item.event, chunk, item.value, item.place, topic, partition))
        for chunk in chunks
        for item in decode_values(chunk.values)
        if isinstance(item.event, UsageEvent) and item.event.type != TICK_TYPE
    ]


def _row(event: UsageEvent, chunk: Chunk, number: int, index: int, topic: str, p: int) -> tuple[object, ...]:
    data = msgspec.json.encode(event.data).decode()
    said = (event.customer, event.type, _time(event.at), event.id, event.source, data)
    return (*said, topic, p, chunk.offsets[number], index, _time(chunk.appended), event.backfill)


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)
