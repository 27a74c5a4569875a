"""What one event adds to which meters: a pure function of the event and the catalog."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from metering.catalog.resolved import Catalog, Meter
from metering.events import Refusal, UsageEvent

MICRO = 6  # quantities are integers of 10^-6 unit in every fold, whatever the meter's scale
ONE = 1_000_000  # one unit
LARGEST_DIGITS = 18  # digits before the point of one event's quantity
LARGEST_INTEGER = 10**LARGEST_DIGITS
_PLAIN_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")

Dimensions = tuple[tuple[str, str], ...]


class Measure(NamedTuple):
    """`quantity` micro-units for one meter under one combination of dimension values."""

    meter: str
    dimensions: Dimensions
    quantity: int


def measure(event: UsageEvent, catalog: Catalog) -> tuple[Measure, ...] | Refusal:
    """The measures of an event, one for each meter of its type, or why it has none.

    An event that one of its meters cannot read is refused as a whole: half an event is no event.
    """
    refusal = _unknown(event, catalog)
    if refusal is not None:
        return refusal
    measures = []
    for meter in catalog.meters_for(event.type):
        if event.at < meter.start_ms:
            continue
        quantity = _quantity(event, meter)
        dimensions = _dimensions(event, meter)
        if isinstance(quantity, Refusal):
            return quantity
        if isinstance(dimensions, Refusal):
            return dimensions
        measures.append(Measure(meter.id, dimensions, quantity))
    if not measures:
        return _refuse(event, "before_meter", f"No meter of type `{event.type}` counts so early.")
    return tuple(measures)


def _unknown(event: UsageEvent, catalog: Catalog) -> Refusal | None:
    customer = catalog.customer(event.customer)
    if customer is None:
        return _refuse(
            event,
            "unknown_customer",
            f"No customer `{event.customer}` is in the catalog; add it, then retry this event.",
        )
    if not catalog.meters_for(event.type):
        return _refuse(
            event,
            "unknown_type",
            f"No meter reads events of type `{event.type}`; add one, then retry this event.",
        )
    if event.at < customer.start_ms:
        return _refuse(
            event,
            "before_start",
            f"The event is earlier than the start of customer `{event.customer}`.",
        )
    return None


def _quantity(event: UsageEvent, meter: Meter) -> int | Refusal:
    if meter.aggregation == "count":
        return ONE
    value = _at_path(event.data, meter.value_path)
    if type(value) is int and 0 <= value < LARGEST_INTEGER:
        return value * ONE  # the common case, without a Decimal
    place = ".".join(("data", *meter.value_path))
    if value is None:
        return _refuse(event, "missing_value", f"`{place}` is missing; meter `{meter.id}` needs it.")
    number = _exact(value)
    if number is None:
        return _refuse(event, "not_a_number", f"`{place}` must be a JSON number or a plain decimal string.")
    return _to_micro(event, meter, place, number)


def _to_micro(event: UsageEvent, meter: Meter, place: str, number: Decimal | int) -> int | Refusal:
    if number < 0:
        return _refuse(event, "negative_value", f"`{place}` is negative; usage cannot be.")
    decimal = Decimal(number)
    if decimal and decimal.adjusted() >= LARGEST_DIGITS:
        return _refuse(
            event, "too_large", f"`{place}` has more than {LARGEST_DIGITS} digits before the point."
        )
    if _decimals(decimal) > meter.scale:
        return _refuse(
            event,
            "too_many_decimals",
            f"`{place}` has more than the {meter.scale} decimals of meter `{meter.id}`; it is not rounded.",
        )
    return int(decimal.scaleb(MICRO))


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= 0:
        return 0
    digits = "".join(map(str, number.as_tuple().digits))
    return max(0, -exponent - (len(digits) - len(digits.rstrip("0")))) if number else 0


def _exact(value: object) -> Decimal | int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return value
    if isinstance(value, str) and len(value) <= 64 and _PLAIN_DECIMAL.fullmatch(value):
        return Decimal(value)
    return None


def _dimensions(event: UsageEvent, meter: Meter) -> Dimensions | Refusal:
    pairs = []
    for name, path in zip(meter.dimensions, meter.dimension_paths, strict=True):
        value = _at_path(event.data, path)
        if isinstance(value, bool | int):
            value = str(value).lower()
        if not isinstance(value, str) or not value or len(value) > 256 or not value.isprintable():
            return _refuse(
                event,
                "bad_dimension",
                f"`{'.'.join(('data', *path))}` must be text of 1 to 256 printable characters;"
                f" meter `{meter.id}` splits by it.",
            )
        pairs.append((name, value))
    return tuple(pairs)


def _at_path(data: Mapping[str, Any] | None, path: tuple[str, ...]) -> Any:
    value: Any = data
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _refuse(event: UsageEvent, reason: str, detail: str) -> Refusal:
    return Refusal(reason, detail, event.customer, event.id, event.type)
