"""How figures and texts stand on a bill: exact, in columns, and nothing in them can steer a reader."""

import re
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from metering.bills.document import BillDocument
from metering.explain import Part, PriceExplanation, plain

JOINERS = "\u200c\u200d"  # emoji and several scripts need them
_SHOWN = 9  # decimals of a part
_PRICE = 12  # decimals of a unit price: all it can have
_DAY = 86_400
_PRORATED = re.compile(r"(\d+) of (\d+) s")
_KINDS = {"usage": "", "flat": "fee", "share": "share of spend", "true_up": "minimum commitment"}


class PartColumns(NamedTuple):
    """A slice of a price in columns; an empty text is a column that does not apply."""

    what: str
    units: str
    unit_price: str
    fee: str
    amount: str


def shown(text: str) -> str:
    """Text from outside as it is; control characters, also those that turn the direction, are spelled out."""
    return "".join(c if c.isprintable() or c in JOINERS else repr(c)[1:-1] for c in text)


def money(amount: Decimal) -> str:
    """An amount to the micro-unit, e.g. `1,234.567890`; minus is a minus sign."""
    return f"{amount:,.6f}".replace("-", "−")


def exact(amount: Decimal, most: int = _SHOWN) -> str:
    """A part of a charge: two decimals at least; behind the last one, `…` says that the CSV has more."""
    whole, _, decimals = plain(amount).partition(".")
    shortened = f"{decimals[:most]}…" if len(decimals) > most else f"{decimals:0<2}"
    return f"{whole}.{shortened}".replace("-", "−")


def quantity(number: Decimal) -> str:
    """A quantity without trailing zeros."""
    return plain(number).replace("-", "−")


def headline(found: PriceExplanation) -> str:
    """What a line is for, beside its price: the quantity and the meter, or the kind of line."""
    if found.meter:
        return f"{quantity(found.quantity)} {found.meter}"
    return kind_words(found.line)


def kind_words(kind: str) -> str:
    """What a line without a meter is."""
    return _KINDS.get(kind, kind)


def part_columns(part: Part) -> PartColumns:
    """A tier, a cell or a rule of a card, in columns."""
    units = quantity(part.billed) if part.billed else ""
    if part.units and part.billed != part.units:
        units = f"{units} for {quantity(part.units)}" if units else quantity(part.units)
    return PartColumns(
        _place(part),
        units,
        exact(part.unit_price, _PRICE) if part.billed and part.unit_price else "",
        exact(part.fee) if part.fee else "",
        exact(part.amount),
    )


def _place(part: Part) -> str:
    tier = f"tier {part.tier}" if part.tier else "included"
    if not part.label:
        return tier
    return f"{part.label}, {tier}" if part.tier > 1 else part.label


def effect_words(name: str) -> str:
    """An effect's name; a proration is told in days when they are whole."""
    found = _PRORATED.fullmatch(name)
    if found is None:
        return name
    part, whole = map(int, found.groups())
    if part % _DAY or whole % _DAY:
        return f"prorated, {part:,} of {whole:,} seconds"
    return f"prorated, {part // _DAY} of {whole // _DAY} days"


def cards(found: PriceExplanation) -> list[tuple[str, str, datetime, list[Part]]]:
    """The slices of a price by card version, in time order: card, version, since, slices."""
    made: list[tuple[str, str, datetime, list[Part]]] = []
    for part in found.parts:
        if not made or made[-1][1] != part.card_version:
            made.append((part.card, part.card_version, part.since, []))
        made[-1][3].append(part)
    return made


def instant(bill: BillDocument, at: datetime) -> str:
    """An instant in the customer's zone, with the zone's abbreviation."""
    return f"{bill.local(at):%Y-%m-%d %H:%M %Z}"


def status_words(bill: BillDocument) -> str:
    """How final the figures are, in a sentence."""
    state = bill.state
    if state.closed is None:
        if state.over is None or state.over <= bill.starts:
            return "Provisional: the period is not closed."
        return f"Provisional: metered up to {instant(bill, state.over)}; the period is not closed."
    if state.revision:
        return f"Restated, revision {state.revision}; closed {instant(bill, state.closed)}."
    return f"Closed {instant(bill, state.closed)}; later corrections are adjustments of a later period."


def adds_up(bill: BillDocument) -> str:
    """What a reader can rely on."""
    return (
        f"The lines add up to the total exactly, in millionths of {bill.currency}; an invoice rounds once and"
        " carries the remainder."
    )
