"""What a customer has agreed to, as a timeline: spans in which nothing changes."""

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from metering.rating.cards import Change, Discount, Flat, Minimum, Origin, PercentOf, Price, Segment


class Period(NamedTuple):
    """A billing period, e.g. `2026-11`, from `starts` until `ends` (epoch s, exclusive)."""

    name: str
    starts: int
    ends: int

    @property
    def seconds(self) -> int:
        """Its length."""
        return self.ends - self.starts


@dataclass(frozen=True)
class Span:
    """A stretch of an agreement; `change` says how it takes over from the one before.

    `shares` are in an order in which each comes behind those that it reads. `by_meter` says which
    prices read a meter; `free` meters cost nothing by decision.
    """

    starts: int
    ends: int | None
    origin: Origin
    change: Change = "continue"
    prices: dict[str, Price] = field(default_factory=dict)
    flats: dict[str, Flat] = field(default_factory=dict)
    shares: dict[str, PercentOf] = field(default_factory=dict)
    discounts: tuple[Discount, ...] = ()
    cap: int | None = None
    minimums: tuple[Minimum, ...] = ()
    free: frozenset[str] = frozenset()
    by_meter: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Agreement:
    """Spans in time order, without overlap; shared by all customers with the same terms."""

    spans: tuple[Span, ...]
    _starts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", tuple(span.starts for span in self.spans))

    def at(self, instant: int) -> Span | None:
        """The span in force; a switch instant belongs to the new one."""
        index = bisect_right(self._starts, instant) - 1
        if index < 0:
            return None
        span = self.spans[index]
        return span if span.ends is None or instant < span.ends else None

    def within(self, starts: int, ends: int) -> list[Span]:
        """The spans that touch an interval."""
        return [s for s in self.spans if s.starts < ends and (s.ends is None or s.ends > starts)]

    def segments(self, price_id: str) -> list[Segment]:
        """The versions of one price in time order."""
        found: list[Segment] = []
        for span in self.spans:
            price = span.prices.get(price_id)
            if price is None:
                continue
            if found and _continues(found[-1], span, price):
                found[-1] = replace(found[-1], ends=span.ends)
            else:
                found.append(Segment(span.starts, span.ends, price, price_id, span.origin, span.change))
        return found


def _continues(segment: Segment, span: Span, price: Price) -> bool:
    return (
        segment.ends == span.starts
        and span.change == "continue"
        and segment.price == price
        and segment.origin == span.origin
    )


@dataclass(frozen=True, slots=True)
class Terms:
    """A customer's agreement from `starts` until `ends` (epoch s; None: open)."""

    customer: str
    starts: int
    ends: int | None
    agreement: Agreement

    def active(self, period: Period) -> tuple[int, int]:
        """The part of a period in which the customer has a contract; empty when it ends first."""
        ends = period.ends if self.ends is None else min(period.ends, self.ends)
        return max(period.starts, self.starts), ends
