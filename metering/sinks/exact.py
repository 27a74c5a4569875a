"""ClickHouse cuts digits that a column has no room for; here that is an error, and so is a float."""

from collections.abc import Sequence
from decimal import Context, Decimal
from itertools import chain
from typing import Any

from metering.sinks.blocks import Block
from metering.sinks.rows import COLUMNS

_WIDE = Context(prec=80)
_WITHOUT_NUMBERS = frozenset({"events"})  # a look at each value of so many rows is felt
# Digits behind the point that a column holds, where it is not 6.
_DECIMALS = {"rounding": 36, "effect_amounts": 36, "slice_unit_prices": 12, "slice_amounts": 18}


def decimals_of(column: str) -> int:
    """Digits behind the point that a column of Decimals holds."""
    return _DECIMALS.get(column, 6)


def check_exact(block: Block) -> None:
    """Refuse floats, and Decimals that their column would cut: a ValueError that names the column."""
    if block.table in _WITHOUT_NUMBERS:
        return
    for column, values in zip(COLUMNS[block.table], block.columns, strict=True):
        kinds = set(map(type, values))
        if list in kinds:
            values = list(chain.from_iterable(values))
            kinds = set(map(type, values))
        if float in kinds:
            raise ValueError(f"{block.table}.{column} holds a float")
        if Decimal in kinds:
            _check_decimals(f"{block.table}.{column}", values, decimals_of(column))


def _check_decimals(place: str, values: Sequence[Any], decimals: int) -> None:
    unit = Decimal(1).scaleb(-decimals)
    for value in values:
        if isinstance(value, Decimal) and not value.same_quantum(unit) and not _fits(value, unit):
            raise ValueError(f"{place}: {value} has more decimals than the column")


def _fits(value: Decimal, unit: Decimal) -> bool:
    return value.is_finite() and value == value.quantize(unit, context=_WIDE)
