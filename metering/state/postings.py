"""Rated hours to the records on `usage.charges`: charge, void, rating error, close."""

from hashlib import blake2b, sha256
from typing import NamedTuple

import msgspec

from metering.rating.charge import EXACT
from metering.rating.money import format_exact, format_micro
from metering.rating.parts import PART_DECIMALS, TierPart
from metering.rating.rows import ChargeRow, Unpriced
from metering.records import (
    Approved,
    Charge,
    Effect,
    PeriodClose,
    RatingError,
    Record,
    Slice,
    encode,
    key,
)
from metering.state.fold import Output
from metering.state.measure import MICRO

_PLAIN = ("", "", "", "")


class Slot(NamedTuple):
    """A customer's billing period."""

    customer: str
    period: str


class Row(NamedTuple):
    """What is remembered of a published charge row: micro-units, and a fingerprint of its content."""

    amount: int
    quantity: int
    currency: str
    content: bytes
    what: tuple[str, str, str, str] = _PLAIN  # of an adjustment: meter, model, card, version
    touched: int = 0  # behind the record of the log that touched it last; it was not remembered before


def charge_record(row: ChargeRow, period: str, corrects: str = "") -> Charge:
    """A charge row as it travels; its version is set when it is posted."""
    return Charge(
        customer=row.customer,
        period=period,
        price=row.price,
        meter=row.meter,
        hour=row.hour,
        currency=row.origin.currency,
        quantity=format_exact(row.quantity, MICRO),
        quantity_before=format_exact(row.before, MICRO),
        quantity_after=format_exact(row.after, MICRO),
        amount=format_micro(row.amount),
        rounding=format_exact(row.rounding, EXACT),
        card=row.origin.card,
        card_version=row.origin.version,
        events=row.events,
        slices=[_slice(part) for part in row.slices],
        version="",
        line=row.kind,
        model=row.model,
        effects=[Effect(name, format_exact(amount, EXACT)) for name, amount in row.effects],
        digest=f"{row.digest:016x}" if row.events else "",
        corrects=corrects,
    )


def _slice(part: TierPart) -> Slice:
    return Slice(
        tier=part.tier,
        units=format_exact(part.units, MICRO),
        unit_price=format_exact(part.unit_price, 12),
        flat_fee=format_exact(part.flat_fee, MICRO),
        amount=format_exact(part.amount, PART_DECIMALS),
        billed="" if part.billed == part.units else format_exact(part.billed, MICRO),
        label=part.label,
    )


def remembered(record: Charge, amount: int, quantity: int) -> Row:
    """What to remember of a row: two equal ones need no second publication."""
    what = (record.meter, record.model, record.card, record.card_version) if record.corrects else _PLAIN
    return Row(amount, quantity, record.currency, blake2b(encode(record), digest_size=8).digest(), what)


def post_charge(topic: str, record: Charge, stamp: str) -> Output:
    """The charge of one hour with all that explains it."""
    stamped = msgspec.structs.replace(record, version=stamp)
    return _output(topic, stamped, "charge", record.customer, record.period, record.price, record.hour)


def post_void(topic: str, slot: Slot, price: str, hour: int, stamp: str) -> Output:
    """The row of a price that no longer applies: an explicit zero without a card."""
    record = Charge(
        customer=slot.customer,
        period=slot.period,
        price=price,
        meter="",
        hour=hour,
        currency="",
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
    return _output(topic, record, "charge", slot.customer, slot.period, price, hour)


def post_error(topic: str, slot: Slot, missing: Unpriced, stamp: str) -> Output:
    """Usage that no price covers; an empty reason withdraws an earlier error."""
    record = RatingError(
        customer=slot.customer,
        period=slot.period,
        meter=missing.meter,
        hour=missing.hour,
        quantity=format_exact(missing.quantity, MICRO),
        reason=missing.reason,
        detail=missing.detail,
        version=stamp,
    )
    return _output(topic, record, "error", slot.customer, slot.period, missing.meter, missing.hour)


class Books(NamedTuple):
    """The rows and errors of one customer and period, as they stand when it closes."""

    currency: str
    rows: list[tuple[str, int, int]]  # price, hour, amount (micro)
    errors: int


class Revision(NamedTuple):
    """Which close of a period it is: the first is 0, each restatement counts one, and says who wanted it."""

    number: int = 0
    approvals: tuple[Approved, ...] = ()


_AS_CLOSED = Revision()


def post_close(
    topic: str, slot: Slot, books: Books, watermark: int, stamp: str, revision: Revision = _AS_CLOSED
) -> Output:
    """The record behind the last charge of a period: their number, sum and digest.

    Each revision has a key of its own: the books as they were first closed stay on record.
    """
    customer, period = slot
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
        revision=revision.number,
        approvals=list(revision.approvals),
    )
    more = (revision.number,) if revision.number else ()
    return _output(topic, record, "close", customer, period, *more)


def close_digest(rows: list[tuple[str, int, int]]) -> str:
    """The fingerprint of a period's charges, which a reader of them computes again.

    sha256 over the lines `price|hour|amount`, ordered by price and hour; `amount` in micro-units
    is written with 6 decimals.
    """
    lines = (f"{price}|{hour}|{format_micro(amount)}\n" for price, hour, amount in sorted(rows))
    return sha256("".join(lines).encode()).hexdigest()


def _output(topic: str, record: Record, *place: str | int) -> Output:
    return Output(topic, key(*place), encode(record))
