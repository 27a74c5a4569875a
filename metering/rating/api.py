"""The rating engine for programs: exact decimals in, exact decimals out.

>>> tiers = [{"up_to": 1000, "unit_price": "0.10"}, {"unit_price": "0.05"}]
>>> card = load_card({"model": "graduated", "tiers": tiers})
>>> charge(card, 1200)
Decimal('110.000000')
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from metering.rating.cards import ONE, Origin, Price, Segment
from metering.rating.charge import Groups, position
from metering.rating.hourly import by_hour, hourly_rows
from metering.rating.matrix import NO_CELL, cell_of
from metering.rating.money import MICRO, format_micro, format_quantity, parse_decimal
from metering.rating.rows import ChargeRow, Label, row_between
from metering.rating.terms import Period
from metering.rating.usage import HourUse, Usage, merge
from metering.rating.words import row_lines

Number = str | int | Decimal
# A plain quantity; event sizes, or (units, price) pairs; quantities by meter or by cell values.
Used = Number | Sequence[Any] | Mapping[Any, Number]

_FOREVER = Period("all", 0, 253_402_300_800)
_ORIGIN = Origin("card", "", "")


@dataclass(frozen=True)
class Card:
    """A price that was read and checked."""

    price: Price
    name: str


class HourCharge(NamedTuple):
    """The charge of one hour; `before` and `after` are cumulative quantities."""

    hour: datetime
    quantity: Decimal
    before: Decimal
    after: Decimal
    amount: Decimal
    lines: tuple[str, ...]


def load_card(price: Mapping[str, Any] | str) -> Card:
    """A price from a mapping or YAML text, written as in a catalog (`id` and `meter` may be left out).

    ValueError when it is no price, a flat fee, or a share of other prices.
    """
    # The catalog reads files and imports this package: only here, when a card is read.
    import yaml

    from metering.catalog.price_files import WITHOUT_METER, PriceFile
    from metering.catalog.prices import usage_price

    raw = yaml.safe_load(price) if isinstance(price, str) else dict(price)
    raw = {"id": "price", **_meters(raw), **raw}
    if raw.get("model") in WITHOUT_METER:
        raise ValueError(f"a {raw['model']} price is part of a period; use `metering rate` with a catalog")
    checked = PriceFile.model_validate(raw)
    return Card(usage_price(checked), checked.id)


def _meters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The meters of a price that names none: those of its limits, or one."""
    if "meter" in raw or "meters" in raw:
        return {}
    if raw.get("model") == "capacity":
        limits = (tier.get("limits") or {} for tier in raw.get("tiers", ()))
        return {"meters": [{"meter": meter} for meter in dict.fromkeys(m for found in limits for m in found)]}
    return {"meter": "meter"}


def charge(card: Card, used: Used) -> Decimal:
    """F(used): the charge of everything used in a period, with 6 decimals."""
    return _money(position(card.price, _groups(card.price, used)).amount)


def hourly_charges(card: Card, totals: Iterable[tuple[datetime, Used]]) -> list[HourCharge]:
    """The charge of each hour; they add up to the charge of the whole. Hours in rising order, UTC."""
    uses = [use for hour, used in totals for use in _uses(card.price, _seconds(hour), used)]
    segment = Segment(0, None, card.price, card.name, _ORIGIN)
    found = hourly_rows([segment], by_hour(uses), _FOREVER)
    if found.unpriced:
        raise ValueError(found.unpriced[0].detail)
    return [_hour_charge(row) for row in found.rows]


def explain(card: Card, used: Used, before: Used | None = None) -> list[str]:
    """How the charge of `used` comes about, or of the step from `before` to it, line by line."""
    label = Label("", card.name, 0, "usage", "", card.price.model, _ORIGIN)
    start = position(card.price, {} if before is None else _groups(card.price, before))
    return row_lines(row_between(label, start, position(card.price, _groups(card.price, used))))


def _hour_charge(row: ChargeRow) -> HourCharge:
    quantity, before, after = (
        Decimal(format_quantity(q, MICRO)) for q in (row.quantity, row.before, row.after)
    )
    hour = datetime.fromtimestamp(row.hour, UTC)
    return HourCharge(hour, quantity, before, after, _money(row.amount), tuple(row_lines(row)))


def _money(micro: int) -> Decimal:
    return Decimal(format_micro(micro))


def _seconds(hour: datetime) -> int:
    if hour.tzinfo is None:
        raise ValueError(f"{hour} has no zone; hours are UTC")
    return int(hour.timestamp())


def _groups(price: Price, used: Used) -> Groups:
    groups: dict[str, Usage] = {}
    for use in _uses(price, 0, used):
        label = cell_of(price, use.dimensions) if price.cells else ""
        label = use.meter if price.model == "capacity" else label
        if label == NO_CELL:
            raise ValueError(f"the matrix has no cell for {dict(use.dimensions)}")
        groups[label] = merge(groups[label], use.usage) if label in groups else use.usage
    return groups


def _uses(price: Price, hour: int, used: Used) -> list[HourUse]:
    if price.model == "capacity":
        if not isinstance(used, Mapping):
            raise TypeError("a capacity takes quantities by meter")
        return [HourUse(hour, "", str(m), (), Usage("max", _micro(q), 1)) for m, q in used.items()]
    if price.cells:
        if not isinstance(used, Mapping):
            raise TypeError(f"a matrix takes quantities by ({', '.join(price.dimensions)})")
        return [
            HourUse(hour, "", "", _dimensions(price, v), Usage("sum", _micro(q), 1)) for v, q in used.items()
        ]
    return [HourUse(hour, "", "", (), _usage(price, used))]


def _dimensions(price: Price, values: Any) -> tuple[tuple[str, str], ...]:
    values = (values,) if isinstance(values, str) else tuple(values)
    return tuple(zip(price.dimensions, map(str, values), strict=True))


def _usage(price: Price, used: Used) -> Usage:
    if isinstance(used, Mapping):
        raise TypeError("quantities by name are for a matrix or a capacity")
    if isinstance(used, str) or not isinstance(used, Iterable):
        return Usage("sum", _micro(used), 1)  # refuses what is not exact
    values: dict[str, int] = {}
    quantity = 0
    for item in used:
        units, key, weight = _event(price, item)
        quantity += units
        values[key] = values.get(key, 0) + weight
    return Usage("priced" if price.model == "dynamic" else "each", quantity, len(used), values)


def _event(price: Price, item: Any) -> tuple[int, str, int]:
    if price.model != "dynamic":
        size = _micro(item)
        return size, str(size), 1
    units, unit_price = item
    return _micro(units), str(parse_decimal(unit_price, 12)), _micro(units)


def _micro(value: Any) -> int:
    number = parse_decimal(value, MICRO)
    if abs(number) >= 10**24 * ONE:
        raise ValueError(f"{value} is beyond the range of a quantity")
    return number
