"""What to invoice: a pure function of a closed period and the carried remainder."""

import json
from decimal import Decimal
from hashlib import sha256
from typing import NamedTuple

from billing_sync.allocate import CARRY_LINE, allocate
from billing_sync.books import ClosedPeriod, PriceTotal

_ID_LENGTH = 40


RESTATED_LINE = "restatement"  # what a restated period comes to besides what was invoiced for it


class PlannedLine(NamedTuple):
    """One invoice line; `minor` in the provider's minor units."""

    id: str
    price: str
    description: str
    micro: int
    minor: int


class Plan(NamedTuple):
    """One invoice of one customer and period; without lines everything is carried."""

    id: str
    customer: str
    period: str
    currency: str
    micro: int
    carry_in: int
    carry_out: int
    lines: tuple[PlannedLine, ...]

    @property
    def minor(self) -> int:
        """The invoice's total in minor units."""
        return sum(line.minor for line in self.lines)

    @property
    def digest(self) -> str:
        """What the plan says, as a fingerprint that goes onto the invoice."""
        return sha256(json.dumps(self).encode()).hexdigest()[:16]


def invoice_id(customer: str, period: str, currency: str, revision: int = 0) -> str:
    """The invoice's identity: the same business fact has the same id on every run.

    A `revision` names the invoice of what a restatement changed.
    """
    identity = json.dumps(["invoice", customer, period, currency, *([revision] if revision else [])])
    return "inv_" + sha256(identity.encode()).hexdigest()[:_ID_LENGTH]


def _description(price: PriceTotal, period: str) -> str:
    """A fee, a discount or a true-up has no quantity of its own."""
    if not price.meter:
        return f"{price.price} {period}"
    return f"{price.price} {period}: {price.quantity.normalize():,f} {price.meter}"


def plan_restatement(closed: ClosedPeriod, invoiced: int, carry_in: int) -> Plan:
    """Plan what a restated period comes to besides the micro-units invoiced for it before: one line.

    A difference below a unit, or in the customer's favour, is carried to the next invoice.
    """
    assert not closed.problem, closed.problem
    difference = closed.micro - invoiced
    allocation = allocate({RESTATED_LINE: difference}, carry_in, closed.currency)
    identity = invoice_id(closed.customer, closed.period, closed.currency, closed.revision)
    said = f"{closed.period} restated (revision {closed.revision}): {_major(closed.micro)} instead of"
    texts = {
        RESTATED_LINE: (f"{said} {_major(invoiced)}", difference),
        CARRY_LINE: ("carried from earlier invoices", carry_in),
    }
    lines = [
        PlannedLine(f"{identity}:{name}", name, *texts[name], minor)
        for name, minor in allocation.minor.items()
    ]
    place = (identity, closed.customer, closed.period, closed.currency)
    return Plan(*place, difference, carry_in, allocation.carry_out, tuple(lines))


def _major(micro: int) -> str:
    return f"{Decimal(micro) / 1_000_000:,.6f}"


def plan_invoice(closed: ClosedPeriod, carry_in: int) -> Plan:
    """Plan the invoice of a billable period."""
    assert not closed.problem, closed.problem
    micro = {p.price: p.micro for p in closed.prices}
    allocation = allocate(micro, carry_in, closed.currency)
    identity = invoice_id(closed.customer, closed.period, closed.currency)
    lines = [
        PlannedLine(
            f"{identity}:{p.price}",
            p.price,
            _description(p, closed.period),
            p.micro,
            allocation.minor[p.price],
        )
        for p in closed.prices
        if p.price in allocation.minor
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
        closed.micro,
        carry_in,
        allocation.carry_out,
        tuple(lines),
    )
