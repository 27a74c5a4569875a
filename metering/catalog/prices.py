"""From what a catalog file says of a price to the integers that the rating engine uses."""

from metering.catalog.price_files import DiscountFile, PriceFile, TierFile
from metering.rating.cards import (
    PERCENT_ONE,
    RATE_ONE,
    Cell,
    Discount,
    EventFee,
    Flat,
    Model,
    PercentOf,
    Price,
    Tier,
)
from metering.rating.money import MICRO, parse_decimal

PRICE_DECIMALS = 12


def usage_price(file: PriceFile, conversion: int = RATE_ONE) -> Price:
    """A usage price; `conversion` is what one custom unit is worth (10^-12)."""
    cells = file.matrix.cells if file.matrix is not None else ()
    dimensions = file.matrix.dimensions if file.matrix is not None else ()
    return Price(
        model=_model(file),
        tiers=() if file.matrix is not None else _tiers(file, file.tiers, file.unit_price or file.rate),
        meters=_meters(file),
        where=tuple((name, frozenset(values)) for name, values in sorted(file.where.items())),
        dimensions=dimensions,
        cells=tuple(
            Cell(
                tuple(None if cell.when.get(d, "*") == "*" else cell.when[d] for d in dimensions),
                _tiers(file, cell.tiers, cell.unit_price),
            )
            for cell in cells
        ),
        package=_micro(file.package_size) or 0,
        min_packages=file.min_packages,
        included=_micro(file.included) or 0,
        event=_event_fee(file),
        scope=file.scope,
        proration=file.proration,
        custom_unit=file.unit or "",
        conversion=conversion,
        maximum=_micro(file.maximum),
        discounts=tuple(discount(d) for d in file.discounts),
        cap=_micro(file.cap),
    )


def _model(file: PriceFile) -> Model:
    if file.model == "stairstep" and file.accumulate:
        return "stairstep_accumulate"
    if file.model == "flat" or file.model == "percent_of":
        raise AssertionError("fees and shares are read elsewhere")
    return file.model


def _meters(file: PriceFile) -> tuple[tuple[str, int], ...]:
    if file.meter is not None:
        return ((file.meter, 10**MICRO),)
    return tuple((m.meter, parse_decimal(m.weight, MICRO)) for m in file.meters)


def _tiers(file: PriceFile, tiers: tuple[TierFile, ...], single: str | None) -> tuple[Tier, ...]:
    if not tiers:
        return (Tier(None, _unit_price(file, single)),) if single is not None else ()
    return tuple(
        Tier(
            up_to=_micro(tier.up_to),
            unit_price=_unit_price(file, tier.unit_price) if tier.unit_price is not None else 0,
            flat_fee=parse_decimal(tier.flat_fee, MICRO),
            limits=tuple((m, parse_decimal(q, MICRO)) for m, q in sorted((tier.limits or {}).items())),
        )
        for tier in tiers
    )


def _unit_price(file: PriceFile, text: str | None) -> int:
    assert text is not None, f"price {file.id} was checked to have one"
    if file.model == "percentage":
        return parse_decimal(text, PRICE_DECIMALS - 2)  # percent to fraction: two decimals more
    return parse_decimal(text, PRICE_DECIMALS) // file.per


def _event_fee(file: PriceFile) -> EventFee:
    return EventFee(
        fixed=_micro(file.fixed) or _micro(file.connection_fee) or 0,
        minimum=_micro(file.min_per_event),
        maximum=_micro(file.max_per_event),
        size=_micro(file.increment) or 0,
        least=_micro(file.min_units) or 0,
    )


def flat_price(file: PriceFile) -> Flat:
    """A recurring fee."""
    assert file.amount is not None, f"price {file.id} was checked to have an amount"
    return Flat(parse_decimal(file.amount, MICRO), file.billed == "arrears", file.prorate)


def percent_of(file: PriceFile) -> PercentOf:
    """A share of other prices."""
    assert file.rate is not None, f"price {file.id} was checked to have a rate"
    return PercentOf(parse_decimal(file.rate, PRICE_DECIMALS - 2), file.of, _micro(file.maximum))


def discount(file: DiscountFile) -> Discount:
    """A discount of a price, a plan, a contract or a customer."""
    percent = parse_decimal(file.percent, 4) * PERCENT_ONE // (100 * 10**4) if file.percent else 0
    return Discount(file.id, percent, _micro(file.amount) or 0)


def _micro(text: str | None) -> int | None:
    return None if text is None else parse_decimal(text, MICRO)
