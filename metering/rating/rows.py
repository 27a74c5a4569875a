"""Charge rows: what moved in one hour, fully explained, and usage that no price covers."""

from typing import Literal, NamedTuple

from metering.rating.cards import Origin
from metering.rating.charge import EXACT_IN_MICRO, Position
from metering.rating.parts import TierPart, difference

Kind = Literal["usage", "flat", "share", "discount", "cap", "true_up", "adjustment"]
PART_IN_EXACT: int = 10**18  # a part's 10^-18 in 10^-36

Effects = tuple[tuple[str, int], ...]


class ChargeRow(NamedTuple):
    """One price's charge of one customer in one hour (epoch s).

    Quantities in micro-units (of the currency where the price is on spend), `amount` in micro-units
    of the currency. Exactly: Σ slices (10^-18) + Σ effects (10^-36) + `rounding` (10^-36) = amount.
    `digest` is the sum of the events' fingerprints modulo 2^64.
    """

    customer: str
    price: str
    hour: int
    kind: Kind
    meter: str
    model: str
    origin: Origin
    quantity: int
    before: int
    after: int
    slices: tuple[TierPart, ...]
    effects: Effects
    rounding: int
    amount: int
    events: int = 0
    digest: int = 0


class Unpriced(NamedTuple):
    """Usage that no price covers: an error to be shown, never a zero."""

    customer: str
    meter: str
    hour: int
    quantity: int
    reason: str
    detail: str


class Label(NamedTuple):
    """What a row is about."""

    customer: str
    price: str
    hour: int
    kind: Kind
    meter: str
    model: str
    origin: Origin


def row_between(
    label: Label, before: Position, after: Position, events: int = 0, digest: int = 0
) -> ChargeRow:
    """The row that moves a charge from one position to the next."""
    slices = difference(list(before.parts), list(after.parts))
    effects = _effects_between(before, after)
    amount = after.amount - before.amount
    explained = sum(p.amount for p in slices) * PART_IN_EXACT + sum(e for _, e in effects)
    assert explained == after.exact - before.exact, "the parts must explain the exact difference"
    return ChargeRow(
        *label,
        quantity=after.quantity - before.quantity,
        before=before.quantity,
        after=after.quantity,
        slices=slices,
        effects=effects,
        rounding=amount * EXACT_IN_MICRO - explained,
        amount=amount,
        events=events,
        digest=digest,
    )


def _effects_between(before: Position, after: Position) -> Effects:
    if not before.effects and not after.effects:
        return ()
    moved = {name: 0 for name, _ in (*after.effects, *before.effects)}
    for name, amount in after.effects:
        moved[name] += amount
    for name, amount in before.effects:
        moved[name] -= amount
    return tuple((name, amount) for name, amount in moved.items() if amount)
