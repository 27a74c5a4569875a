"""Rated hours to the records on `usage.charges`: charge, void, rating error, close."""

from hashlib import sha256
from typing import NamedTuple

from metering.rating import HourCharge
from metering.rating.money import format_exact, format_micro, format_quantity
from metering.records import (
    Charge,
    PeriodClose,
    RatingError,
    Record,
    Slice,
    encode,
    key,
)
from metering.state.fold import Output
from metering.state.measure import MICRO


class Slot(NamedTuple):
    """What is rated together: tiers run through one customer's meter for one billing period."""

    customer: str
    meter: str
    period: str


class Row(NamedTuple):
    """What a published charge row says; quantities and amount in micro-units."""

    price: str
    currency: str
    before: int
    after: int
    amount: int
    card_version: str
    events: int


def charge_row(rated: HourCharge, events: int) -> Row:
    """The row of a rated hour; two equal rows need no second publication."""
    segment = rated.segment
    return Row(
        segment.price_id,
        segment.currency,
        rated.before,
        rated.after,
        rated.amount,
        segment.card_version,
        events,
    )


def post_charge(topic: str, slot: Slot, rated: HourCharge, row: Row, stamp: str) -> Output:
    """The charge of one hour with the slices that explain it."""
    slices = [
        Slice(
            tier=part.tier,
            units=format_quantity(part.units, MICRO),
            unit_price=format_exact(part.unit_price, 12),
            flat_fee=format_micro(part.flat_fee),
            amount=format_exact(part.amount, 18),
        )
        for part in rated.slices
    ]
    record = Charge(
        customer=slot.customer,
        period=slot.period,
        price=row.price,
        meter=slot.meter,
        hour=rated.hour,
        currency=row.currency,
        quantity=format_quantity(rated.quantity, MICRO),
        quantity_before=format_quantity(rated.before, MICRO),
        quantity_after=format_quantity(rated.after, MICRO),
        amount=format_micro(rated.amount),
        rounding=format_exact(rated.rounding, 18),
        card=rated.segment.card,
        card_version=row.card_version,
        events=row.events,
        slices=slices,
        version=stamp,
    )
    return _output(topic, record, "charge", slot.customer, slot.period, row.price, rated.hour)


def post_void(topic: str, slot: Slot, hour: int, row: Row, stamp: str) -> Output:
    """The row of a price that no longer applies: an explicit zero without a card."""
    record = Charge(
        customer=slot.customer,
        period=slot.period,
        price=row.price,
        meter=slot.meter,
        hour=hour,
        currency=row.currency,
        quantity="0",
        quantity_before="0",
        quantity_after="0",
        amount=format_micro(0),
        rounding="0",
        card="",
        card_version="",
        events=0,
        slices=[],
        version=stamp,
    )
    return _output(topic, record, "charge", slot.customer, slot.period, row.price, hour)


def post_error(
    topic: str, slot: Slot, hour: int, quantity: int, reason: str, detail: str, stamp: str
) -> Output:
    """Usage that no price covers; an empty reason withdraws an earlier error."""
    record = RatingError(
        customer=slot.customer,
        period=slot.period,
        meter=slot.meter,
        hour=hour,
        quantity=format_quantity(quantity, MICRO),
        reason=reason,
        detail=detail,
        version=stamp,
    )
    return _output(topic, record, "error", slot.customer, slot.period, slot.meter, hour)


class Books(NamedTuple):
    """The rows and errors of one customer and period, as they stand when it closes."""

    currency: str
    rows: list[tuple[str, int, int]]  # price, hour, amount (micro)
    errors: int


def post_close(topic: str, customer: str, period: str, books: Books, watermark: int, stamp: str) -> Output:
    """The record behind the last charge of a period: their number, sum and digest."""
    record = PeriodClose(
        customer=customer,
        period=period,
        currency=books.currency,
        rows=len(books.rows),
        errors=books.errors,
        amount=format_micro(sum(amount for _, _, amount in books.rows)),
        digest=close_digest(books.rows),
        watermark=watermark,
        version=stamp,
    )
    return _output(topic, record, "close", customer, period)


def close_digest(rows: list[tuple[str, int, int]]) -> str:
    """The fingerprint of a period's charges, which a reader of them computes again.

    sha256 over the lines `price|hour|amount`, ordered by price and hour; `amount` in micro-units
    is written with 6 decimals.
    """
    lines = (f"{price}|{hour}|{format_micro(amount)}\n" for price, hour, amount in sorted(rows))
    return sha256("".join(lines).encode()).hexdigest()


def _output(topic: str, record: Record, *place: str | int) -> Output:
    return Output(topic, key(*place), encode(record))
