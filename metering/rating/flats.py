"""Recurring fees: once a period, or by the second for the part of it that each version is in force."""

from typing import NamedTuple

from metering.rating.cards import Flat, Origin
from metering.rating.charge import EXACT_IN_MICRO, START, Position
from metering.rating.parts import part
from metering.rating.rows import ChargeRow, Label, row_between
from metering.rating.terms import Period, Terms
from metering.rating.windows import HOUR, proportion


class _Portion(NamedTuple):
    starts: int
    ends: int
    flat: Flat
    origin: Origin


def flat_rows(terms: Terms, period: Period, *, closing: bool) -> list[ChargeRow]:
    """The fees of a customer's period: in advance at once, in arrears when it closes."""
    spans = terms.agreement.within(period.starts, period.ends)
    ids = dict.fromkeys(name for span in spans for name in span.flats)
    return [row for name in ids for row in _rows(terms, name, period, closing)]


def _rows(terms: Terms, name: str, period: Period, closing: bool) -> list[ChargeRow]:
    portions = _portions(terms, name, period)
    rows = []
    for portion, amount in zip(portions, amounts(portions, period), strict=True):
        if (portion.flat.arrears and not closing) or (not amount and not portion.flat.prorated):
            continue
        hour = portion.ends - HOUR if portion.flat.arrears else portion.starts
        label = Label(terms.customer, name, hour - hour % HOUR, "flat", "", "flat", portion.origin)
        rows.append(row_between(label, START, _fee(portion, amount, period)))
    return rows


def _portions(terms: Terms, name: str, period: Period) -> list[_Portion]:
    """The parts of the period with one version each."""
    first, last = terms.active(period)
    if first >= last:
        return []
    found: list[_Portion] = []
    for span in terms.agreement.within(first, last):
        flat = span.flats.get(name)
        if flat is None:
            continue
        starts, ends = max(first, span.starts), last if span.ends is None else min(last, span.ends)
        if found and _goes_on(found[-1], starts, flat, span.origin):
            found[-1] = found[-1]._replace(ends=ends)
        else:
            found.append(_Portion(starts, ends, flat, span.origin))
    return found


def _goes_on(portion: _Portion, starts: int, flat: Flat, origin: Origin) -> bool:
    """Whether the same fee of the same card goes on, although something else of the version changed."""
    return (portion.ends, portion.flat, portion.origin.card) == (starts, flat, origin.card)


def amounts(portions: list[_Portion], period: Period) -> list[int]:
    """Micro-units of each portion; prorated ones add up to their exact sum, rounded once.

    A fee that is not prorated is charged once a period: at the version that it begins with, or in
    arrears at the one that it ends with.
    """
    shares = [p.flat.amount * (p.ends - p.starts) if p.flat.prorated else 0 for p in portions]
    whole = period.seconds
    floors = [share // whole for share in shares]
    left = proportion(sum(shares), 1, whole) - sum(floors)
    order = sorted(range(len(shares)), key=lambda n: (-(shares[n] % whole), n))
    for number in order[:left]:
        floors[number] += 1
    for number, portion in enumerate(portions):
        if not portion.flat.prorated and number == (len(portions) - 1 if portion.flat.arrears else 0):
            floors[number] = portion.flat.amount
    return floors


def _fee(portion: _Portion, amount: int, period: Period) -> Position:
    """The whole fee, and what proration takes off it (exact to 36 decimals)."""
    seconds = portion.ends - portion.starts
    found = [part(1, 0, 0, 0, portion.flat.amount)]
    if not portion.flat.prorated or seconds == period.seconds:
        return Position(found, (), amount * EXACT_IN_MICRO, amount, 0)
    whole = portion.flat.amount * EXACT_IN_MICRO
    exact = whole * seconds // period.seconds
    return Position(found, ((f"{seconds} of {period.seconds} s", exact - whole),), exact, amount, 0)
