"""What a price may say in a catalog file; each model has the fields it needs and no others."""

from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from metering.catalog.values import (
    PRICE_DECIMALS,
    Fee,
    Frozen,
    Name,
    Path,
    Percent,
    Quantity,
    Rate,
    Size,
    Text,
    UnitPrice,
)
from metering.rating.money import parse_decimal

Model = Literal[
    "unit",
    "graduated",
    "volume",
    "package",
    "graduated_package",
    "stairstep",
    "capacity",
    "percentage",
    "increment",
    "dynamic",
    "flat",
    "percent_of",
]

# By model: what it must have, and what it may have besides what every usage price may have.
_FIELDS: dict[str, tuple[str, str]] = {
    "unit": ("unit_price | matrix", "per included"),
    "graduated": ("tiers | matrix", "per included"),
    "volume": ("tiers | matrix", "per included"),
    "package": ("unit_price | matrix, package_size", "min_packages included"),
    "graduated_package": ("tiers | matrix, package_size", "included"),
    "stairstep": ("tiers | matrix", "accumulate included"),
    "capacity": ("tiers", ""),
    "percentage": ("rate", "fixed min_per_event max_per_event"),
    "increment": ("unit_price, increment", "per min_units connection_fee"),
    "dynamic": ("", ""),
    "flat": ("amount", "billed prorate"),
    "percent_of": ("rate", "of maximum"),
}
_USAGE_FIELDS = "scope where unit maximum discounts cap minimum proration"
_OPTIONAL = (
    "unit_price per tiers matrix package_size min_packages accumulate included rate fixed min_per_event"
    " max_per_event increment min_units connection_fee amount billed prorate of " + _USAGE_FIELDS
).split()
WITHOUT_METER = frozenset({"flat", "percent_of"})


def _a(word: str) -> str:
    """The word with its article."""
    return f"an {word}" if word[0] in "aeio" else f"a {word}"


class TierFile(Frozen):
    """One tier; `up_to` is inclusive and cumulative, the last tier has none.

    A capacity's tier has `limits` by meter instead; a stairstep's has only its `flat_fee`.
    """

    up_to: Quantity | None = None
    unit_price: UnitPrice | None = None
    flat_fee: Fee = "0"
    limits: dict[Name, Quantity] | None = None


class CellFile(Frozen):
    """A cell of a matrix; `when` names dimension values, `*` or a missing one takes any."""

    when: dict[Path, Text]
    unit_price: UnitPrice | None = None
    tiers: tuple[TierFile, ...] = ()


class MatrixFile(Frozen):
    """Prices by dimension values. Without a cell that takes everything, `unrated: error` is declared."""

    dimensions: tuple[Path, ...]
    cells: tuple[CellFile, ...]
    unrated: Literal["error"] | None = None

    @model_validator(mode="after")
    def _cells_fit(self) -> "MatrixFile":
        if not self.dimensions or not self.cells:
            raise ValueError("a matrix needs `dimensions` and `cells`")
        patterns = []
        for number, cell in enumerate(self.cells, 1):
            unknown = [name for name in cell.when if name not in self.dimensions]
            if unknown:
                raise ValueError(f"cell {number} names `{unknown[0]}`, which is not in `dimensions`")
            patterns.append(tuple(cell.when.get(name, "*") for name in self.dimensions))
        twice = [p for p in patterns if patterns.count(p) > 1]
        if twice:
            raise ValueError(f"two cells are for {'/'.join(twice[0])}; remove one")
        if ("*",) * len(self.dimensions) not in patterns and self.unrated is None:
            raise ValueError(
                "other combinations would have no price: add a cell with `when: {}`, or declare"
                " `unrated: error` so that they become error rows"
            )
        return self


class MeterWeight(Frozen):
    """A meter of a group; each of its units counts `weight` units."""

    meter: Name
    weight: Size = "1"


class DiscountFile(Frozen):
    """A percentage or a fixed amount off a period; percentages come first, then by id."""

    id: Name
    percent: Percent | None = None
    amount: Fee | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "DiscountFile":
        if (self.percent is None) == (self.amount is None):
            raise ValueError("a discount has either `percent` or `amount`")
        return self


