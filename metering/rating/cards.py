"""What a price is: tiers of unit prices and flat fees, and when each version applies.

Quantities are integers of 10^-scale units, unit prices of 10^-12 and flat fees of 10^-6 of the
currency. A float cannot enter.
"""

from dataclasses import dataclass
from typing import Literal

Model = Literal["unit", "graduated", "volume"]


@dataclass(frozen=True, slots=True)
class Tier:
    """Up to and including `up_to` (cumulative, None: open), each unit costs `unit_price`.

    `flat_fee` counts once: when the tier holds any unit (graduated), or when it is the tier of the
    whole quantity (volume).
    """

    up_to: int | None
    unit_price: int
    flat_fee: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """A price model with its tiers, the last one open; a unit price is one open tier."""

    model: Model
    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        bounds = [tier.up_to for tier in self.tiers]
        if not bounds or bounds[-1] is not None:
            raise ValueError("the last tier must be open, or units beyond it would cost nothing")
        closed = [bound for bound in bounds if bound is not None]
        if len(closed) != len(bounds) - 1 or sorted(set(closed)) != closed:
            raise ValueError(f"tier bounds must rise, and only the last is open: {bounds}")
        if closed and closed[0] <= 0:
            raise ValueError(f"the first tier must hold something: {closed[0]}")
        if self.model == "unit" and len(self.tiers) != 1:
            raise ValueError("a unit price has exactly one tier")


@dataclass(frozen=True, slots=True)
class Segment:
    """A card version's price for one meter from `starts` until `ends` (epoch s, exclusive)."""

    starts: int
    ends: int | None
    price: Price
    price_id: str
    card: str
    card_version: str
    currency: str
