"""What to invoice: a pure function of a closed period, the carried remainder and open corrections."""

import json
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

from billing_sync.allocate import CARRY_LINE, allocate
from billing_sync.books import ClosedPeriod, HourCharge, PriceTotal, plain
from metering.state.calendar import period_end

_ID_LENGTH = 40
_LONGEST_TEXT = 450  # Stripe takes 500 characters of a metadata value
_OWN_LINES = 2  # the carried remainder, and what is not shown singly
RESTATED_LINE = "restatement"  # what a restated period comes to besides what was invoiced for it


class Correction(NamedTuple):
    """An amount that goes onto a customer's next invoice: what an earlier one got wrong."""

    id: str
    customer: str
    micro: int
    description: str


class PlannedLine(NamedTuple):
    """One invoice line; `minor` in the provider's minor units, `details` for its metadata."""

    id: str
    price: str
    description: str
    micro: int
    minor: int
    period: str = ""
    details: tuple[tuple[str, str], ...] = ()


class Plan(NamedTuple):
    """One invoice of one customer and period; without lines everything is carried.

    With `credits`, the id of an invoice, it is a credit note to that one and its total is negative.
    """

    id: str
    customer: str
    period: str
    currency: str
    micro: int
    carry_in: int
    carry_out: int
    lines: tuple[PlannedLine, ...]
    corrections: tuple[str, ...] = ()
    credits: str = ""

    @property
    def minor(self) -> int:
        """The invoice's total in minor units."""
        return sum(line.minor for line in self.lines)

    @property
    def digest(self) -> str:
        """What the plan says, as a fingerprint that goes onto the invoice."""
        return sha256(plan_to_json(self).encode()).hexdigest()[:16]


class Credit(NamedTuple):
    """An invoice that a credit note may go to, and the minor units that are left of it."""

    invoice: str
    left: int


class Rules(NamedTuple):
    """What a plan has to respect.

    The provider's limit of lines, the smallest invoice, and what the provider rates itself: the
    metered prices, less their hours that came too late for its meter; and what can be credited.
    """

    lines: int = 250
    minimum_minor: int = 0
    metered: frozenset[str] = frozenset()
    expired: Mapping[tuple[str, int], Decimal] = MappingProxyType({})
    credit: Credit | None = None


def plan_to_json(plan: Plan) -> str:
    """A plan as it is kept; fields at their defaults are left out, as older plans did not have them."""
    return json.dumps(_pack([*plan[:7], [_pack(line, 5) for line in plan.lines], *plan[8:]], 8))


def _pack(values: Sequence[Any], least: int) -> list[Any]:
    kept = list(values)
    while len(kept) > least and not kept[-1]:
        kept.pop()
    return kept


def plan_from_json(fields: list[Any]) -> Plan:
    """A plan from what was kept."""
    lines = tuple(_line(*line) for line in fields[7])
    corrections = tuple(fields[8]) if len(fields) > 8 else ()
    return Plan._make([*fields[:7], lines, corrections, fields[9] if len(fields) > 9 else ""])


def _line(*fields: Any) -> PlannedLine:
    period = fields[5] if len(fields) > 5 else ""
    details = tuple((str(name), str(value)) for name, value in (fields[6] if len(fields) > 6 else ()))
    return PlannedLine._make([*fields[:5], period, details])


def invoice_id(customer: str, period: str, currency: str, revision: int = 0) -> str:
    """The invoice's identity: the same business fact has the same id on every run.

    A `revision` names the invoice of what a restatement changed.
    """
    identity = json.dumps(["invoice", customer, period, currency, *([revision] if revision else [])])
    return "inv_" + sha256(identity.encode()).hexdigest()[:_ID_LENGTH]


def period_seconds(period: str) -> tuple[int, int]:
    """First and last second of a billing period; the last one is inclusive, as Stripe wants it."""
    year, month = map(int, period.split("-"))
    before = f"{year - (month == 1)}-{(month - 2) % 12 + 1:02d}"
    return period_end(before) // 1_000, period_end(period) // 1_000 - 1


def plan_invoice(
    closed: ClosedPeriod,
    carry_in: int,
    corrections: Sequence[Correction] = (),
    rules: Rules | None = None,
    identity: str = "",
) -> Plan:
    """Plan the invoice of a billable period; an invoice beside the period's own has its own identity."""
    rules = rules or Rules()
    identity = identity or invoice_id(closed.customer, closed.period, closed.currency)
    lines = _of_prices(closed, rules, identity)
    return _plan(closed, lines, carry_in, corrections, rules, identity)


def plan_restatement(
    closed: ClosedPeriod,
    invoiced: int,
    carry_in: int,
    corrections: Sequence[Correction] = (),
    rules: Rules | None = None,
) -> Plan:
    """Plan what a restated period comes to besides the micro-units invoiced for it before: one line.

    A difference below a unit is carried to the next invoice; one in the customer's favour, too, unless
    the rules name an invoice that a credit note can go to.
    """
    rules = rules or Rules()
    identity = invoice_id(closed.customer, closed.period, closed.currency, closed.revision)
    now = billable(closed, rules)
    said = f"{closed.period} restated (revision {closed.revision}): {_major(now)} instead of"
    line = PlannedLine(
        f"{identity}:{RESTATED_LINE}", RESTATED_LINE, f"{said} {_major(invoiced)}", now - invoiced, 0
    )
    return _plan(closed, {RESTATED_LINE: line}, carry_in, corrections, rules, identity)


