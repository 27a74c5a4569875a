"""What a catalog file may say: pydantic models of meters, rate cards, plans, contracts and customers."""

from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from metering.catalog.limit_files import BillingDay, GrantFile, LimitFile, PoolFile, Zone
from metering.catalog.price_files import DiscountFile, PriceFile
from metering.catalog.values import Currency, Fee, Frozen, FullHour, Name, Path, Text, UnitPrice
from metering.rating.usage import Aggregation

__all__ = [
    "CatalogFile",
    "ContractFile",
    "CustomerFile",
    "GrantFile",
    "LimitFile",
    "MeterFile",
    "OverrideFile",
    "PlanFile",
    "PoolFile",
    "PriceFile",
    "RateCardFile",
    "UnitFile",
    "VersionFile",
]

ChangePolicy = Literal["continue", "reset", "retroactive"]
LatePolicy = Literal["adjust", "restate", "quarantine"]

_READS_NO_VALUE = frozenset({"count"})
_NOT_MERGEABLE = {
    "median": "two medians do not give the median of both",
    "percentile": "two percentiles do not give the percentile of both",
    "p95": "two percentiles do not give the percentile of both",
    "p99": "two percentiles do not give the percentile of both",
    "mode": "two most frequent values do not give the most frequent of both",
    "stddev": "it needs a square root, which is not exact",
    "approx_unique": "an estimate is not exact; use unique",
    "hll": "an estimate is not exact; use unique",
}
AGGREGATIONS = get_args(Aggregation)


def _mergeable(wanted: Any) -> Any:
    if wanted in _NOT_MERGEABLE:
        raise ValueError(
            f"{wanted} cannot be added up hour by hour exactly: {_NOT_MERGEABLE[wanted]}."
            f" Use one of {', '.join(AGGREGATIONS)}"
        )
    return wanted


class MeterFile(Frozen):
    """What is measured: which events, which value of them, split by which dimensions.

    `late` says what becomes of usage that arrives when its billing period is closed.
    """

    id: Name
    event_type: Text
    aggregation: Annotated[Aggregation, BeforeValidator(_mergeable)]
    value: Path | None = None
    unit_price: Path | None = None
    max_unit_price: UnitPrice | None = None
    filters: dict[Path, tuple[Text, ...]] = Field(default_factory=dict)
    dimensions: tuple[Path, ...] = ()
    unit: Annotated[str, Field(min_length=1, max_length=64)] = "unit"
    scale: Annotated[int, Field(ge=0, le=6)] = 0
    starts: FullHour | None = Field(default=None, alias="from")
    late: LatePolicy = "adjust"

    @model_validator(mode="after")
    def _value_fits_aggregation(self) -> "MeterFile":
        needs = self.aggregation not in _READS_NO_VALUE
        if needs and self.value is None:
            a = "an" if self.aggregation[0] in "aei" else "a"
            raise ValueError(
                f"{a} {self.aggregation} needs `value`, the path of the number inside the event's data"
            )
        if not needs and self.value is not None:
            raise ValueError("a count reads no `value`; remove it, or use aggregation: sum")
        if (self.aggregation == "priced") != (self.unit_price is not None):
            raise ValueError(
                "`unit_price`, the path of the price on the event, goes with aggregation: priced"
            )
        if (self.aggregation == "priced") != (self.max_unit_price is not None):
            raise ValueError(
                "aggregation: priced needs `max_unit_price`, the highest price an event may name"
            )
        if not all(self.filters.values()):
            raise ValueError("a filter lists the values that count; an empty one would count nothing")
        return self


class RateOfUnit(Frozen):
    """What one custom unit is worth from an instant on."""

    starts: FullHour = Field(alias="from")
    currency: Currency
    rate: UnitPrice


class UnitFile(Frozen):
    """A custom unit, e.g. credits, that prices are written in; converted at the end."""

    id: Name
    rates: tuple[RateOfUnit, ...]

    @model_validator(mode="after")
    def _rates_rise(self) -> "UnitFile":
        if not self.rates:
            raise ValueError("a unit needs at least one rate")
        places = [(rate.currency, rate.starts) for rate in self.rates]
        if len(set(places)) < len(places) or sorted(places, key=lambda p: p[1]) != places:
            raise ValueError("rates must be in rising order of `from`, one for each currency and instant")
        return self


class VersionFile(Frozen):
    """The prices of a card from an instant on, until the next version starts."""

    starts: FullHour = Field(alias="from")
    prices: tuple[PriceFile, ...]
    not_charged: tuple[Name, ...] = ()
    change: ChangePolicy = "continue"


class RateCardFile(Frozen):
    """A rate card in one currency, with dated versions."""

    id: Name
    currency: Currency
    versions: tuple[VersionFile, ...]

    @model_validator(mode="after")
    def _versions_rise(self) -> "RateCardFile":
        if not self.versions:
            raise ValueError("a rate card needs at least one version")
        starts = [version.starts for version in self.versions]
        if any(a >= b for a, b in pairwise(starts)):
            raise ValueError("versions must be in rising order of `from`, each at its own instant")
        return self


