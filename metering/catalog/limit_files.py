"""What a catalog file may say of limits, pools and grants."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from metering.catalog.values import FEE_DECIMALS, LARGEST, Frozen, Name, Path, Size, Text
from metering.quota.limits import Answer, Kind
from metering.rating.money import parse_decimal

_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_PERCENT = re.compile(r"([1-9][0-9]{0,3})%")
_LONGEST_ROLLING = 35 * 86_400
WINDOWS = "hour, day, month, period, or rolling with a length such as `rolling 24h`"


def seconds_of(text: str) -> int | None:
    """A duration such as `60s`, `30m`, `24h` or `7d` in seconds; None when it is none."""
    found = _DURATION.fullmatch(text)
    return int(found[1]) * _SECONDS[found[2]] if found else None


def percent_of_text(text: str) -> int | None:
    """A percentage such as `10%`; None when it is none."""
    found = _PERCENT.fullmatch(text)
    return int(found[1]) if found else None


def _limit_amount(value: Any) -> str:
    if isinstance(value, float):
        raise ValueError(f'{value} is a float and not exact; write it in quotes: "{value}"')
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("write a decimal number, or -1 for unlimited")
    number = parse_decimal(value, FEE_DECIMALS)
    if number < 0 and number != -(10**FEE_DECIMALS):
        raise ValueError(f"{value} is below zero; -1 means unlimited, 0 that nothing is allowed")
    if number >= LARGEST * 10**FEE_DECIMALS:
        raise ValueError(f"{value} is beyond the range, which ends at {LARGEST:,}; -1 means unlimited")
    return f"{Decimal(value).normalize():f}"


def _window(value: str) -> str:
    kind, _, length = value.partition(" ")
    if kind == "rolling":
        seconds = seconds_of(length)
        if seconds is None or seconds % 60 or seconds > _LONGEST_ROLLING:
            raise ValueError(f"a rolling window lasts whole minutes up to 35 days; write one of {WINDOWS}")
    elif length or kind not in ("hour", "day", "month", "period"):
        raise ValueError(f"`{value}` is no window; write one of {WINDOWS}")
    return value


def _duration(value: str) -> str:
    if seconds_of(value) is None:
        raise ValueError(f"`{value}` is no duration; write e.g. 60s, 30m, 24h or 7d")
    return value


def _grace(value: str) -> str:
    if percent_of_text(value) is None and seconds_of(value) is None:
        raise ValueError(f"`{value}` is no grace; write a percentage such as 10% or a time such as 24h")
    return value


def _zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"`{value}` is no time zone; use its IANA name, e.g. Europe/Berlin")
    return value


def _thresholds(value: tuple[int, ...]) -> tuple[int, ...]:
    if any(not 0 < percent <= 1_000 for percent in value) or list(value) != sorted(set(value)):
        raise ValueError("thresholds are rising percentages from 1 to 1000, e.g. [50, 80, 100]")
    return value


def _instant(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("the time has no zone; end it with Z")
    return value


Amount = Annotated[str, BeforeValidator(_limit_amount)]
Zone = Annotated[str, AfterValidator(_zone)]
Instant = Annotated[datetime, AfterValidator(_instant)]
BillingDay = Annotated[int, Field(ge=1, le=31)]


class LimitFile(Frozen):
    """A limit of a plan, a contract, a customer or a pool; fields left out come from the level below.

    The amount is one of `units`, `money` and `requests`; -1 or none is unlimited.
    """

    id: Name
    meter: Name | None = None
    units: Amount | None = None
    money: Amount | None = None
    requests: Amount | None = None
    window: Annotated[str, AfterValidator(_window)] | None = None
    kind: Kind | None = None
    where: dict[Path, tuple[Text, ...]] = Field(default_factory=dict)
    thresholds: Annotated[tuple[int, ...], AfterValidator(_thresholds)] | None = None
    grace: Annotated[str, AfterValidator(_grace)] | None = None
    when_stale: Answer | None = None
    reuse_last: Annotated[str, AfterValidator(_duration)] | None = None

    @model_validator(mode="after")
    def _fields_fit(self) -> "LimitFile":
        if sum(amount is not None for amount in (self.units, self.money, self.requests)) > 1:
            raise ValueError("a limit counts one of `units`, `money` and `requests`; make it two limits")
        if not all(self.where.values()):
            raise ValueError("`where` lists the values that count; an empty list would count nothing")
        if self.money is not None and self.where:
            raise ValueError("a limit in money counts all usage of its meter; remove `where`")
        if self.grace is not None and self.kind not in (None, "grace"):
            raise ValueError(f"`grace` goes with kind: grace, not {self.kind}")
        return self


class PoolFile(Frozen):
    """Limits that the customers of a pool share, on top of those of each member."""

    id: Text
    limits: tuple[LimitFile, ...] = ()
    zone: Zone = "UTC"
    billing_day: BillingDay = 1


class GrantFile(Frozen):
    """More of a limit for a time: `amount` in what the limit counts, used first in, first out."""

    id: Name
    customer: Text | None = None
    pool: Text | None = None
    limit: Name
    amount: Size
    starts: Instant = Field(alias="from")
    ends: Instant | None = Field(default=None, alias="to")
    reason: str = ""

    @property
    def scope(self) -> str:
        """The customer or the pool."""
        return self.customer or self.pool or ""

    @model_validator(mode="after")
    def _fields_fit(self) -> "GrantFile":
        if (self.customer is None) == (self.pool is None):
            raise ValueError("a grant is for a `customer` or for a `pool`")
        if self.ends is not None and self.ends <= self.starts:
            raise ValueError("`from` must be before `to`")
        return self


LimitedBy = Literal["plan", "contract", "customer", "pool"]
