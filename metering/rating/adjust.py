"""Late usage of a closed period: one adjustment a price, in the next open period, at the old version.

The closed rows stay. The adjustment is what the whole period comes to now less what was charged, so it
telescopes too, whatever comes late in how many pieces.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from metering.rating.cards import Origin
from metering.rating.charge import EXACT_IN_MICRO, START, Position
from metering.rating.parts import TierPart, part
from metering.rating.rows import ChargeRow, Kind, Label, row_between


class Posted(NamedTuple):
    """What one price of a closed period came to so far, micro-units, and what it was."""

    amount: int
    quantity: int
    kind: Kind
    meter: str
    model: str
    origin: Origin


class Adjustment(NamedTuple):
    """An adjustment row and the closed period that it corrects."""

    row: ChargeRow
    corrects: str


_ONE_UNIT = 10**12


def adjustments(
    rows: Iterable[ChargeRow], posted: dict[tuple[str, str], Posted], period: str, hour: int
) -> list[Adjustment]:
    """The rows that move what was posted for a closed period to what it comes to now.

    `rows` are the whole period rated again; `hour` (epoch s) is where the adjustment stands.
    """
    by_price: defaultdict[tuple[str, str], list[ChargeRow]] = defaultdict(list)
    for row in rows:
        by_price[row.customer, row.price].append(row)
    found = []
    for place in sorted(by_price.keys() | posted.keys()):
        held, now = posted.get(place), by_price.get(place, [])
        if sum(row.amount for row in now) != (held.amount if held else 0):
            found.append(Adjustment(_adjustment(place, now, held, period, hour), period))
    return found


def _adjustment(
    place: tuple[str, str], rows: list[ChargeRow], held: Posted | None, period: str, hour: int
) -> ChargeRow:
    """Everything that the period comes to now, tier by tier, less what was charged already."""
    customer, price = place
    if held is None:
        held = Posted(0, 0, rows[-1].kind, rows[-1].meter, rows[-1].model, rows[-1].origin)
    amount = sum(row.amount for row in rows) - held.amount
    quantity = sum(row.quantity for row in rows)
    parts = [*_whole(rows), part(0, -held.quantity, -held.amount, _ONE_UNIT, 0, "charged")]
    effects = _effects(rows)
    exact = sum(p.amount for p in parts) * 10**18 + sum(e for _, e in effects)
    name = f"{price}@{period}"
    label = Label(customer, name, hour, "adjustment", held.meter, held.model, held.origin)
    start = START._replace(quantity=held.quantity)
    after = Position(parts, effects, exact, amount, quantity)
    row = row_between(
        label, start, after, sum(r.events for r in rows), sum(r.digest for r in rows) % (1 << 64)
    )
    assert row.rounding == amount * EXACT_IN_MICRO - exact, "what is not exact is rounding"
    return row


def _whole(rows: list[ChargeRow]) -> list[TierPart]:
    """The parts of all rows, added up by label, tier and price."""
    found: dict[tuple[str, int, int], TierPart] = {}
    for p in (p for row in rows for p in row.slices):
        place = (p.label, p.tier, p.unit_price)
        held = found.get(place, TierPart(p.tier, 0, 0, p.unit_price, 0, 0, p.label))
        found[place] = TierPart(
            p.tier,
            held.units + p.units,
            held.billed + p.billed,
            p.unit_price,
            held.flat_fee + p.flat_fee,
            held.amount + p.amount,
            p.label,
        )
    return list(found.values())


def _effects(rows: list[ChargeRow]) -> list[tuple[str, int]]:
    found: defaultdict[str, int] = defaultdict(int)
    for name, amount in (effect for row in rows for effect in row.effects):
        found[name] += amount
    return list(found.items())
