"""What people do with the ledger: hold, reopen, settle, retry, drop, map; each with actor and reason."""

import time
from hashlib import sha256
from typing import NamedTuple

from billing_sync.books import ClosedPeriod
from billing_sync.currencies import unit_micro
from billing_sync.ledger import Action, Entry, Ledger, MeterHour
from billing_sync.planner import Correction, Plan, plan_invoice
from billing_sync.port import Provider
from metering.errors import UserError

UNDER_WAY = ("planned", "inflight", "unknown")
BLOCKED = ("blocked", "blocked_tax")


class Who(NamedTuple):
    """Who acts, and why."""

    actor: str
    reason: str


class DeadItem(NamedTuple):
    """Something that does not go on by itself; `since` in epoch seconds, 0 if it is not known."""

    id: str
    customer: str
    period: str
    reason: str
    since: int


class Desk:
    """Actions on one ledger."""

    def __init__(self, ledger: Ledger, who: Who, now: int | None = None) -> None:
        self._ledger = ledger
        self._who = who
        self._now = int(time.time()) if now is None else now

    def _record(self, command: str, subject: str) -> None:
        self._ledger.record(Action(self._now, self._who.actor, command, subject, self._who.reason))

    def freeze(self, customer: str, period: str) -> None:
        """Hold a period back until it is reopened."""
        with self._ledger.transaction():
            self._ledger.hold(customer, period, self._now)
            self._record("periods freeze", f"{customer} {period}")

    def reopen(self, customer: str, period: str, provider: Provider) -> None:
        """Release a period that is held back, or bill one again whose invoice was voided."""
        if self._ledger.release_hold(customer, period):
            self._record("periods reopen", f"{customer} {period}")
            return
        found = [entry for entry in self._ledger.entries(period) if entry.plan.customer == customer]
        found = [entry for entry in found if not entry.plan.credits]
        if not found:
            raise UserError(f"{customer} {period} is neither held back nor invoiced")
        status = {entry.plan.id: _status(entry, provider) for entry in found}
        void = [e for e in found if status[e.plan.id] == "void" and e.state not in UNDER_WAY]
        if not void:
            raise UserError(
                f"the invoice of {customer} {period} is {', '.join(status.values())}, not void",
                hint="void it at the provider first; two open invoices would charge twice",
            )
        for entry in void:
            self._bill_again(entry)

    def _bill_again(self, entry: Entry) -> None:
        with self._ledger.transaction():
            self._ledger.send_again(f"{entry.plan.id}:")
            self._ledger.set_state(entry.plan.id, "planned", reason="reopened", now=self._now)
            self._record("periods reopen", f"{entry.plan.customer} {entry.plan.period}")

    def settle(self, customer: str, currency: str, *, write_off: bool) -> str:
        """Invoice what earlier invoices left, or write it off; what was done, in words."""
        found = [c for c in self._ledger.carries() if c[:2] == (customer, currency)]
        micro, last = (found[0][2], found[0][3]) if found else (0, "")
        if not micro:
            raise UserError(f"{customer} has no carried amount in {currency}")
        subject = f"{customer} {currency} {micro} micro-units"
        with self._ledger.transaction():
            self._record("carry settle --write-off" if write_off else "carry settle", subject)
            if write_off:
                self._write_off(customer, currency, micro, last)
                return f"{subject} written off"
            if micro < unit_micro(currency):
                raise UserError(
                    f"{customer} carries less than one unit that {currency} can be invoiced in",
                    hint="add --write-off to close the account",
                )
            self._invoice_carry(customer, currency, micro, last)
        return f"{subject} planned as an invoice of its own; `run` sends it"

    def _invoice_carry(self, customer: str, currency: str, micro: int, last: str) -> None:
        closed = ClosedPeriod(customer, customer, "", self._period_of(last), currency, (), 0, "")
        self._ledger.add_plan(plan_invoice(closed, micro, identity=_settlement(last)), self._now)

    def _write_off(self, customer: str, currency: str, micro: int, last: str) -> None:
        """A correction takes it away, on a plan without lines: every sum still adds up."""
        correction = Correction(f"write-off:{last}", customer, -micro, f"written off: {self._who.reason}")
        self._ledger.correct(correction, currency, self._now)
        place = (_settlement(last), customer, self._period_of(last), currency)
        self._ledger.add_plan(Plan(*place, -micro, micro, 0, (), (correction.id,)), self._now)

    def _period_of(self, invoice: str) -> str:
        entry = self._ledger.entry(invoice)
        assert entry is not None, "a carry comes from an invoice"
        return entry.plan.period

    def dead(self) -> list[DeadItem]:
        """Everything that waits for a person: blocked invoices, refused hours, what is parked."""
        items = [
            DeadItem(e.plan.id, e.plan.customer, e.plan.period, e.reason, e.changed)
            for e in self._ledger.entries_in(*BLOCKED)
        ]
        items += [
            DeadItem(_hour_id(h), h.customer, "", h.reason, h.sent_at)
            for h in self._ledger.hours()
            if h.state == "rejected"
        ]
        return items + [
            DeadItem(f"{p.customer}/{p.period}", p.customer, p.period, p.reason, p.since)
            for p in self._ledger.parked()
        ]

    def retry(self, item: str) -> None:
        """Let a blocked invoice or a refused hour be sent again."""
        entry, hour = self._find(item)
        with self._ledger.transaction():
            if entry is not None:
                self._ledger.set_state(entry.plan.id, "planned", reason="retried", now=self._now)
            else:
                assert hour is not None, "one of them was found"
                self._ledger.repeat_hour(hour)
            self._record("dead retry", item)

    def drop(self, item: str) -> None:
        """Give up a blocked invoice or a refused hour: its money is written off."""
        entry, hour = self._find(item)
        with self._ledger.transaction():
            if entry is not None:
                reason = f"dropped: {self._who.reason}"
                self._ledger.set_state(entry.plan.id, "dropped", reason=reason, now=self._now)
            else:
                assert hour is not None, "one of them was found"
                self._ledger.set_hour(hour, "delivered", reason=f"dropped: {self._who.reason}")
            self._record("dead drop", item)

    def _find(self, item: str) -> tuple[Entry | None, MeterHour | None]:
        entry = self._ledger.entry(item)
        if entry is not None and entry.state in BLOCKED:
            return entry, None
        for hour in self._ledger.hours():
            if hour.state == "rejected" and _hour_id(hour) == item:
                return None, hour
        raise UserError(
            f"`{item}` is no blocked invoice or refused hour",
            hint="`billing-sync dead list` shows them; what is parked goes on once its reason is gone",
        )

    def map(self, customer: str, account: str) -> None:
        """Say which account is a customer's; what waited for it goes on."""
        with self._ledger.transaction():
            known = self._ledger.person(customer)
            self._ledger.map_person(customer, account, "mapped", self._now)
            for entry in self._ledger.entries_in("planned", "inflight", "unknown", *BLOCKED):
                if entry.plan.customer == customer and known and known.external != account:
                    self._ledger.send_again(f"{entry.plan.id}:")
                    self._ledger.set_state(entry.plan.id, "planned", reason="mapped anew", now=self._now)
            self._record("customers map", f"{customer} {account}")


def _settlement(last: str) -> str:
    return "inv_" + sha256(f"settle {last}".encode()).hexdigest()[:40]


def _status(entry: Entry, provider: Provider) -> str:
    held = provider.get_invoice(entry.external) if entry.external else None
    return held.status if held else "not there"


def _hour_id(hour: MeterHour) -> str:
    return f"{hour.customer}/{hour.meter}@{hour.hour}"