class PriceFile(Frozen):
    """A price of one meter or a group of meters, a recurring fee, or a share of other prices."""

    id: Name
    model: Model
    meter: Name | None = None
    meters: tuple[MeterWeight, ...] = ()
    unit_price: UnitPrice | None = None
    per: Annotated[int, Field(ge=1, le=10**12)] = 1
    tiers: tuple[TierFile, ...] = ()
    matrix: MatrixFile | None = None
    package_size: Size | None = None
    min_packages: Annotated[int, Field(ge=0, le=10**9)] = 0
    accumulate: bool = False
    included: Quantity | None = None
    rate: Rate | None = None
    fixed: Fee | None = None
    min_per_event: Fee | None = None
    max_per_event: Fee | None = None
    increment: Size | None = None
    min_units: Quantity | None = None
    connection_fee: Fee | None = None
    amount: Fee | None = None
    billed: Literal["advance", "arrears"] = "advance"
    prorate: bool = True
    of: tuple[Name, ...] = ()
    scope: Literal["event", "hour", "day", "period", "contract"] = "period"
    where: dict[Path, tuple[Text, ...]] = Field(default_factory=dict)
    unit: Name | None = None
    maximum: Fee | None = None
    discounts: tuple[DiscountFile, ...] = ()
    cap: Fee | None = None
    minimum: Fee | None = None
    proration: Literal["none", "flat_fees", "tiers"] = "none"

    @property
    def meter_ids(self) -> tuple[str, ...]:
        """The meters that this price reads."""
        return (self.meter,) if self.meter else tuple(m.meter for m in self.meters)

    @property
    def tier_lists(self) -> list[tuple[TierFile, ...]]:
        """The price's tiers, or those of each cell."""
        if self.matrix is not None:
            return [cell.tiers for cell in self.matrix.cells if cell.tiers]
        return [self.tiers] if self.tiers else []

    @model_validator(mode="after")
    def _fields_fit_model(self) -> "PriceFile":
        self._check_meters()
        self._check_fields()
        cells = self.matrix.cells if self.matrix is not None else ()
        for cell in cells:
            self._check_cell(cell)
        for tiers in self.tier_lists:
            check_tiers(self.model, tiers)
        for text in self._unit_prices():
            _check_per(text, self.per)
        self._check_limits()
        return self

    def _check_meters(self) -> None:
        if self.model in WITHOUT_METER:
            if self.meter or self.meters:
                raise ValueError(f"{_a(self.model)} price reads no meter; remove it")
        elif bool(self.meter) == bool(self.meters):
            raise ValueError(f"{_a(self.model)} price needs `meter`, or `meters` for a group of them")
        if len(set(self.meter_ids)) < len(self.meter_ids):
            raise ValueError("a meter stands twice in `meters`")

    def _check_fields(self) -> None:
        needed, allowed = _FIELDS[self.model]
        may = {*allowed.split(), *needed.replace("|", " ").replace(",", " ").split()}
        may |= set(_USAGE_FIELDS.split()) if self.model not in WITHOUT_METER else set()
        for group in filter(None, needed.split(", ")):
            names = group.split(" | ")
            if not any(self._has(name) for name in names):
                raise ValueError(f"{_a(self.model)} price needs {' or '.join(f'`{n}`' for n in names)}")
            if all(self._has(name) for name in names) and len(names) > 1:
                raise ValueError(
                    f"{_a(self.model)} price has {' or '.join(f'`{n}`' for n in names)}, not both"
                )
        for name in _OPTIONAL:
            if name not in may and self._has(name):
                raise ValueError(f"{_a(self.model)} price has no `{name}`; remove it")

    def _has(self, name: str) -> bool:
        return bool(
            getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)
        )

    def _check_cell(self, cell: CellFile) -> None:
        tiered = self.model in ("graduated", "volume", "graduated_package", "stairstep")
        if tiered != bool(cell.tiers) or tiered == (cell.unit_price is not None):
            wanted = "`tiers`" if tiered else "`unit_price`"
            raise ValueError(f"each cell of {_a(self.model)} price needs {wanted} and nothing else")

    def _unit_prices(self) -> list[str]:
        texts = [tier.unit_price for tiers in self.tier_lists for tier in tiers]
        texts += [cell.unit_price for cell in self.matrix.cells] if self.matrix is not None else []
        return [text for text in (self.unit_price, *texts) if text is not None]

    def _check_limits(self) -> None:
        low, high = self.min_per_event, self.max_per_event
        if low is not None and high is not None and Decimal(low) > Decimal(high):
            raise ValueError(f"min_per_event {low} is above max_per_event {high}")
        if not all(self.where.values()):
            raise ValueError("`where` lists the values that are priced; an empty list would price nothing")
        if self.scope == "event" and self.model not in ("graduated", "volume", "package", "stairstep"):
            raise ValueError(f"scope event is for tiers and packages; {_a(self.model)} price has none")
        if self.scope == "contract" and (self.proration != "none" or self.minimum is not None):
            raise ValueError("scope contract has no proration and no minimum: its window is no period")
        top = [limit for limit in (self.maximum, self.cap) if limit is not None]
        if self.minimum is not None and any(Decimal(self.minimum) > Decimal(t) for t in top):
            raise ValueError(f"minimum {self.minimum} is above the maximum or cap {min(top, key=Decimal)}")
        if len({d.id for d in self.discounts}) < len(self.discounts):
            raise ValueError("two discounts have the same id")
        if sum(Decimal(d.percent or 0) for d in self.discounts) > 100:
            raise ValueError("the discounts come to more than 100 percent")