class OverrideFile(Frozen):
    """Fields of a price, or a whole price, that replace those below: customer > contract > plan > card.

    `set` holds the fields as in a price; `replace: true` drops all others.
    """

    price: Name
    starts: FullHour | None = Field(default=None, alias="from")
    ends: FullHour | None = Field(default=None, alias="to")
    changes: dict[str, Any] = Field(alias="set")
    replace: bool = False

    @model_validator(mode="after")
    def _dates_rise(self) -> "OverrideFile":
        if self.starts is not None and self.ends is not None and self.starts >= self.ends:
            raise ValueError("`from` must be before `to`")
        if "id" in self.changes:
            raise ValueError("an override keeps the price's id; remove `id` from `set`")
        return self


class MinimumFile(Frozen):
    """A minimum commitment for each period; the true-up is a line of its own at the close."""

    id: Name = "minimum"
    amount: Fee
    of: tuple[Name, ...] = ()
    prorate: bool = True


class ConditionsFile(Frozen):
    """What a plan, a contract or a customer may add to a rate card."""

    overrides: tuple[OverrideFile, ...] = ()
    discounts: tuple[DiscountFile, ...] = ()
    minimum: MinimumFile | None = None
    cap: Fee | None = None

    @model_validator(mode="after")
    def _overrides_do_not_overlap(self) -> "ConditionsFile":
        if len({d.id for d in self.discounts}) < len(self.discounts):
            raise ValueError("two discounts have the same id")
        if sum(Decimal(d.percent or 0) for d in self.discounts) > 100:
            raise ValueError("the discounts come to more than 100 percent")
        if (
            self.minimum is not None
            and self.cap is not None
            and Decimal(self.minimum.amount) > Decimal(self.cap)
        ):
            raise ValueError(f"minimum {self.minimum.amount} is above the cap {self.cap}")
        for a, b in pairwise(sorted(self.overrides, key=lambda o: (o.price, _start(o)))):
            if a.price == b.price and (a.ends is None or b.starts is None or b.starts < a.ends):
                raise ValueError(f"two overrides of `{a.price}` overlap in time; end the first with `to`")
        return self


def _start(override: OverrideFile) -> float:
    return override.starts.timestamp() if override.starts else 0


class PlanFile(ConditionsFile):
    """What customers subscribe to."""

    id: Name
    name: str
    rate_card: Name
    limits: tuple[LimitFile, ...] = ()


class ContractFile(ConditionsFile):
    """What was negotiated with one customer or several, on top of their plan."""

    id: Name
    name: str = ""
    limits: tuple[LimitFile, ...] = ()


class PhaseFile(Frozen):
    """A plan from an instant on; `change` says what happens to tiers that are under way."""

    plan: Name
    starts: FullHour = Field(alias="from")
    change: ChangePolicy = "continue"


class CustomerFile(ConditionsFile):
    """Who is charged, from when until when, under which plan or sequence of plans.

    Customers of a `pool` run through the tiers together; their events are keyed by the pool. Windows of
    limits turn in the `zone`, a billing period's on the `billing_day`.
    """

    id: Text
    name: str
    plan: Name | None = None
    plans: tuple[PhaseFile, ...] = ()
    contract: Name | None = None
    pool: Text | None = None
    currency: Currency
    start: FullHour
    end: FullHour | None = None
    stripe_customer: str | None = None
    limits: tuple[LimitFile, ...] = ()
    zone: Zone = "UTC"
    billing_day: BillingDay = 1

    @property
    def phases(self) -> tuple[PhaseFile, ...]:
        """The customer's plans in time order."""
        return self.plans or (PhaseFile(plan=self.plan or "", starts=self.start),)

    @model_validator(mode="after")
    def _plans_rise(self) -> "CustomerFile":
        if bool(self.plan) == bool(self.plans):
            raise ValueError("a customer has a `plan`, or `plans` with their dates")
        starts = [phase.starts for phase in self.phases]
        if any(a >= b for a, b in pairwise(starts)):
            raise ValueError("plans must be in rising order of `from`, each at its own instant")
        if starts[0] > self.start:
            raise ValueError(
                f"from {self.start:%Y-%m-%dT%HZ} to {starts[0]:%Y-%m-%dT%HZ} the customer has no plan;"
                " let the first one begin at `start`"
            )
        if self.end is not None and self.end <= self.start:
            raise ValueError("`end` must be after `start`")
        return self


class CatalogFile(Frozen):
    """All files of a catalog together."""

    meters: tuple[MeterFile, ...] = ()
    units: tuple[UnitFile, ...] = ()
    rate_cards: tuple[RateCardFile, ...] = ()
    plans: tuple[PlanFile, ...] = ()
    contracts: tuple[ContractFile, ...] = ()
    pools: tuple[PoolFile, ...] = ()
    customers: tuple[CustomerFile, ...] = ()
    grants: tuple[GrantFile, ...] = ()


def overridden(price: PriceFile | None, override: OverrideFile) -> PriceFile:
    """The price with an override's fields; ValueError when the result is no price."""
    fields = price.model_dump(exclude_defaults=True) if price is not None and not override.replace else {}
    if "model" in override.changes:
        fields = {k: v for k, v in fields.items() if k in ("meter", "meters", "where")}
    try:
        return PriceFile.model_validate({**fields, **override.changes, "id": override.price})
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        raise ValueError(f"{path}: {message}" if path else message) from error
