"""The books at the end of a run against the naive model: counters, totals, charges, closes, invoices."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from billing_sync.books import ClickHouseBooks, ClosedPeriod
from billing_sync.currencies import unit_micro
from metering.events import TICK_TYPE
from metering.state.calendar import is_closed, period_of, periods_between
from tests.simulation.model import CUSTOMERS, MONTHS, PARTITIONS, Copy, Naive
from tests.simulation.processes import BlockingClient
from tests.simulation.world import World

GRACE_HOURS = 24
OPEN_FEE = "open fee"
Place = tuple[str, str, str]  # customer, month, price


@dataclass
class Verdict:
    """What a run came to; exact when nothing is listed."""

    problems: list[str] = field(default_factory=list)
    events: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0


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
    if OPEN_FEE in world.chance.without:
        used = {(customer, period_of(hour)) for customer, _, hour in naive.hours}
        skipped = {(c, m, "base") for c in CUSTOMERS for m in begun if m not in closed and (c, m) not in used}
    else:
        skipped = set()
    _charges(world, model, skipped, found)
    _closes(world, closed, found)
    return found


def _counters(world: World, naive: Naive, found: Verdict) -> None:
    counted: Counter[str] = Counter()
    for row in world.books.current("progress"):
        counted.update({name: row[name] for name in ("read", "accepted", "duplicates", "rejected")})
    if counted != naive.counts:
        found.problems.append(f"counters: {dict(counted)}, model {dict(naive.counts)}")
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


def _charges(world: World, model: dict[Place, Decimal], skipped: set[Place], found: Verdict) -> None:
    booked: defaultdict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for row in world.books.current("charges"):
        if row["card"]:
            price, month = row["price"].partition("@")[0], row["corrects"] or row["period"]
            booked[row["customer"], month, price] += row["amount"]
    for place in sorted((booked.keys() | model.keys()) - skipped):
        if booked.get(place, Decimal(0)) != model.get(place, Decimal(0)):
            found.wrong += 1
            found.problems.append(f"charge {place}: {booked.get(place)}, model {model.get(place)}")


def _closes(world: World, closed: list[str], found: Verdict) -> None:
    """Each close agrees with the rows here, and each closed period is invoiced once, as it stands."""
    periods = list(ClickHouseBooks(BlockingClient(world.books)).closed_periods(None))
    here, expected = {(p.customer, p.period) for p in periods}, {(c, m) for c in CUSTOMERS for m in closed}
    if here != expected:
        found.problems.append(f"closes: {sorted(here ^ expected)} differ")
    found.problems += [f"close {p.customer} {p.period}: {p.problem}" for p in periods if p.problem]
    found.problems += _invoices(world, periods)


def _invoices(world: World, periods: Iterable[ClosedPeriod]) -> Iterator[str]:
    plans = world.ledger.plans.values()
    planned = {(plan.customer, plan.period): plan.micro for plan in plans}
    charged = {(p.customer, p.period): p.micro for p in periods}
    if len(planned) != len(plans) or planned != charged:
        different = {k: (planned.get(k), charged.get(k)) for k in planned.keys() | charged.keys()}
        yield f"invoices, charges: { {k: v for k, v in different.items() if v[0] != v[1]} }"
    for (customer, currency), carried in world.ledger.carried.items():
        mine = [plan for plan in plans if plan.customer == customer]
        unit = unit_micro(currency)
        if sum(plan.minor for plan in mine) * unit + carried != sum(plan.micro for plan in mine):
            yield f"invoices of {customer} do not add up with what is carried"
