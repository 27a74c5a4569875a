"""Grants: more of a limit for a time, on top of its base; used first in, first out by event time.

The base of a window is used before any grant. What a grant gave to a window is remembered with the
window, so that corrected usage gives it back, last drawn first.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Drawn = list[tuple[str, int]]  # grant and amount, in the order of drawing


@dataclass(frozen=True, slots=True)
class Grant:
    """`amount` (10^-6) more of a limit for usage from `starts` until `ends` (epoch ms; None: open)."""

    id: str
    scope: str
    limit: str
    amount: int
    starts: int
    ends: int | None = None
    actor: str = ""
    reason: str = ""

    def is_open(self, at: int) -> bool:
        """Whether usage of an instant may draw from it."""
        return self.starts <= at and (self.ends is None or at < self.ends)


class Grants:
    """The grants of one limit of one customer or pool, and how much of each is used."""

    def __init__(self) -> None:
        self._in_order: list[Grant] = []
        self.used: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._in_order)

    def __iter__(self) -> Iterator[Grant]:
        return iter(self._in_order)

    def put(self, grants: Iterable[Grant]) -> None:
        """Set the grants that exist; what was used of each stays."""
        self._in_order = sorted(grants, key=lambda g: (g.starts, g.ends is None, g.ends or 0, g.id))

    def rest(self, grant: Grant) -> int:
        """What is left of a grant."""
        return max(0, grant.amount - self.used.get(grant.id, 0))

    def open_rest(self, at: int) -> int:
        """What usage of an instant may still draw."""
        return sum(self.rest(g) for g in self._in_order if g.is_open(at))

    def draw(self, drawn: Drawn, need: int, at: int) -> bool:
        """Draw up to `need` for usage of an instant; whether anything was drawn."""
        before = need
        for grant in self._in_order:
            if need and grant.is_open(at):
                taken = min(need, self.rest(grant))
                if taken:
                    self.used[grant.id] = self.used.get(grant.id, 0) + taken
                    drawn.append((grant.id, taken))
                need -= taken
        return need < before

    def give_back(self, drawn: Drawn, amount: int) -> bool:
        """Undo draws, the last first; whether there was anything to undo."""
        before = amount
        while drawn and amount:
            grant, taken = drawn.pop()
            back = min(taken, amount)
            self.used[grant] = self.used.get(grant, 0) - back
            amount -= back
            if taken > back:
                drawn.append((grant, taken - back))
        return amount < before

    def instants(self) -> set[int]:
        """When grants begin or end."""
        return {t for g in self._in_order for t in (g.starts, g.ends) if t is not None}

    def ending_at(self, at: int) -> list[Grant]:
        """The grants that expire at an instant."""
        return [g for g in self._in_order if g.ends == at]
