"""A fetch of usage events as rows of the archive, in columns: a row costs no object of its own."""

from collections.abc import Sequence
from typing import Any

import msgspec

from metering.event_rows import Rows
from metering.events import TICK_TYPE
from metering.sinks.blocks import Block, end_to_end
from metering.state.fold import Chunk

_lines = msgspec.json.Encoder().encode_lines


def archived(chunks: Sequence[Chunk], topic: str, partition: int) -> Block:
    """Every readable copy of every event in these chunks with its place in the log; no ticks.

    Times are epoch ms, `data` is JSON in UTF-8.
    """
    rows = Rows(end_to_end(chunk.values for chunk in chunks))
    kept = None
    if rows.refused or TICK_TYPE in set(rows.types):
        kept = [n for n, what in enumerate(rows.types) if what != TICK_TYPE and n not in rows.refused]

    def chosen(column: Sequence[Any]) -> Sequence[Any]:
        return column if kept is None else [column[row] for row in kept]

    data = _lines(chosen(rows.datas)).split(b"\n")[:-1]
    columns = [
        *map(chosen, (rows.customers, rows.types, rows.at.tolist(), rows.ids, rows.sources)),
        data,
        [topic] * len(data),
        [partition] * len(data),
        chosen(_of_rows(rows, end_to_end(chunk.offsets for chunk in chunks))),
        chosen(rows.places),
        chosen(_of_rows(rows, end_to_end([chunk.appended] * len(chunk.values) for chunk in chunks))),
        chosen([event.backfill for event in rows.events]),
    ]
    return Block("events", columns)


def _of_rows(rows: Rows, facts: list[int]) -> list[int]:
    """What is known of each value, for each row."""
    return facts if isinstance(rows.value_of, range) else [facts[value] for value in rows.value_of]