def check_tiers(model: str, tiers: tuple[TierFile, ...]) -> None:
    """Tiers that leave no unit without a price; ValueError says what to write instead."""
    if model == "capacity":
        _check_capacity(tiers)
        return
    _check_bounds([tier.up_to for tier in tiers])
    for number, tier in enumerate(tiers, 1):
        if tier.limits is not None:
            raise ValueError(f"tier {number}: only a capacity has `limits`")
        if model == "stairstep" and tier.unit_price is not None:
            raise ValueError(f"tier {number}: a stairstep has only `flat_fee`, whatever the units")
        if model != "stairstep" and tier.unit_price is None:
            raise ValueError(f'tier {number} has no `unit_price`; write "0" when it is free')


def _check_capacity(tiers: tuple[TierFile, ...]) -> None:
    for number, tier in enumerate(tiers, 1):
        if tier.unit_price is not None or tier.up_to is not None:
            raise ValueError(f"tier {number}: a capacity has `limits` by meter and a `flat_fee`")
    if tiers[-1].limits is not None:
        raise ValueError("the last tier has limits; leave them out, or more would have no price")
    if any(not tier.limits for tier in tiers[:-1]):
        raise ValueError("only the last tier may leave out `limits`")
    for low, high in pairwise(tier.limits or {} for tier in tiers[:-1]):
        falls = [m for m in low if m in high and Decimal(high[m]) < Decimal(low[m])]
        if falls or all(Decimal(high.get(m, low[m])) == Decimal(low[m]) for m in low):
            raise ValueError(f"limits must rise from tier to tier: {low} is followed by {high}")


def _check_bounds(bounds: list[str | None]) -> None:
    if bounds[-1] is not None:
        raise ValueError(
            f"the last tier ends at {bounds[-1]}; leave out its `up_to`, or units beyond it"
            " would have no price"
        )
    if None in bounds[:-1]:
        raise ValueError("only the last tier may leave out `up_to`")
    numbers = [Decimal(b) for b in bounds[:-1] if b is not None]
    if any(low >= high for low, high in zip([Decimal(0), *numbers], numbers, strict=False)):
        raise ValueError(f"`up_to` must rise and be above 0: {', '.join(map(str, numbers))}")


def _check_per(text: str, per: int) -> None:
    if parse_decimal(text, PRICE_DECIMALS) % per:
        raise ValueError(
            f"{text} per {per:,} is not exact with {PRICE_DECIMALS} decimals a unit; choose another `per`"
        )
