"""Invoices in the ledger: plans, states, carried remainders, corrections, what waits and what is held."""

import json
from typing import Any, NamedTuple

from billing_sync.ledger.store import Store
from billing_sync.planner import Correction, Plan, plan_from_json, plan_to_json
from metering.errors import UserError

OF_PERIOD = "WHERE customer = :customer AND period = :period AND currency = :currency"
_COLUMNS = "plan, state, reason, external, number, changed, status, told"

# How far an invoice has come at the provider; a word that tells of less is an old one.
NOT_PAID = "failed"
_RANK = {"draft": 1, "open": 2, NOT_PAID: 3, "uncollectible": 4, "paid": 5, "void": 6}


class Entry(NamedTuple):
    """An invoice in the ledger.

    `changed` is when its state changed last (epoch seconds), `status` what the provider said last
    it has become: draft, open, failed (open, and a payment did not go through), uncollectible, paid
    or void; `told` is when it said so.
    """

    plan: Plan
    state: str
    reason: str
    external: str
    number: str
    changed: int = 0
    status: str = ""
    told: int = 0


class Parked(NamedTuple):
    """A period that cannot be billed yet."""

    customer: str
    period: str
    reason: str
    since: int


class CarryChanged(UserError):
    """Another sender was faster with this customer: plan again."""


