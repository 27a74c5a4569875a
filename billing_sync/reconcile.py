"""Reconcile: what was rated, planned and sent against what the provider holds, line by line, hour by hour.

Classes: ok, missing, under, over, foreign (not ours), lagging (too fresh to be seen). A repair is planned
through the same ledger: a draft is built again, a final invoice is corrected on the customer's next one,
an hour is set once more.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple, cast

from billing_sync.books import BookSource, Close
from billing_sync.config import BillingConfig
from billing_sync.currencies import exponent_and_step, unit_micro
from billing_sync.exchange import Exchange
from billing_sync.ledger import Entry, Ledger, MeterHour
from billing_sync.planner import Correction, invoice_id
from billing_sync.port import CreditProvider, HeldInvoice, HeldLine, MeterProvider, Provider

OK, MISSING, UNDER, OVER, FOREIGN, LAGGING = "ok", "missing", "under", "over", "foreign", "lagging"
LAG_SECONDS = 3_600  # an hour's summary is trusted this long after it was sent
SENT = ("delivered", "verified", "finalized", "blocked", "blocked_tax")
_HOUR = 3_600
_CURSOR = "reconciled up to"
_MICRO = Decimal(1_000_000)


class Finding(NamedTuple):
    """One comparison; `wanted` and `held` in minor units, micro-units of a plan, or a meter's quantity."""

    customer: str
    period: str
    kind: str  # plan, invoice, line or hour
    subject: str
    verdict: str
    wanted: Decimal
    held: Decimal
    note: str = ""

    @property
    def is_drift(self) -> bool:
        """Whether somebody has to act."""
        return self.verdict not in (OK, LAGGING)


class Scope(NamedTuple):
    """What to compare: one customer or all, periods from and to (inclusive), empty for all."""

    customer: str = ""
    first: str = ""
    last: str = ""

    def covers(self, customer: str, period: str) -> bool:
        """Whether a customer's period is in it."""
        is_in = (not self.first or period >= self.first) and (not self.last or period <= self.last)
        return is_in and self.customer in ("", customer)


