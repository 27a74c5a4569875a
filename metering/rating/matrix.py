"""Which cell of a matrix price a combination of dimension values falls into."""

from functools import lru_cache

from metering.rating.cards import Cell, Price
from metering.rating.usage import Dimensions

NO_CELL = "\0none"  # no cell matches: an error, never a zero


def cell_of(price: Price, dimensions: Dimensions) -> str:
    """The label of the most specific cell: fewest wildcards, then the order of declaration."""
    values = dict(dimensions)
    return _best(price.cells, tuple(values.get(name, "") for name in price.dimensions))


@lru_cache(maxsize=65_536)
def _best(cells: tuple[Cell, ...], values: tuple[str, ...]) -> str:
    matching = [cell for cell in cells if _matches(cell, values)]
    if not matching:
        return NO_CELL
    return min(matching, key=lambda cell: sum(value is None for value in cell.when)).label


def _matches(cell: Cell, values: tuple[str, ...]) -> bool:
    return all(want is None or want == value for want, value in zip(cell.when, values, strict=True))