class Invoices(Store):
    """What was planned and what came of it."""

    def carry(self, customer: str, currency: str) -> int:
        """The micro-units that earlier invoices left."""
        sql = "SELECT micro FROM carry WHERE customer = :customer AND currency = :currency"
        found = self.rows(sql, customer=customer, currency=currency)
        return int(found[0][0]) if found else 0

    def carries(self) -> list[tuple[str, str, int, str]]:
        """Customer, currency, micro-units and the invoice that left them."""
        rows = self.rows("SELECT customer, currency, micro, invoice FROM carry ORDER BY customer, currency")
        return [(str(c), str(currency), int(m), str(i)) for c, currency, m, i in rows]

    def add_plan(self, plan: Plan, now: int = 0) -> None:
        """Record a plan, the remainder it leaves and the corrections it takes, in one transaction."""
        state = "planned" if plan.lines else "carried"
        with self.transaction():
            made = self.run(
                "INSERT INTO invoice (id, customer, period, currency, plan, state, changed, since)"
                " VALUES (:id, :customer, :period, :currency, :plan, :state, :now, :now)"
                " ON CONFLICT (id) DO NOTHING",
                id=plan.id,
                customer=plan.customer,
                period=plan.period,
                currency=plan.currency,
                plan=plan_to_json(plan),
                state=state,
                now=now,
            )
            if made.rowcount != 1:
                raise CarryChanged(f"another sender planned {plan.customer} {plan.period} meanwhile")
            self._move_carry(plan)
            for correction in plan.corrections:
                self._take(correction, plan)
            self.unpark(plan.customer, plan.period)

    def _take(self, correction: str, plan: Plan) -> None:
        taken = self.run(
            "UPDATE correction SET invoice = :invoice WHERE id = :id AND invoice = ''",
            invoice=plan.id,
            id=correction,
        )
        if taken.rowcount != 1:
            raise CarryChanged(f"another invoice of {plan.customer} took the correction {correction}")

    def _move_carry(self, plan: Plan) -> None:
        """What is carried becomes what the plan leaves, if it still is what the plan began with."""
        first = (
            "INSERT INTO carry (customer, currency, micro, invoice)"
            " VALUES (:customer, :currency, :after, :invoice) ON CONFLICT (customer, currency)"
            " DO UPDATE SET micro = :after, invoice = :invoice WHERE carry.micro = :before"
        )
        later = (
            "UPDATE carry SET micro = :after, invoice = :invoice"
            " WHERE customer = :customer AND currency = :currency AND micro = :before"
        )
        moved = self.run(
            later if plan.carry_in else first,  # nothing is carried where there is no row
            customer=plan.customer,
            currency=plan.currency,
            invoice=plan.id,
            before=plan.carry_in,
            after=plan.carry_out,
        )
        if moved.rowcount != 1:
            raise CarryChanged(f"the carry of {plan.customer} in {plan.currency} changed meanwhile")

    def entry(self, invoice: str) -> Entry | None:
        """An invoice by our id."""
        found = self._entries("WHERE id = :id", id=invoice)
        return found[0] if found else None

    def entries_of(self, customer: str, period: str, currency: str) -> list[Entry]:
        """The invoices of a customer's period: the first, and those of its restatements."""
        place = {"customer": customer, "period": period, "currency": currency}
        return self._entries(OF_PERIOD, **place)

    def invoiced(self, customer: str, period: str, currency: str) -> int:
        """The micro-units that a period's invoices came to so far, corrections of others left out."""
        taken = {c.id: c.micro for c, _ in self.corrections(customer, only_open=False)}
        plans = [entry.plan for entry in self.entries_of(customer, period, currency)]
        return sum(plan.micro - sum(taken[c] for c in plan.corrections) for plan in plans)

    def entries(self, period: str | None = None, *, since: int = 0) -> list[Entry]:
        """All invoices, or those of a period, or those that changed or were paid since a moment."""
        moved = "(changed >= :since OR told >= :since)"
        if period:
            return self._entries(f"WHERE period = :period AND {moved}", period=period, since=since)
        return self._entries(f"WHERE {moved}", since=since)

    def entries_in(self, *states: str, customer: str = "") -> list[Entry]:
        """The invoices in any of some states, of every customer or of one."""
        where, values = _in(states)
        if customer:
            where, values = f"{where} AND customer = :customer", {**values, "customer": customer}
        return self._entries(where, **values)

    def states(self) -> dict[str, tuple[int, int]]:
        """Each state, with how many invoices stand in it and since when the oldest has (epoch seconds)."""
        rows = self.rows("SELECT state, count(*), min(changed) FROM invoice GROUP BY state")
        return {str(state): (int(count), int(since)) for state, count, since in rows}

    def customers_in(self, *states: str) -> set[str]:
        """The customers with an invoice in any of some states."""
        where, values = _in(states)
        return {str(c) for (c,) in self.rows(f"SELECT DISTINCT customer FROM invoice {where}", **values)}

    def planned_ids(self) -> set[str]:
        """The ids of every invoice that was planned."""
        return {str(identity) for (identity,) in self.rows("SELECT id FROM invoice")}

    def _entries(self, where: str, **values: Any) -> list[Entry]:
        order = "ORDER BY period, customer, since, id"
        rows = self.rows(f"SELECT {_COLUMNS} FROM invoice {where} {order}", **values)
        return [to_entry(row) for row in rows]

    def set_state(
        self,
        invoice: str,
        state: str,
        *,
        reason: str = "",
        external: str = "",
        number: str = "",
        now: int = 0,
    ) -> None:
        """Move an invoice on; ids that are known stay."""
        self.run(
            "UPDATE invoice SET state = :state, reason = :reason,"
            " changed = CASE WHEN state = :state THEN changed ELSE :now END,"
            " external = CASE WHEN :external = '' THEN external ELSE :external END,"
            " number = CASE WHEN :number = '' THEN number ELSE :number END WHERE id = :id",
            id=invoice,
            state=state,
            reason=reason,
            external=external,
            number=number,
            now=now,
        )

    def set_status(self, invoice: str, status: str, now: int) -> None:
        """What the provider says an invoice has become; what it was before changes nothing."""
        held = self.entry(invoice)
        if held is None or _RANK.get(status, 0) <= _RANK.get(held.status, 0):
            return
        sql = "UPDATE invoice SET status = :status, told = :now WHERE id = :id"
        self.run(sql, id=invoice, status=status, now=now)

    def park(self, customer: str, period: str, reason: str, now: int = 0) -> None:
        """Remember a period that cannot be billed yet, why, and since when."""
        self.run(
            "INSERT INTO parked (customer, period, reason, since)"
            " VALUES (:customer, :period, :reason, :now)"
            " ON CONFLICT (customer, period) DO UPDATE SET reason = excluded.reason",
            customer=customer,
            period=period,
            reason=reason,
            now=now,
        )

    def unpark(self, customer: str, period: str) -> None:
        """It waits no longer."""
        self.run(
            "DELETE FROM parked WHERE customer = :customer AND period = :period",
            customer=customer,
            period=period,
        )

    def parked(self) -> list[Parked]:
        """What cannot be billed yet."""
        sql = "SELECT customer, period, reason, since FROM parked ORDER BY period, customer"
        return [Parked(*row) for row in self.rows(sql)]

    def correct(self, correction: Correction, currency: str, now: int) -> None:
        """Put an amount onto the customer's next invoice, once by its id."""
        self.run(
            "INSERT INTO correction (id, customer, currency, micro, description, since)"
            " VALUES (:id, :customer, :currency, :micro, :description, :now)"
            " ON CONFLICT (id) DO NOTHING",
            **correction._asdict(),
            currency=currency,
            now=now,
        )

    def corrections(self, customer: str = "", *, only_open: bool = True) -> list[tuple[Correction, str]]:
        """Corrections with their currency."""
        asked = ["customer = :customer"] * bool(customer) + ["invoice = ''"] * only_open
        where = f"WHERE {' AND '.join(asked)}" if asked else ""
        sql = f"SELECT id, customer, micro, description, currency FROM correction {where} ORDER BY id"
        values = {"customer": customer} if customer else {}
        return [(Correction(*row[:4]), row[4]) for row in self.rows(sql, **values)]

    def hold(self, customer: str, period: str, now: int) -> None:
        """Do not plan this period until it is released."""
        self.run(
            "INSERT INTO hold (customer, period, since) VALUES (:customer, :period, :now)"
            " ON CONFLICT (customer, period) DO NOTHING",
            customer=customer,
            period=period,
            now=now,
        )

    def release_hold(self, customer: str, period: str) -> bool:
        """Plan this period again; whether it was held."""
        sql = "DELETE FROM hold WHERE customer = :customer AND period = :period"
        return self.run(sql, customer=customer, period=period).rowcount == 1

    def holds(self) -> list[tuple[str, str]]:
        """Customer and period of what is held back."""
        rows = self.rows("SELECT customer, period FROM hold ORDER BY period, customer")
        return [(str(customer), str(period)) for customer, period in rows]

    def is_held(self, customer: str, period: str) -> bool:
        """Whether a person holds this period back."""
        sql = "SELECT 1 FROM hold WHERE customer = :customer AND period = :period"
        return bool(self.rows(sql, customer=customer, period=period))


def _in(states: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    values = {f"s{n}": state for n, state in enumerate(states)}
    return f"WHERE state IN ({', '.join(f':{name}' for name in values)})", values


def to_entry(row: Any) -> Entry:
    """An entry from its columns."""
    plan, *rest = row
    return Entry(plan_from_json(json.loads(plan)), *rest)
