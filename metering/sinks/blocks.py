"""Rows of one table as columns: how an archive batch is kept, and how every batch is sent."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from metering.sinks.rows import COLUMNS, Row, TableRow

Columns = Sequence[Sequence[Any]]


class Block:
    """Rows of a table column by column, in the order of `rows.COLUMNS`; times are ticks of their column."""

    __slots__ = ("columns", "table")

    def __init__(self, table: str, columns: Columns) -> None:
        self.table = table
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __iter__(self) -> Iterator[Row]:
        return zip(*self.columns, strict=True)

    def __getitem__(self, part: slice) -> "Block":
        return Block(self.table, [column[part] for column in self.columns])


Held = Block | list[Row]  # rows of one table


def by_table(rows: Iterable[TableRow | Block]) -> dict[str, list[Held]]:
    """Rows of any tables by their table; single rows of a table come together."""
    found: dict[str, list[Held]] = {}
    single: dict[str, list[Row]] = {}
    for row in rows:
        if isinstance(row, Block):
            found.setdefault(row.table, []).append(row)
        elif row.table in single:
            single[row.table].append(row.row)
        else:
            single[row.table] = [row.row]
            found.setdefault(row.table, []).append(single[row.table])
    return found


def joined(table: str, parts: Sequence[Held]) -> Block:
    """Parts of a table as one block; ValueError when a row has too many or too few columns."""
    columns = [part.columns if isinstance(part, Block) else list(zip(*part, strict=True)) for part in parts]
    for found in columns:
        if len(found) != len(COLUMNS[table]):
            raise ValueError(
                f"a row of {len(found)} columns for table {table}, which has {len(COLUMNS[table])}"
            )
    if len(columns) == 1:
        return Block(table, columns[0])
    return Block(table, [end_to_end(found) for found in zip(*columns, strict=True)])


def end_to_end(parts: Iterable[Sequence[Any]]) -> list[Any]:
    """Sequences as one list: `chain` would take four times as long."""
    whole: list[Any] = []
    for part in parts:
        whole += part
    return whole
