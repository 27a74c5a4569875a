"""Whether a price fits its meters: aggregation, scale, dimensions; each problem says what to write."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import combinations

from metering.catalog.models import MeterFile
from metering.catalog.price_files import PriceFile

_SUMS = frozenset({"sum", "count"})


def price_problems(price: PriceFile, meters: Mapping[str, MeterFile]) -> Iterator[str]:
    """Everything that is wrong between a price and the meters that it reads."""
    unknown = [meter for meter in price.meter_ids if meter not in meters]
    if unknown:
        yield f"price `{price.id}`: no meter `{unknown[0]}`"
        return
    read = [meters[meter] for meter in price.meter_ids]
    yield from (f"price `{price.id}`: {problem}" for problem in _problems(price, read))


def _problems(price: PriceFile, read: list[MeterFile]) -> Iterator[str]:
    yield from _aggregation_problems(price, read)
    yield from _scale_problems(price, read)
    yield from _dimension_problems(price, read)


def _aggregation_problems(price: PriceFile, read: list[MeterFile]) -> Iterator[str]:
    for meter in read:
        if _needs_each(price) and meter.aggregation != "each":
            yield (
                f"single events are priced, so meter `{meter.id}` needs aggregation: each;"
                f" {meter.aggregation} keeps no sizes"
            )
        if (price.model == "dynamic") != (meter.aggregation == "priced"):
            yield (
                f"model dynamic and aggregation priced go together; meter `{meter.id}` is {meter.aggregation}"
            )
        if price.model == "percentage" and meter.aggregation not in ("sum", "each"):
            yield f"a percentage needs amounts that add up; meter `{meter.id}` is {meter.aggregation}"
    if price.model == "capacity" and any(meter.aggregation != "max" for meter in read):
        yield "a capacity compares the highest use of each meter; its meters need aggregation: max"
    if len(read) > 1 and price.model != "capacity" and any(m.aggregation not in _SUMS for m in read):
        yield "meters that count together must be sums or counts"


def _needs_each(price: PriceFile) -> bool:
    limited = price.min_per_event is not None or price.max_per_event is not None
    return price.scope == "event" or price.model == "increment" or limited


def _scale_problems(price: PriceFile, read: list[MeterFile]) -> Iterator[str]:
    if not read:
        return
    for weight in price.meters:
        meter = next(m for m in read if m.id == weight.meter)
        if Decimal(weight.weight) != 1 and (meter.aggregation not in _SUMS or price.model == "capacity"):
            yield f"a weight is for sums and counts; meter `{meter.id}` is {meter.aggregation}"
        if _decimals(weight.weight) + meter.scale > 6:
            yield f"weight {weight.weight} and the {meter.scale} decimals of `{meter.id}` are more than 6"
    scale = 6 if len(read) > 1 or read[0].aggregation in ("average", "each") else read[0].scale
    sizes = [("included", price.included), ("package_size", price.package_size)]
    sizes += [("up_to", tier.up_to) for tiers in price.tier_lists for tier in tiers]
    for name, text in sizes:
        if text is not None and _decimals(text) > scale:
            yield f"{name} {text} has more decimals than the {scale} of meter `{read[0].id}`"
    for tiers in price.tier_lists:
        for meter_id in {m for tier in tiers for m in (tier.limits or {})} - set(price.meter_ids):
            yield f"limit of `{meter_id}`, which is not among the price's meters"


def _decimals(text: str) -> int:
    exponent = Decimal(text).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _dimension_problems(price: PriceFile, read: list[MeterFile]) -> Iterator[str]:
    wanted = [*price.where, *(price.matrix.dimensions if price.matrix is not None else ())]
    for meter in read:
        for name in wanted:
            if name not in meter.dimensions:
                yield f"meter `{meter.id}` has no dimension `{name}`; add it to the meter's dimensions"


def overlaps(prices: list[PriceFile]) -> Iterator[tuple[str, str, str]]:
    """Pairs of prices that may read the same usage of a meter: it would be charged twice."""
    for a, b in combinations(prices, 2):
        for meter in set(a.meter_ids) & set(b.meter_ids):
            if not any(set(a.where[d]).isdisjoint(b.where[d]) for d in a.where.keys() & b.where.keys()):
                yield meter, a.id, b.id
