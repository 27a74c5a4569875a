"""What one event adds to which meters: a pure function of the event and the catalog."""

import re
from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

from metering.catalog.resolved import Catalog, Meter
from metering.events import Refusal, UsageEvent
from metering.rating.usage import Dimensions

MICRO = 6  # quantities are integers of 10^-6 unit in every fold, whatever the meter's scale
ONE = 1_000_000  # one unit
PRICE_DECIMALS = 12
LARGEST_DIGITS = 18  # digits before the point of one event's quantity
LARGEST_INTEGER = 10**LARGEST_DIGITS
# With the exponent that a Decimal writes, because the archive keeps a JSON number with one as that text.
_DECIMAL_TEXT = re.compile(r"-?[0-9]+(\.[0-9]+)?(E[+-][0-9]{1,4})?")


class Measure(NamedTuple):
    """What an event is for one meter under one combination of dimension values.

    `quantity` in micro-units. `value` is the key that a multiset keeps: the digest of a unique
    value, the event's size, the price on it.
    """

    meter: Meter
    dimensions: Dimensions
    quantity: int
    value: str = ""


def measure(event: UsageEvent, catalog: Catalog) -> tuple[Measure, ...] | Refusal:
    """The measures of an event, one for each meter of its type that counts it, or why it has none.

    An event that one of its meters cannot read is refused as a whole: half an event is no event.
    One that every meter's filters leave out counts nowhere, and that is meant.
    """
    refusal = _unknown(event, catalog)
    if refusal is not None:
        return refusal
    measures = []
    in_force = False
    for meter in catalog.meters_for(event.type):
        if event.at < meter.start_ms:
            continue
        in_force = True
        if meter.filters and not _passes(event, meter):
            continue
        found = _measure(event, meter)
        if isinstance(found, Refusal):
            return found
        measures.append(found)
    if not in_force:
        return refuse(event, "before_meter", f"No meter of type `{event.type}` counts so early.")
    return tuple(measures)


def _passes(event: UsageEvent, meter: Meter) -> bool:
    return all(text_of(at_path(event.data, path)) in wanted for path, wanted in meter.filters)


def _measure(event: UsageEvent, meter: Meter) -> Measure | Refusal:
    dimensions = _dimensions(event, meter)
    if isinstance(dimensions, Refusal):
        return dimensions
    if meter.aggregation == "count":
        return Measure(meter, dimensions, ONE)
    if meter.aggregation == "unique":
        return _unique(event, meter, dimensions)
    quantity = _number(event, meter, meter.value_path, meter.scale)
    if isinstance(quantity, Refusal):
        return quantity
    if meter.aggregation == "each":
        return Measure(meter, dimensions, quantity, str(quantity))
    if meter.aggregation == "priced":
        return _priced(event, meter, dimensions, quantity)
    return Measure(meter, dimensions, quantity)


def _unique(event: UsageEvent, meter: Meter, dimensions: Dimensions) -> Measure | Refusal:
    """A value is kept as 128 bits: who was counted does not travel with the totals."""
    value = text_of(at_path(event.data, meter.value_path))
    place = ".".join(("data", *meter.value_path))
    if not value or len(value) > 1_024:
        return refuse(
            event, "missing_value", f"`{place}` must be text or a number; meter `{meter.id}` counts it."
        )
    digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return Measure(meter, dimensions, ONE, digest)


def _priced(event: UsageEvent, meter: Meter, dimensions: Dimensions, quantity: int) -> Measure | Refusal:
    price = _number(event, meter, meter.price_path, PRICE_DECIMALS, PRICE_DECIMALS)
    if isinstance(price, Refusal):
        return price
    if price > meter.max_unit_price:
        place = ".".join(("data", *meter.price_path))
        return refuse(
            event, "price_too_high", f"`{place}` is above the `max_unit_price` of meter `{meter.id}`."
        )
    return Measure(meter, dimensions, quantity, str(price))


