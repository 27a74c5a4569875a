"""What an invariant is: a name, what it means, what to do when it breaks, and a check."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from metering.invariants.facts import Facts


class Broken(NamedTuple):
    """One row that an invariant does not hold for."""

    where: str
    found: str
    expected: str


class Invariant(ABC):
    """One thing that must always hold.

    `travels` says that it compares figures that come different ways: what it finds counts only if it is
    still there when everything that was under way has arrived.
    """

    name: ClassVar[str]
    means: ClassVar[str]
    remedy: ClassVar[str]
    travels: ClassVar[bool] = False

    @abstractmethod
    def check(self, facts: Facts) -> list[Broken]:
        """The rows that break it; empty when it holds."""
