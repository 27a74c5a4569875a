"""The books at the end of a run against the naive model: counters, totals, charges, closes, invoices."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from billing_sync.books import ClickHouseBooks, ClosedPeriod
from billing_sync.currencies import unit_micro
from metering.events import TICK_TYPE
from metering.state.calendar import is_closed, period_of, periods_between
from tests.simulation.billing import BlockingClient, held_invoices
from tests.simulation.model import CUSTOMERS, MONTHS, PARTITIONS, Copy, Naive, Place
from tests.simulation.world import World

GRACE_HOURS = 24


@dataclass
class Verdict:
    """What a run came to; exact when nothing is listed."""

    problems: list[str] = field(default_factory=list)
    events: int = 0
    lost: int = 0
    twice: int = 0
    charges: int = 0
    invoices: int = 0
    counters: int = 0

    @property
    def is_wrong(self) -> bool:
        """Whether a figure differs: not only a process that refused to go on."""
        return any((self.lost, self.twice, self.charges, self.invoices, self.counters))


def copies(world: World) -> Iterator[Copy]:
    """Every copy of every event in the log, envelopes opened, ticks left out."""
    for partition in range(PARTITIONS):
        for _, record in world.broker.log(world.names.events, partition).history:
            value = record or b""
            parts = msgspec.json.decode(value, type=list[msgspec.Raw]) if value[:1] == b"[" else [value]
            found = [Copy(partition, bytes(part)) for part in parts]
            yield from (copy for copy in found if TICK_TYPE.encode() not in copy.value)


def check(world: World, naive: Naive) -> Verdict:
    """Compare everything."""
    found = Verdict(list(world.problems), naive.counts["read"])
    found.problems += [f"not caught: {error!r}" for error in world.loop.failures]
    _counters(world, naive, found)
    _hours(world, naive, found)
    watermark = min(row["watermark"] for row in world.books.current("progress")).timestamp() * 1_000
    closed = [m for m in MONTHS if is_closed(m, int(watermark), GRACE_HOURS)]
    begun = periods_between(MONTHS[0], period_of(int(watermark) // 1_000))
    model = naive.charges(world.revision, begun, closed)
    _charges(world, model, found)
    _closes(world, closed, found)
    return found


def _counters(world: World, naive: Naive, found: Verdict) -> None:
    counted: Counter[str] = Counter()
    for row in world.books.current("progress"):
        counted.update({name: row[name] for name in ("read", "accepted", "duplicates", "rejected")})
    if counted != naive.counts:
        found.counters += 1
        found.problems.append(f"counters: {dict(counted)}, model {dict(naive.counts)}")
    archived, sent = len(world.books.table("events").rows), sum(c.value[:1] == b"{" for c in copies(world))
    if archived != sent:
        found.problems.append(f"archive: {archived} events, {sent} in the log")
    letters = len(world.books.current("rejected"))
    if letters != naive.counts["rejected"]:
        found.problems.append(f"dead letters: {letters}, model {naive.counts['rejected']}")


def _hours(world: World, naive: Naive, found: Verdict) -> None:
    booked = {
        (row["customer"], row["meter"], int(row["hour"].timestamp())): int(row["quantity"])
        for row in world.books.current("hourly")
    }
    for place in sorted(booked.keys() | naive.hours.keys()):
        here, model = booked.get(place, 0), naive.hours.get(place, 0)
        if here != model:
            found.problems.append(f"hour {place}: {here}, model {model}")
        if place[1] == "calls":
            found.lost += max(0, model - here)
            found.twice += max(0, here - model)


def _charges(world: World, model: dict[Place, Decimal], found: Verdict) -> None:
    booked: defaultdict[Place, Decimal] = defaultdict(Decimal)
    for row in world.books.current("charges"):
        if row["card"]:
            price, month = row["price"].partition("@")[0], row["corrects"] or row["period"]
            booked[row["customer"], month, price] += row["amount"]
    for place in sorted(booked.keys() | model.keys()):
        if booked.get(place, Decimal(0)) != model.get(place, Decimal(0)):
            found.charges += 1
            found.problems.append(f"charge {place}: {booked.get(place)}, model {model.get(place)}")


def _closes(world: World, closed: list[str], found: Verdict) -> None:
    """Each close agrees with the rows here, and each closed period is invoiced once, as it stands."""
    periods = list(ClickHouseBooks(BlockingClient(world.books)).closed_periods(None))
    here, expected = {(p.customer, p.period) for p in periods}, {(c, m) for c in CUSTOMERS for m in closed}
    if here != expected:
        found.problems.append(f"closes: {sorted(here ^ expected)} differ")
    found.problems += [f"close {p.customer} {p.period}: {p.problem}" for p in periods if p.problem]
    _invoices(world, periods, found)


def _invoices(world: World, periods: list[ClosedPeriod], found: Verdict) -> None:
    """Planned as charged, held by the provider as planned, and nothing lost between two invoices."""
    entries = world.ledger.entries()
    planned = {(e.plan.customer, e.plan.period): e.plan.micro for e in entries}
    charged = {(p.customer, p.period): p.micro for p in periods if p.prices}
    wrong = {place for place in planned.keys() | charged.keys() if planned.get(place) != charged.get(place)}
    held = held_invoices(world.provider)
    for e in entries:
        expected = [("open", e.plan.minor)] if e.plan.lines else []
        if held.pop(e.plan.id, []) != expected or e.state not in ("finalized", "carried"):
            wrong.add((e.plan.customer, e.plan.period))
    found.invoices = len(wrong) + len(held)
    found.problems += [f"invoice {place} is wrong" for place in sorted(wrong)]
    found.problems += [f"an invoice that was not planned: {name} {what}" for name, what in held.items()]
    for customer in CUSTOMERS:
        mine = [e.plan for e in entries if e.plan.customer == customer]
        for currency in {plan.currency for plan in mine}:
            kept = world.ledger.carry(customer, currency)
            if sum(p.minor for p in mine) * unit_micro(currency) + kept != sum(p.micro for p in mine):
                found.problems.append(f"invoices of {customer} do not add up with what is carried")
