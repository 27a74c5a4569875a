"""What a price is: its model with tiers, packages, cells and fees, and what limits or lowers it.

Quantities are integers of 10^-6 unit, unit prices and rates of 10^-12, fees and limits of 10^-6 of
the currency. A float cannot enter. A price is immutable: a change is a new version.
"""

from dataclasses import dataclass
from typing import Literal

Model = Literal[
    "unit",
    "graduated",
    "volume",
    "package",
    "graduated_package",
    "stairstep",
    "stairstep_accumulate",
    "capacity",
    "percentage",
    "increment",
    "dynamic",
]
Scope = Literal["event", "hour", "day", "period", "contract"]
Change = Literal["continue", "reset", "retroactive"]
Proration = Literal["none", "flat_fees", "tiers"]

ONE = 10**6  # one unit of quantity, or of the currency, in micro-units
RATE_ONE = 10**12  # a rate of 1: unit prices, percentages and conversions have 12 decimals
PERCENT_ONE = 10**6  # all of it: a percentage with four decimals

WHOLE_QUANTITY = frozenset({"volume", "stairstep"})  # one tier holds the whole quantity
PER_EVENT = frozenset({"percentage", "increment"})


@dataclass(frozen=True, slots=True)
class Tier:
    """Up to and including `up_to` (cumulative, None: open), each unit costs `unit_price`.

    `flat_fee` counts once: when the tier holds any unit (graduated), or when it is the tier of the
    whole quantity (volume). `limits` are a capacity's bounds by meter, empty in its open tier.
    """

    up_to: int | None
    unit_price: int
    flat_fee: int = 0
    limits: tuple[tuple[str, int], ...] = ()


def _marked(value: str) -> str:
    for sign in "\\/*":
        value = value.replace(sign, f"\\{sign}")
    return value


@dataclass(frozen=True, slots=True)
class Cell:
    """The tiers for one combination of dimension values; None in `when` matches any value."""

    when: tuple[str | None, ...]
    tiers: tuple[Tier, ...]

    @property
    def label(self) -> str:
        """How the explanation names it, e.g. `eu/*`; a stroke or a star in a value is marked."""
        return "/".join("*" if value is None else _marked(value) for value in self.when)


@dataclass(frozen=True, slots=True)
class Discount:
    """A percentage (10^-6 of the whole) or a fixed amount (micro-units) off; one of both is 0."""

    id: str
    percent: int = 0
    amount: int = 0


@dataclass(frozen=True, slots=True)
class EventFee:
    """What each single event costs or is rounded to; see `per_event.py`.

    Percentage: `fixed`, `minimum` and `maximum` an event, micro-units of the currency. Increment:
    `size` and `least` in micro-units of the quantity, `fixed` is the connection fee.
    """

    fixed: int = 0
    minimum: int | None = None
    maximum: int | None = None
    size: int = 0
    least: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """A usage price. The last tier is open; a unit price is one open tier.

    `meters` are the meters that count together, with weights in micro-units; `where` lists the
    dimension values that it prices (all of them when empty). `conversion` turns a custom unit into
    the currency.
    """

    model: Model
    tiers: tuple[Tier, ...] = ()
    meters: tuple[tuple[str, int], ...] = ()
    where: tuple[tuple[str, frozenset[str]], ...] = ()
    dimensions: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()
    package: int = 0
    min_packages: int = 0
    included: int = 0
    event: EventFee = EventFee()
    scope: Scope = "period"
    proration: Proration = "none"
    custom_unit: str = ""
    conversion: int = RATE_ONE
    maximum: int | None = None
    discounts: tuple[Discount, ...] = ()
    cap: int | None = None

    def __post_init__(self) -> None:
        if self.model == "capacity":
            _check_capacity(self.tiers)
        elif self.cells:
            for cell in self.cells:
                _check_tiers(self.model, cell.tiers)
        elif self.model != "dynamic":
            _check_tiers(self.model, self.tiers)
        if self.model in ("package", "graduated_package") and self.package <= 0:
            raise ValueError("a package holds more than nothing: set its size")
        if self.model == "increment" and self.event.size <= 0:
            raise ValueError("an increment is more than nothing: set its size")
        percent = sum(d.percent for d in self.discounts)
        if not 0 <= percent <= PERCENT_ONE:
            raise ValueError("discounts of more than 100 percent")


def _check_tiers(model: str, tiers: tuple[Tier, ...]) -> None:
    bounds = [tier.up_to for tier in tiers]
    if not bounds or bounds[-1] is not None:
        raise ValueError("the last tier must be open, or units beyond it would cost nothing")
    closed = [bound for bound in bounds if bound is not None]
    if len(closed) != len(bounds) - 1 or sorted(set(closed)) != closed:
        raise ValueError(f"tier bounds must rise, and only the last is open: {bounds}")
    if closed and closed[0] <= 0:
        raise ValueError(f"the first tier must hold something: {closed[0]}")
    if model in ("unit", "package", "percentage", "increment") and len(tiers) != 1:
        raise ValueError(f"a {model} price has exactly one tier")


def _check_capacity(tiers: tuple[Tier, ...]) -> None:
    if not tiers or tiers[-1].limits or not all(tier.limits for tier in tiers[:-1]):
        raise ValueError("the last capacity tier must be open, and only the last")


@dataclass(frozen=True, slots=True)
class Flat:
    """A recurring fee: `amount` micro-units for each whole billing period."""

    amount: int
    arrears: bool = False
    prorated: bool = True


@dataclass(frozen=True, slots=True)
class PercentOf:
    """A share of what other prices come to; `of` empty means all usage and flat prices."""

    rate: int
    of: tuple[str, ...] = ()
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Minimum:
    """A minimum commitment for a period; the true-up at close is a line `id` of its own."""

    id: str
    amount: int
    of: tuple[str, ...] = ()
    prorated: bool = True


@dataclass(frozen=True, slots=True)
class Origin:
    """Which immutable version a price comes from."""

    card: str
    version: str
    currency: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A price in force from `starts` until `ends` (epoch s, exclusive, None: open).

    `change` says what happens to the position in the tiers when it takes over.
    """

    starts: int
    ends: int | None
    price: Price
    price_id: str
    origin: Origin
    change: Change = "continue"
