"""What is closed stays closed, and what was charged is invoiced or carried."""

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from billing_sync.currencies import exponent_and_step, unit_micro
from billing_sync.ledger import ledger_path
from billing_sync.planner import Plan, PlannedLine
from metering.errors import UserError
from metering.invariants.base import Broken, Invariant
from metering.invariants.facts import Facts
from metering.rating.money import format_micro
from metering.recovery.books_digest import close_states

_MICRO_DIGITS = 6


class ClosedPeriods(Invariant):
    """Finance can rely on a closed month."""

    name = "closed_periods"
    means = "the charges of each closed period have the number, sum and digest of its close record"
    remedy = (
        "Billing waits for such a period by itself. Rows are missing (read the sink's log) or were changed:"
        " `metering rebuild clickhouse --into NAME` shows which database is right."
    )
    travels = True

    def check(self, facts: Facts) -> list[Broken]:
        """Compare every closed period with its record."""
        return [
            Broken(
                f"{s.period} {s.customer}",
                f"{s.rows:,} charges, {s.amount:f}, {s.digest[:12]}",
                f"{s.rows_closed:,} charges, {s.amount_closed:f}, {s.digest_closed[:12]}",
            )
            for s in close_states(facts.client)
            if not s.agrees
        ]


class Invoiced(Invariant):
    """No cent is lost or billed twice between the books and the invoices."""

    name = "invoiced"
    means = "charged = planned in the ledger; planned + carried before = invoiced + carried after"
    remedy = (
        "Stop `billing-sync`. The ledger (`billing-sync status`) or the books were changed by hand: compare"
        " both with the invoices at the provider before anything is sent."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Check each invoice, each chain of carried remainders, and each planned period's charges."""
        path = ledger_path(facts.settings)
        if not path.exists():
            return []  # nothing was billed from here
        plans, carried = _read(path)
        charged = {
            (customer, period): amount
            for customer, period, amount in facts.rows(
                "SELECT customer, period, sum(amount) FROM charges_current GROUP BY customer, period"
            )
        }
        return _against_books(plans, charged) + _against_carry(plans, carried)


class Remainders(Invariant):
    """Never is more invoiced than was charged."""

    name = "remainders"
    means = "what an invoice carries to the next one is never negative, and less than the smallest unit"
    remedy = (
        "Stop `billing-sync`: another amount was invoiced than was charged. Compare the ledger (`billing-sync"
        " status`) with the invoice at the provider, and correct it there."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Look at every plan; one without lines carries all of it, also what is owed to the customer."""
        found = []
        for plan in _plans(facts):
            unit = unit_micro(plan.currency)
            if plan.carry_out >= unit or (plan.carry_out < 0 and plan.lines):
                expected = f"0 to {format_micro(unit - 1)}"
                carried = f"{format_micro(plan.carry_out)} carried on"
                found.append(Broken(f"{plan.period} {plan.customer}", carried, expected))
        return found


def _plans(facts: Facts) -> list[Plan]:
    path = ledger_path(facts.settings)
    return _read(path)[0] if path.exists() else []


def _against_books(plans: list[Plan], charged: dict[tuple[str, str], Decimal]) -> list[Broken]:
    found = []
    for plan in plans:
        books = f"{charged.get((plan.customer, plan.period), Decimal(0)):.6f}"
        if books != format_micro(plan.micro):
            place = f"{plan.period} {plan.customer}"
            found.append(Broken(place, f"{format_micro(plan.micro)} planned", f"{books} charged"))
        left = _invoiced(plan) + plan.carry_out
        if left != plan.micro + plan.carry_in:
            found.append(
                Broken(
                    f"{plan.period} {plan.customer}",
                    f"{format_micro(left)} invoiced and carried after",
                    f"{format_micro(plan.micro + plan.carry_in)} planned and carried before",
                )
            )
    return found


def _against_carry(plans: list[Plan], carried: dict[tuple[str, str], int]) -> list[Broken]:
    """Over all invoices of a customer, what was not invoiced is what is carried now."""
    owed: defaultdict[tuple[str, str], int] = defaultdict(int)
    for plan in plans:
        owed[plan.customer, plan.currency] += plan.micro - _invoiced(plan)
    return [
        Broken(
            f"{customer} {currency}",
            f"{format_micro(carried.get((customer, currency), 0))} carried",
            f"{format_micro(owed.get((customer, currency), 0))} not invoiced",
        )
        for customer, currency in sorted(owed.keys() | carried.keys())
        if owed.get((customer, currency), 0) != carried.get((customer, currency), 0)
    ]


def _invoiced(plan: Plan) -> int:
    """The invoice's total in micro-units."""
    exponent, _ = exponent_and_step(plan.currency)
    return int(plan.minor * 10 ** (_MICRO_DIGITS - exponent))


def _read(path: Path) -> tuple[list[Plan], dict[tuple[str, str], int]]:
    """Every plan and what is carried, read beside whoever sends."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")  # both at one instant
            plans = [_plan(text) for (text,) in db.execute("SELECT plan FROM invoice ORDER BY rowid")]
            rows = db.execute("SELECT customer, currency, micro FROM carry").fetchall()
    except sqlite3.Error as error:
        raise UserError(f"the ledger {path} cannot be read: {error}") from error
    return plans, {(customer, currency): int(micro) for customer, currency, micro in rows}


def _plan(text: str) -> Plan:
    fields: list[Any] = json.loads(text)
    return Plan._make([*fields[:7], tuple(PlannedLine(*line) for line in fields[7])])
