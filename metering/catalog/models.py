"""What a catalog file may say: pydantic models of meters, rate cards, plans and customers."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from metering.rating.money import parse_decimal

PRICE_DECIMALS = 12
FEE_DECIMALS = 6
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
# Currencies with their ISO 4217 code; an amount is rated with 6 decimals in each.
CURRENCIES = frozenset(
    "AED ARS AUD BDT BGN BHD BRL CAD CHF CLP CNY COP CRC CZK DKK DOP EGP EUR GBP GEL GHS GTQ HKD"
    " HUF IDR ILS INR ISK JOD JPY KES KRW KWD KZT LKR MAD MXN MYR NGN NOK NZD OMR PAB PEN PHP PKR"
    " PLN PYG QAR RON RSD SAR SEK SGD THB TND TRY TWD TZS UAH UGX USD UYU VND XAF XOF ZAR".split()
)


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError(f'{value} is a float and not exact; write it in quotes: "{value}"')
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("write a decimal number in quotes")
    return str(value)


def _decimal_text(decimals: int) -> Any:
    def check(text: str) -> str:
        if parse_decimal(text, decimals) < 0:
            raise ValueError("a price cannot be negative")
        return text

    return check


def _utc_hour(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("the time has no zone; end it with Z")
    value = value.astimezone(UTC)
    if value.minute or value.second or value.microsecond:
        raise ValueError("a switch happens at a full hour, UTC; hourly rows must not straddle it")
    return value


def _currency(value: str) -> str:
    if value not in CURRENCIES:
        raise ValueError(f"{value} is not a known currency; use its ISO code, e.g. USD")
    return value


Name = Annotated[str, Field(pattern=_NAME)]
UnitPrice = Annotated[str, BeforeValidator(_exact), AfterValidator(_decimal_text(PRICE_DECIMALS))]
Fee = Annotated[str, BeforeValidator(_exact), AfterValidator(_decimal_text(FEE_DECIMALS))]
Bound = Annotated[str, BeforeValidator(_exact), AfterValidator(_decimal_text(FEE_DECIMALS))]
FullHour = Annotated[datetime, AfterValidator(_utc_hour)]
Currency = Annotated[str, AfterValidator(_currency)]
Path = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MeterFile(_Model):
    """What is measured: which events, which value of them, split by which dimensions."""

    id: Name
    event_type: Annotated[str, Field(min_length=1, max_length=256)]
    aggregation: Literal["sum", "count"]
    value: Path | None = None
    dimensions: tuple[Path, ...] = ()
    unit: Annotated[str, Field(min_length=1, max_length=64)] = "unit"
    scale: Annotated[int, Field(ge=0, le=6)] = 0
    starts: FullHour | None = Field(default=None, alias="from")

    @model_validator(mode="after")
    def _value_fits_aggregation(self) -> "MeterFile":
        if self.aggregation == "sum" and self.value is None:
            raise ValueError("a sum needs `value`, the path of the number inside the event's data")
        if self.aggregation == "count" and self.value is not None:
            raise ValueError("a count reads no `value`; remove it, or use aggregation: sum")
        return self


class TierFile(_Model):
    """One tier; `up_to` is inclusive and cumulative, the last tier has none."""

    up_to: Bound | None = None
    unit_price: UnitPrice
    flat_fee: Fee = "0"


class PriceFile(_Model):
    """A price of one meter: a unit price, or tiers that are graduated or by volume."""

    id: Name
    meter: Name
    model: Literal["unit", "graduated", "volume"]
    unit_price: UnitPrice | None = None
    tiers: tuple[TierFile, ...] = ()

    @model_validator(mode="after")
    def _tiers_fit_model(self) -> "PriceFile":
        if self.model == "unit":
            if self.unit_price is None or self.tiers:
                raise ValueError("a unit price has `unit_price` and no `tiers`")
            return self
        if self.unit_price is not None or not self.tiers:
            raise ValueError(f"a {self.model} price has `tiers` and no `unit_price`")
        self._check_bounds([tier.up_to for tier in self.tiers])
        return self

    def _check_bounds(self, bounds: list[str | None]) -> None:
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


class VersionFile(_Model):
    """The prices of a card from an instant on, until the next version starts."""

    starts: FullHour = Field(alias="from")
    prices: tuple[PriceFile, ...]
    not_charged: tuple[Name, ...] = ()


class RateCardFile(_Model):
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


class PlanFile(_Model):
    """What customers subscribe to."""

    id: Name
    name: str
    rate_card: Name


class CustomerFile(_Model):
    """Who is charged, from when, under which plan."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    name: str
    plan: Name
    currency: Currency
    start: FullHour
    stripe_customer: str | None = None


class CatalogFile(_Model):
    """All files of a catalog together."""

    meters: tuple[MeterFile, ...] = ()
    rate_cards: tuple[RateCardFile, ...] = ()
    plans: tuple[PlanFile, ...] = ()
    customers: tuple[CustomerFile, ...] = ()
