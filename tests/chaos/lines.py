"""One line of a comparison: what the model says, what the books say, and how much of it differs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

EXAMPLES = 3


class Line(NamedTuple):
    """One comparison: what the model says, what the books say, and how many of it differ."""

    title: str
    model: str
    books: str
    differ: int
    examples: tuple[str, ...] = ()


def count(title: str, wanted: int, found: int) -> Line:
    """Two numbers that must be one."""
    return Line(title, f"{wanted:,}", f"{found:,}", abs(wanted - found))


def differing(title: str, wanted: Mapping[Any, int], found: Mapping[Any, int]) -> Line:
    """Two tables that must be one; names the first places where they are not."""
    places = wanted.keys() | found.keys()
    wrong = sorted((p for p in places if wanted.get(p, 0) != found.get(p, 0)), key=str)
    examples = (f"{p}: {wanted.get(p)} in the model, {found.get(p)} in the books" for p in wrong[:EXAMPLES])
    return Line(title, f"{len(wanted):,}", f"{len(found):,}", len(wrong), tuple(examples))
