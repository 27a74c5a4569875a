"""A limit: what is counted, how much of it, in which window, and what happens near and behind it.

Amounts are integers of 10^-6: of a unit, of the currency, or of a request.
"""

import hashlib
import json
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Literal

from metering.quota.windows import Window

Counts = Literal["units", "money", "requests"]
Kind = Literal["hard", "soft", "grace", "monitor"]
Answer = Literal["allow", "deny"]
Dimensions = tuple[tuple[str, str], ...]

ONE = 1_000_000  # a unit, a request, one of the currency


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of a customer, or of all members of a pool together (`shared`).

    `amount` None is unlimited. A hard limit denies what would pass it, a soft one marks it, a grace
    one is soft for `grace_percent` more or for `grace_ms` after it was passed, a monitor never
    denies. A client whose view is older than `reuse_ms` answers `when_stale`. `version` is a hash of
    all of that: thresholds fire once for each.
    """

    id: str
    meter: str
    counts: Counts
    amount: int | None
    window: Window
    kind: Kind = "hard"
    where: tuple[tuple[str, frozenset[str]], ...] = ()
    thresholds: tuple[int, ...] = (50, 80, 100)
    grace_percent: int = 0
    grace_ms: int = 0
    when_stale: Answer = "deny"
    reuse_ms: int = 60_000
    shared: bool = False
    step: int = ONE  # the smallest quantity of the meter
    version: str = field(init=False, default="")

    def __post_init__(self) -> None:
        assert self.amount is None or self.amount >= 0, "an amount below zero is no limit"
        assert list(self.thresholds) == sorted(set(self.thresholds)), "thresholds rise"
        object.__setattr__(self, "version", _version(self))

    def with_amount(self, amount: int | None) -> "Limit":
        """The same limit at another amount: another version."""
        return replace(self, amount=amount)

    def covers(self, dimensions: Dimensions) -> bool:
        """Whether usage with these dimension values counts."""
        if not self.where:
            return True
        values = dict(dimensions)
        return all(values.get(name) in wanted for name, wanted in self.where)

    @property
    def identity(self) -> tuple[object, ...]:
        """What it counts: while this stays, its counters stay."""
        return (self.meter, self.counts, self.where, self.window, self.shared)

    def ceiling(self, amount: int, crossed: int | None, clock: int) -> int | None:
        """What posted + reserved may come to under an effective amount; None without a bound.

        `crossed` is when the amount was passed (epoch ms).
        """
        if self.kind == "hard":
            return amount
        if self.kind != "grace":
            return None
        if self.grace_percent:
            return amount * (100 + self.grace_percent) // 100
        return amount if crossed is not None and clock >= crossed + self.grace_ms else None

    @property
    def warns_at(self) -> int:
        """The percentage from which its state is `warn`: the highest threshold below 100."""
        return max((percent for percent in self.thresholds if percent < 100), default=100)


def mark(amount: int, percent: int) -> int:
    """The smallest posted amount that reaches a percentage."""
    return -(-amount * percent // 100)


def _version(limit: Limit) -> str:
    plain = [
        *(limit.id, limit.meter, limit.counts, str(limit.amount), limit.kind, list(limit.thresholds)),
        *(limit.grace_percent, limit.grace_ms, limit.when_stale, limit.reuse_ms, limit.shared),
        *(limit.window.kind, limit.window.zone, limit.window.anchor, limit.window.length_ms),
        [[name, sorted(values)] for name, values in limit.where],
    ]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The limits of a customer or pool from one instant (epoch ms) to the next."""

    starts: tuple[int, ...]
    limits: tuple[tuple[Limit, ...], ...]

    def at(self, instant: int) -> tuple[Limit, ...]:
        """The limits in force; those of the first stretch before it begins."""
        return self.limits[max(0, bisect_right(self.starts, instant) - 1)] if self.limits else ()

    def next_change(self, instant: int) -> int | None:
        """When they change next."""
        index = bisect_right(self.starts, instant)
        return self.starts[index] if index < len(self.starts) else None
