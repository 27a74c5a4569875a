"""The kinds of values in catalog files: names, exact decimals, full hours, currencies."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from metering.rating.money import parse_decimal

PRICE_DECIMALS = 12
FEE_DECIMALS = 6
LARGEST = 10**15  # of a fee, a limit or a bound
LARGEST_PRICE = 10**9  # of a unit: with 10^15 units it stays far below the 38 digits of an amount
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


def _decimal_text(decimals: int, largest: int = LARGEST) -> Any:
    def check(text: str) -> str:
        value = parse_decimal(text, decimals)
        if value < 0:
            raise ValueError("a price cannot be negative")
        if value >= largest * 10**decimals:
            raise ValueError(f"{text} is beyond the range, which ends at {largest:,}")
        return f"{Decimal(text).normalize():f}"  # one number has one text, and so one hash

    return check


def _above_zero(text: str) -> str:
    if not parse_decimal(text, FEE_DECIMALS):
        raise ValueError("must be above 0")
    return text


def _percent(text: str) -> str:
    if not 0 <= parse_decimal(text, 4) <= 100 * 10**4:
        raise ValueError(f"{text} is not a percentage from 0 to 100")
    return f"{Decimal(text).normalize():f}"


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
UnitPrice = Annotated[
    str, BeforeValidator(_exact), AfterValidator(_decimal_text(PRICE_DECIMALS, LARGEST_PRICE))
]
Fee = Annotated[str, BeforeValidator(_exact), AfterValidator(_decimal_text(FEE_DECIMALS))]
Quantity = Annotated[str, BeforeValidator(_exact), AfterValidator(_decimal_text(FEE_DECIMALS))]
Size = Annotated[Quantity, AfterValidator(_above_zero)]
Percent = Annotated[str, BeforeValidator(_exact), AfterValidator(_percent)]
# A rate in percent with up to ten decimals: as a fraction it has the twelve of a unit price.
Rate = Annotated[
    str, BeforeValidator(_exact), AfterValidator(_decimal_text(PRICE_DECIMALS - 2, LARGEST_PRICE))
]
FullHour = Annotated[datetime, AfterValidator(_utc_hour)]
Currency = Annotated[str, AfterValidator(_currency)]
Path = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
Text = Annotated[str, Field(min_length=1, max_length=256)]


class Frozen(BaseModel):
    """A catalog object: immutable, and without a field that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
