"""What is closed stays closed, and what was charged is invoiced or carried."""

from collections import defaultdict
from decimal import Decimal

from billing_sync.config import load_config
from billing_sync.currencies import exponent_and_step, unit_micro
from billing_sync.ledger import LedgerReader, ledger_url
from billing_sync.planner import Plan
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
        held = LedgerReader(ledger_url(facts.settings)).standing()
        config = load_config(facts.settings)
        ours = [plan for plan in held.plans if not config.rules_for(plan.customer)]
        charged = {
            (customer, period): amount
            for customer, period, amount in facts.rows(
                "SELECT customer, period, sum(amount) FROM charges_current GROUP BY customer, period"
            )
        }
        found = _against_books(ours, held.corrected, charged) if ours else []
        return found + _each_adds_up(held.plans) + _against_carry(held.plans, held.carried)


class Remainders(Invariant):
    """Never is more invoiced than was charged."""

    name = "remainders"
    means = (
        "what an invoice carries to the next one is never negative, and less than the smallest unit; without"
        " an invoice, less than the smallest one"
    )
    remedy = (
        "Stop `billing-sync`: another amount was invoiced than was charged. Compare the ledger (`billing-sync"
        " status`) with the invoice at the provider, and correct it there."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Look at every plan; one without lines carries all of it, also what is owed to the customer."""
        found = []
        config = load_config(facts.settings)
        for plan in LedgerReader(ledger_url(facts.settings)).standing().plans:
            _, step = exponent_and_step(plan.currency)
            unit = unit_micro(plan.currency)
            least = unit if plan.lines else max(unit, config.minimum_of(plan.currency) // step * unit)
            if plan.carry_out >= least or (plan.carry_out < 0 and plan.lines):
                expected = f"0 to {format_micro(least - 1)}"
                carried = f"{format_micro(plan.carry_out)} carried on"
                found.append(Broken(f"{plan.period} {plan.customer}", carried, expected))
        return found


def _against_books(
    plans: list[Plan], corrected: dict[str, int], charged: dict[tuple[str, str], Decimal]
) -> list[Broken]:
    """A period's invoices together, restatements with them, come to its charges; corrections are apart."""
    planned: defaultdict[tuple[str, str], int] = defaultdict(int)
    for plan in plans:
        own = plan.micro - sum(corrected.get(correction, 0) for correction in plan.corrections)
        planned[plan.customer, plan.period] += own
    found = []
    for (customer, period), micro in planned.items():
        books = f"{charged.get((customer, period), Decimal(0)):.6f}"
        if books != format_micro(micro):
            planned_text = f"{format_micro(micro)} planned"
            found.append(Broken(f"{period} {customer}", planned_text, f"{books} charged"))
    return found


def _each_adds_up(plans: list[Plan]) -> list[Broken]:
    found = []
    for plan in plans:
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