def billable(closed: ClosedPeriod, rules: Rules) -> int:
    """The micro-units of a closed period that are ours to invoice."""
    found = (_billed_here(price, rules) for price in closed.prices)
    return sum(price.micro for price in found if price is not None)


def _major(micro: int) -> str:
    return f"{Decimal(micro) / 1_000_000:,.6f}"


def _plan(
    closed: ClosedPeriod,
    own: Mapping[str, PlannedLine],
    carry_in: int,
    corrections: Sequence[Correction],
    rules: Rules,
    identity: str,
) -> Plan:
    assert not closed.problem, closed.problem
    corrected = {c.id: _of_correction(c, closed, identity) for c in corrections}
    drafts = _collapsed({**own, **corrected}, rules.lines - _OWN_LINES, identity)
    micro = {line.id: line.micro for line in drafts.values()}
    allocation = allocate(micro, carry_in, closed.currency, rules.minimum_minor)
    credited = ""
    if not allocation.minor and rules.credit is not None:
        credit = allocate(micro, carry_in, closed.currency, is_credit=True)
        if 0 < -credit.total_minor <= rules.credit.left:
            allocation, credited = credit, rules.credit.invoice
    lines = [
        line._replace(minor=allocation.minor[line.id])
        for line in drafts.values()
        if line.id in allocation.minor
    ]
    if CARRY_LINE in allocation.minor:
        text = "carried from earlier invoices"
        minor = allocation.minor[CARRY_LINE]
        lines.append(PlannedLine(f"{identity}:{CARRY_LINE}", CARRY_LINE, text, carry_in, minor))
    return Plan(
        identity,
        closed.customer,
        closed.period,
        closed.currency,
        sum(micro.values()),
        carry_in,
        allocation.carry_out,
        tuple(lines),
        tuple(correction.id for correction in corrections),
        credited,
    )


def _of_prices(closed: ClosedPeriod, rules: Rules, identity: str) -> dict[str, PlannedLine]:
    found = {}
    for price in closed.prices:
        own = _billed_here(price, rules)
        if own is not None:
            found[price.price] = _of_price(own, closed, identity)
    return found


def _of_correction(correction: Correction, closed: ClosedPeriod, identity: str) -> PlannedLine:
    place = (f"{identity}:{correction.id}", correction.id, correction.description)
    return PlannedLine(*place, correction.micro, 0, closed.period)


def _billed_here(price: PriceTotal, rules: Rules) -> PriceTotal | None:
    """What of a price is on our invoice: a metered one only with the hours its meter refused."""
    if price.price not in rules.metered:
        return price
    late = [
        _rest(hour, rules.expired[price.price, hour.hour])
        for hour in price.hours
        if (price.price, hour.hour) in rules.expired
    ]
    if not late:
        return None
    quantity, micro = sum((h.quantity for h in late), Decimal(0)), sum(h.micro for h in late)
    note = f"{len(late)} hours too old for the meter"
    return price._replace(quantity=quantity, micro=micro, tiers=note)


def _rest(hour: HourCharge, at_meter: Decimal) -> HourCharge:
    """What the meter does not hold of an hour, with its share of our amount."""
    if not at_meter:
        return hour
    share = (hour.micro * at_meter / hour.quantity).to_integral_value(ROUND_HALF_UP)
    return HourCharge(hour.hour, hour.quantity - at_meter, hour.micro - int(share))


def _of_price(price: PriceTotal, closed: ClosedPeriod, identity: str) -> PlannedLine:
    details = {
        "kind": price.kind,
        "meter": price.meter,
        "quantity": plain(price.quantity) if price.meter else "",
        "tiers": price.tiers[:_LONGEST_TEXT],
        "explain": f"metering explain {closed.customer} --period {closed.period}"[:_LONGEST_TEXT],
    }
    return PlannedLine(
        f"{identity}:{price.price}",
        price.price,
        _description(price, closed.period),
        price.micro,
        0,
        price.corrects or closed.period,
        tuple((name, value) for name, value in details.items() if value),
    )


def _description(price: PriceTotal, period: str) -> str:
    """A fee, a discount or a true-up has no quantity of its own; late usage names its period."""
    if price.corrects:
        return f"{price.price.partition('@')[0]}: late usage of {price.corrects}"
    if not price.meter:
        return f"{price.price} {period}"
    return f"{price.price} {period}: {plain(price.quantity)} {price.meter}"


def _collapsed(lines: Mapping[str, PlannedLine], limit: int, identity: str) -> dict[str, PlannedLine]:
    """At most `limit` lines: the largest stay, the others become one line that adds up."""
    if len(lines) <= limit:
        return dict(lines)
    by_size = sorted(lines.values(), key=lambda line: (-abs(line.micro), line.id))
    kept = {line.id for line in by_size[: limit - 1]}
    others = [line for line in lines.values() if line.id not in kept]
    text = f"other usage: {len(others)} prices"
    details = (("kind", "group"), ("prices", ", ".join(o.price for o in others)[:_LONGEST_TEXT]))
    total = sum(other.micro for other in others)
    group = PlannedLine(f"{identity}:other", "other", text, total, 0, others[0].period, details)
    return {**{name: line for name, line in lines.items() if line.id in kept}, "other": group}