class Reconciler:
    """Compares, and plans repairs."""

    def __init__(
        self,
        books: BookSource,
        ledger: Ledger,
        provider: Provider,
        exchange: Exchange,
        *,
        config: BillingConfig,
        clock: Callable[[], int],
    ) -> None:
        self._books = books
        self._ledger = ledger
        self._provider = provider
        self._exchange = exchange
        self._config = config
        self._clock = clock

    def check(self, scope: Scope | None = None) -> list[Finding]:
        """Every comparison of a scope; hours that agree become verified."""
        scope = scope or Scope()
        found = list(self._plans(scope))
        for entry in self._ledger.entries_in(*SENT, customer=scope.customer):
            if entry.external and scope.covers(entry.plan.customer, entry.plan.period):
                found += self._invoice(entry)
        return found + list(self._hours(scope))

    def step(self, requests: int) -> list[Finding]:
        """Compare the next customers until so many requests are spent; the ledger keeps where to go on."""
        names = sorted(self._ledger.customers_in(*SENT) | self._ledger.customers_with_hours())
        last = self._ledger.mark(_CURSOR)
        start = bisect_right(names, last)
        begun, found = self._exchange.requests, list[Finding]()
        for name in [*names[start:], *names[:start]]:
            if self._exchange.requests - begun >= requests:
                break
            found += self.check(Scope(name))
            self._ledger.set_mark(_CURSOR, name)
        return found

    def repair(self, findings: Iterable[Finding]) -> int:
        """Plan what mends the drift; how much was planned. What only a person may do stays."""
        drifted = [f for f in findings if f.is_drift]
        rebuilt: set[str] = set()
        done = 0
        for finding in drifted:
            if finding.kind == "hour":
                done += self._repair_hour(finding)
            elif finding.kind in ("invoice", "line"):
                done += self._repair_invoice(finding, rebuilt)
        return done

    def _plans(self, scope: Scope) -> Iterator[Finding]:
        """What was rated against what was planned."""
        for close in self._books.closes(None, scope.customer):
            if not scope.covers(close.customer, close.period):
                continue
            entry = self._ledger.entry(invoice_id(close.customer, close.period, close.currency))
            if entry is not None and not self._config.rules_for(close.customer):
                yield self._plan(close, entry)

    def _plan(self, close: Close, entry: Entry) -> Finding:
        planned = self._ledger.invoiced(close.customer, close.period, close.currency)
        rated = self._books.read([close])[0].micro
        return Finding(
            close.customer,
            close.period,
            "plan",
            entry.plan.id,
            _verdict(Decimal(rated), Decimal(planned)),
            Decimal(rated) / _MICRO,
            Decimal(planned) / _MICRO,
        )

    def _invoice(self, entry: Entry) -> list[Finding]:
        plan, wanted = entry.plan, Decimal(entry.plan.minor)
        place = (plan.customer, plan.period)
        if plan.credits:
            return [self._credit(entry)]
        held = self._exchange.read(lambda: self._provider.get_invoice(entry.external))
        if held is not None:
            self._ledger.set_status(plan.id, held.status, self._clock())  # webhooks may have gone astray
        if held is None or held.status == "void":
            note = "voided: `periods reopen` bills it again" if held else "not there any more"
            return [Finding(*place, "invoice", plan.id, MISSING, wanted, Decimal(0), note)]
        lines = self._exchange.read(lambda: self._provider.lines(entry.external))
        found = list(self._lines(entry, held, lines))
        verdict = OK if not any(f.is_drift for f in found) else _verdict(wanted, Decimal(held.total))
        return [Finding(*place, "invoice", plan.id, verdict, wanted, Decimal(held.total)), *found]

    def _credit(self, entry: Entry) -> Finding:
        """A credit note has one line: its total says everything. Only a person may mend one."""
        plan, provider = entry.plan, cast("CreditProvider", self._provider)
        held = self._exchange.read(lambda: provider.get_credit(entry.external))
        is_gone = held is None or held.status == "void"
        wanted, there = Decimal(plan.minor), Decimal(0 if held is None or is_gone else held.total)
        verdict = MISSING if is_gone else _verdict(wanted, there)
        return Finding(plan.customer, plan.period, "invoice", plan.id, verdict, wanted, there, "credit note")

    def _lines(self, entry: Entry, held: HeldInvoice, lines: list[HeldLine]) -> Iterator[Finding]:
        plan = entry.plan
        wanted = {line.id: line.minor for line in plan.lines}
        amounts: dict[str, list[int]] = {}
        for line in lines:
            amounts.setdefault(line.id, []).append(line.minor)
        is_shared = bool(self._subscription(plan.customer))
        for line_id in sorted({*wanted, *amounts}):
            if line_id not in wanted and is_shared:
                continue  # the subscription's own lines
            yield self._line(entry, held, line_id, wanted.get(line_id), amounts.get(line_id))

    def _line(
        self, entry: Entry, held: HeldInvoice, line_id: str, wanted: int | None, amounts: list[int] | None
    ) -> Finding:
        place = (entry.plan.customer, entry.plan.period, "line", line_id)
        due, there = Decimal(wanted or 0), Decimal(sum(amounts or []))
        if held.status != "draft" and due != there and self._missing_micro(entry, line_id, due - there) == 0:
            return Finding(*place, OK, due, there, "corrected on a later invoice")
        if wanted is None:
            return Finding(*place, FOREIGN, due, there, "not ours")
        if amounts is None:
            return Finding(*place, MISSING, due, there)
        return Finding(*place, _verdict(due, there), due, there)

    def _missing_micro(self, entry: Entry, line_id: str, minor: Decimal) -> int:
        """What of a final invoice's difference no correction has taken up yet, in micro-units."""
        _, step = exponent_and_step(entry.plan.currency)
        micro = int(minor) * unit_micro(entry.plan.currency) // step
        known = self._ledger.corrections(entry.plan.customer, only_open=False)
        return micro - sum(c.micro for c, _ in known if c.id.startswith(f"fix:{line_id}:"))

    def _subscription(self, customer: str) -> str:
        rule = self._config.customers.get(customer)
        return rule.subscription if rule else ""

    def _repair_invoice(self, finding: Finding, rebuilt: set[str]) -> int:
        entry = self._entry_of(finding)
        if entry.plan.credits:
            return 0
        held = self._exchange.read(lambda: self._provider.get_invoice(entry.external))
        if held is not None and held.status == "void":
            return 0
        if (held is None or held.status == "draft") and not self._subscription(entry.plan.customer):
            return self._rebuild(entry, rebuilt)
        if finding.kind != "line":
            return 0
        micro = self._missing_micro(entry, finding.subject, finding.wanted - finding.held)
        known = self._ledger.corrections(entry.plan.customer, only_open=False)
        earlier = sum(c.id.startswith(f"fix:{finding.subject}:") for c, _ in known)
        number = entry.number or entry.external
        text = f"correction of invoice {number}, {entry.plan.period}"
        identity = f"fix:{finding.subject}:{earlier}"
        self._ledger.correct(
            Correction(identity, entry.plan.customer, micro, text), entry.plan.currency, self._clock()
        )
        return 1

    def _rebuild(self, entry: Entry, rebuilt: set[str]) -> int:
        """A draft can be thrown away and made again: nobody has been asked to pay it."""
        if entry.plan.id in rebuilt:
            return 0
        rebuilt.add(entry.plan.id)
        self._exchange.read(lambda: self._provider.delete_draft(entry.external))
        with self._ledger.transaction():
            self._ledger.send_again(f"{entry.plan.id}:")
            self._ledger.set_state(entry.plan.id, "planned", reason="built again", now=self._clock())
        return 1

    def _entry_of(self, finding: Finding) -> Entry:
        for entry in self._ledger.entries(finding.period):
            ours = {entry.plan.id, *(line.id for line in entry.plan.lines)}
            is_customer = entry.plan.customer == finding.customer
            if is_customer and (finding.subject in ours or finding.verdict == FOREIGN):
                return entry
        raise LookupError(finding.subject)

    def _hours(self, scope: Scope) -> Iterator[Finding]:
        if not self._provider.caps.meter_events:
            return
        groups: dict[tuple[str, str], list[MeterHour]] = {}
        for hour in self._ledger.hours(scope.customer):
            if hour.state in ("delivered", "verified"):
                groups.setdefault((hour.customer, hour.meter), []).append(hour)
        for (customer, price), hours in groups.items():
            person = self._ledger.person(customer)
            event_name = self._config.rules_for(customer).get(price)
            if person is not None and event_name:
                yield from self._meter(person.external, event_name, hours)

    def _meter(self, account: str, event_name: str, hours: list[MeterHour]) -> Iterator[Finding]:
        meters = cast("MeterProvider", self._provider)
        start, end = hours[0].hour, hours[-1].hour + _HOUR
        held = self._exchange.read(
            lambda: {h.hour: h.quantity for h in meters.held_hours(account, event_name, start, end)}
        )
        for hour in hours:
            yield self._hour(hour, held.pop(hour.hour, None))
        known = {h.hour for h in self._ledger.hours(hours[0].customer) if h.meter == hours[0].meter}
        for at, quantity in held.items():
            if at not in known:
                subject = f"{hours[0].meter}@{at}"
                yield Finding(hours[0].customer, "", "hour", subject, FOREIGN, Decimal(0), quantity)

    def _hour(self, hour: MeterHour, held: Decimal | None) -> Finding:
        wanted, there = Decimal(hour.quantity), held or Decimal(0)
        verdict = _verdict(wanted, there)
        if verdict != OK and self._clock() < hour.sent_at + LAG_SECONDS:
            verdict = LAGGING
        elif verdict == OK:
            self._ledger.set_hour(hour, "verified")
        elif held is None:
            verdict = MISSING
        return Finding(hour.customer, "", "hour", f"{hour.meter}@{hour.hour}", verdict, wanted, there)

    def _repair_hour(self, finding: Finding) -> int:
        price, _, at = finding.subject.rpartition("@")
        held = self._ledger.hour(finding.customer, price, int(at))
        if held is None:
            self._ledger.want_hour(finding.customer, price, int(at), Decimal(0))
        else:
            self._ledger.repeat_hour(held)
        return 1


def _verdict(wanted: Decimal, held: Decimal) -> str:
    if wanted == held:
        return OK
    return UNDER if held < wanted else OVER