def _unknown(event: UsageEvent, catalog: Catalog) -> Refusal | None:
    customer = catalog.customer(event.customer)
    if customer is None:
        return refuse(
            event,
            "unknown_customer",
            f"No customer `{event.customer}` is in the catalog; add it, then retry this event.",
        )
    if not catalog.meters_for(event.type):
        return refuse(
            event,
            "unknown_type",
            f"No meter reads events of type `{event.type}`; add one, then retry this event.",
        )
    if customer.end_ms is not None and event.at >= customer.end_ms:
        return refuse(event, "after_end", f"The event is later than the end of customer `{event.customer}`.")
    if event.at < customer.start_ms:
        return refuse(
            event,
            "before_start",
            f"The event is earlier than the start of customer `{event.customer}`.",
        )
    return None


def _number(
    event: UsageEvent, meter: Meter, path: tuple[str, ...], scale: int, decimals: int = MICRO
) -> int | Refusal:
    """A number of the event with at most `scale` decimals, as an integer of 10^-decimals."""
    value = at_path(event.data, path)
    if type(value) is int and decimals == MICRO and 0 <= value < LARGEST_INTEGER:
        return value * ONE  # the common case, without a Decimal
    place = ".".join(("data", *path))
    if value is None:
        return refuse(event, "missing_value", f"`{place}` is missing; meter `{meter.id}` needs it.")
    number = _exact(value)
    if number is None:
        return refuse(event, "not_a_number", f"`{place}` must be a JSON number or a plain decimal string.")
    if number < 0:
        return refuse(event, "negative_value", f"`{place}` is negative; usage cannot be.")
    decimal = Decimal(number)
    if decimal and decimal.adjusted() >= LARGEST_DIGITS:
        return refuse(
            event, "too_large", f"`{place}` has more than {LARGEST_DIGITS} digits before the point."
        )
    if _decimals(decimal) > scale:
        return refuse(
            event,
            "too_many_decimals",
            f"`{place}` has more than the {scale} decimals of meter `{meter.id}`; it is not rounded.",
        )
    return int(decimal.scaleb(decimals))


def plain_number(value: object, scale: int) -> int:
    """What `measure` reads as a quantity, in micro-units, for the usual forms; -1 for any other.

    A whole number, or digits with at most `scale` decimals.
    """
    if type(value) is int:
        return value * ONE if 0 <= value < LARGEST_INTEGER else -1
    text = str(value) if isinstance(value, Decimal) else value
    if not isinstance(text, str) or not text.isascii():
        return -1
    whole, point, part = text.partition(".")
    if not whole.isdigit() or len(whole) > LARGEST_DIGITS or len(part) > scale:
        return -1
    if point and not part.isdigit():
        return -1
    return int(whole + part.ljust(MICRO, "0"))


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
    if isinstance(value, str) and len(value) <= 64 and _DECIMAL_TEXT.fullmatch(value):
        return Decimal(value)
    return None


def _dimensions(event: UsageEvent, meter: Meter) -> Dimensions | Refusal:
    pairs = []
    for name, path in zip(meter.dimensions, meter.dimension_paths, strict=True):
        value = text_of(at_path(event.data, path))
        if not is_dimension(value):
            return refuse(
                event,
                "bad_dimension",
                f"`{'.'.join(('data', *path))}` must be text of 1 to 256 printable characters;"
                f" meter `{meter.id}` splits by it.",
            )
        pairs.append((name, value))
    return tuple(pairs)


def is_dimension(text: str) -> bool:
    """Whether a text can be the value of a dimension."""
    return 0 < len(text) <= 256 and text.isprintable()


def text_of(value: object) -> str:
    """Text as it is, a number or truth value as the archive writes it; empty for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | Decimal) else ""


def at_path(data: Mapping[str, Any] | None, path: tuple[str, ...]) -> Any:
    """What stands at a path inside the data of an event; None when nothing does."""
    value: Any = data
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def refuse(event: UsageEvent, reason: str, detail: str) -> Refusal:
    """Why an event is not counted, with what is known of it."""
    return Refusal(reason, detail, event.customer, event.id, event.type)
