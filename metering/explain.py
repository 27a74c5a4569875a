"""Why a customer pays what it pays: the books' own rows in words, from the period down to one hour."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from metering.rating.money import MICRO, parse_decimal
from metering.rating.parts import PART_DECIMALS, TierPart
from metering.rating.words import part_line


class Part(NamedTuple):
    """A slice of a price: what was used, what it costs, what that makes; exact."""

    card: str
    card_version: str
    since: datetime
    tier: int
    label: str
    units: Decimal
    billed: Decimal
    unit_price: Decimal
    fee: Decimal
    amount: Decimal


class Effect(NamedTuple):
    """What a maximum, a discount, a cap, a conversion or proration added; exact."""

    card_version: str
    name: str
    amount: Decimal


class Hour(NamedTuple):
    """One row of a price: the position before and after, the charge, what it was made from."""

    hour: datetime
    quantity: Decimal
    before: Decimal
    after: Decimal
    amount: Decimal
    events: int
    digest: str
    card_version: str
    revision: int


@dataclass(frozen=True)
class PriceExplanation:
    """Σ parts + Σ effects + rounding = amount, of a period or of one hour."""

    price: str
    meter: str
    line: str
    model: str
    corrects: str
    quantity: Decimal
    amount: Decimal
    rounding: Decimal
    parts: list[Part]
    effects: list[Effect]
    hours: list[Hour]


_WHERE = (
    "WHERE customer = {customer:String} AND period = {period:String}"
    " AND ({price:String} = '' OR price = {price:String})"
    " AND ({hour:Int64} < 0 OR toUnixTimestamp(hour) = {hour:Int64})"
)
_PARTS = (
    "SELECT price, card, card_version, min(hour) AS since, slice.1 AS tier, slice.7 AS label, sum(slice.2),"
    " sum(slice.6), slice.3 AS unit_price, sum(slice.4), sum(slice.5) FROM charges_current ARRAY JOIN"
    " arrayZip(slice_tiers, slice_units, slice_unit_prices, slice_flat_fees, slice_amounts, slice_billed,"
    f" slice_labels) AS slice {_WHERE} GROUP BY price, card, card_version, tier, label, unit_price"
    " ORDER BY price, since, card_version, label, tier"
)
_EFFECTS = (
    "SELECT price, card_version, effect.1 AS name, sum(effect.2) FROM charges_current"
    f" ARRAY JOIN arrayZip(effect_names, effect_amounts) AS effect {_WHERE}"
    " GROUP BY price, card_version, name ORDER BY price, min(hour), name"
)
_PRICES = (
    "SELECT price, any(meter), any(line), any(model), any(corrects), sum(quantity), sum(amount),"
    " sum(rounding)"
    f" FROM charges_current {_WHERE} GROUP BY price"
    " ORDER BY any(line) NOT IN ('usage', 'flat'), price"
)
_HOURS = (
    "SELECT price, hour, quantity, quantity_before, quantity_after, amount, events, digest, card_version,"
    " toUInt32(bitAnd(version, toUInt128(4294967295)))"
    f" FROM charges_current {_WHERE} ORDER BY price, hour"
)


def explanations(
    client: Any, customer: str, period: str, price: str = "", hour: int = -1
) -> list[PriceExplanation]:
    """Everything that makes up a customer's period, a price of it, or one hour (epoch s)."""
    parameters = {"customer": customer, "period": period, "price": price, "hour": hour}

    def ask(sql: str) -> list[tuple[Any, ...]]:
        return list(client.query(sql, parameters=parameters).result_rows)

    parts, effects, hours = ask(_PARTS), ask(_EFFECTS), ask(_HOURS)
    made = []
    for found in ask(_PRICES):
        rows: list[Any] = [
            [Part(*row) for name, *row in parts if name == found[0] and _says_something(row)],
            [Effect(*row) for name, *row in effects if name == found[0] and row[-1]],
            [Hour(*row) for name, *row in hours if name == found[0]],
        ]
        made.append(PriceExplanation(*found, *rows))  # the columns in the order of the fields
    return made


def _says_something(row: list[Any]) -> bool:
    return any(row[-5:-3]) or bool(row[-2]) or bool(row[-1])


def in_words(found: PriceExplanation, *, hourly: bool) -> Iterator[str]:
    """The explanation of one price, line by line, to be read aloud."""
    yield _headline(found)
    version = ""
    for part in found.parts:
        if part.card_version != version:
            version = part.card_version
            yield f"  by card {part.card}, version {version}, since {part.since:%Y-%m-%d %H:%M} UTC:"
        yield f"    {part_line(_tier_part(part), found.model)}"
    for effect in found.effects:
        yield f"    {effect.name}: {_signed(effect.amount)}"
    if found.rounding:
        yield f"    rounding to six decimals: {_signed(found.rounding)}"
    if hourly:
        yield from (f"    {line}" for hour in found.hours for line in _hour_words(hour))


def _headline(found: PriceExplanation) -> str:
    what = f"{plain(found.quantity)} {found.meter}" if found.meter else found.line.replace("_", "-")
    corrects = f" (corrects {found.corrects})" if found.corrects else ""
    return f"{found.price}: {what} come to {found.amount:,.6f}{corrects}"


def _hour_words(hour: Hour) -> Iterator[str]:
    moved = f"{plain(hour.before)} → {plain(hour.after)}"
    yield f"{hour.hour:%Y-%m-%d %H:00}  {plain(hour.quantity):>12}  {moved:<28} {hour.amount:>14,.6f}"


def provenance(hour: Hour) -> str:
    """Which events and which catalog made a row."""
    return (
        f"from {hour.events:,} events with digest {hour.digest or '-'}, card version {hour.card_version},"
        f" catalog revision {hour.revision}"
    )


def _tier_part(part: Part) -> TierPart:
    return TierPart(
        part.tier,
        parse_decimal(part.units, MICRO),
        parse_decimal(part.billed, MICRO),
        parse_decimal(part.unit_price, 12),
        parse_decimal(part.fee, MICRO),
        parse_decimal(part.amount, PART_DECIMALS),
        part.label,
    )


def plain(number: Decimal) -> str:
    """A number with thousands separators and no trailing zeros."""
    text = f"{number:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _signed(amount: Decimal) -> str:
    text = plain(amount)
    return text if amount < 0 else f"+{text}"


def as_plain(found: PriceExplanation) -> dict[str, Any]:
    """The explanation as JSON values; numbers are strings."""
    return {
        "price": found.price,
        "meter": found.meter,
        "line": found.line,
        "model": found.model,
        "corrects": found.corrects,
        "quantity": plain(found.quantity).replace(",", ""),
        "amount": f"{found.amount:.6f}",
        "rounding": plain(found.rounding).replace(",", ""),
        "parts": [_texts(part) for part in found.parts],
        "effects": [_texts(effect) for effect in found.effects],
        "hours": [_texts(hour) for hour in found.hours],
    }


def _texts(row: NamedTuple) -> dict[str, Any]:
    return {k: v if isinstance(v, int) else _text(v) for k, v in row._asdict().items()}


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return plain(value).replace(",", "")
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value)
