"""A seeded simulation: any usage, any fault, any restart, through the real SDK; then Stripe equals the books.

`python -m tests.billing_sync.simulate --seeds 1000` runs more seeds than the test suite. A seed that fails
is the bug report: run it again with `--first SEED --seeds 1`.
"""

import argparse
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from billing_sync.book_hours import HourTotal
from billing_sync.books import Close, ClosedPeriod, HourCharge, PriceTotal
from billing_sync.config import BillingConfig, MeterRule
from billing_sync.currencies import exponent_and_step, unit_micro
from billing_sync.ledger import MEMORY, Ledger
from billing_sync.pace import Pace
from billing_sync.planner import period_seconds
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.round import OPEN, Round
from billing_sync.stripe_fake.core import Fake
from billing_sync.stripe_fake.errors import Crash
from billing_sync.stripe_fake.faults import Fault
from tests.billing_sync.world import HourList

CURRENCIES = ("USD", "EUR", "JPY", "KWD", "ISK")
PERIODS = ("2023-09", "2023-10", "2023-11")
HOUR, DAY = 3_600, 86_400
FAULTY = 1 / 3
CONFIG = BillingConfig(meter_events=(MeterRule(price="metered", event_name="metered"),))
_ROUNDS = 160


class Books(HourList):
    """Three months of a few customers: prices we rate, one that Stripe's meter rates."""

    def __init__(self, chance: random.Random) -> None:
        self.closed: list[ClosedPeriod] = []
        self.hours: dict[tuple[str, int], Decimal] = {}
        self._chance = chance
        customers = [f"c{n}" for n in range(chance.randint(1, 3))]
        self._currency = {customer: chance.choice(CURRENCIES) for customer in customers}
        self.waiting = [(customer, period) for period in PERIODS for customer in customers]
        for customer, period in self.waiting:
            start, _ = period_seconds(period)
            for _ in range(chance.choice((0, 1, 2))):
                hour = start + chance.randrange(700) * HOUR
                self.hours[customer, hour] = Decimal(chance.randrange(1, 10**9)) / 10**6

    def advance(self, now: int) -> None:
        """Late usage changes an hour of an open period; periods that are over are closed."""
        for customer, period in list(self.waiting):
            start, end = period_seconds(period)
            if end + DAY > now:
                for place in self.hours:
                    is_open = place[0] == customer and start <= place[1] <= end
                    if is_open and self._chance.random() < 0.2:
                        self.hours[place] += Decimal(self._chance.randrange(1, 1_000)) / 1_000
                continue
            self.waiting.remove((customer, period))
            self.closed.append(self._close(customer, period))

    def _close(self, customer: str, period: str) -> ClosedPeriod:
        chance, (start, end) = self._chance, period_seconds(period)
        amounts = [
            chance.choice((chance.randrange(-(10**7), 10**9), chance.randrange(10**4))) for _ in range(3)
        ]
        prices = [PriceTotal(f"p{n}", "calls", Decimal(n), amount) for n, amount in enumerate(amounts)]
        own = [
            HourCharge(hour, quantity, int(quantity * 7))
            for (who, hour), quantity in self.hours.items()
            if who == customer and start <= hour <= end
        ]
        if own:
            quantity = sum((h.quantity for h in own), Decimal(0))
            prices.append(
                PriceTotal("metered", "calls", quantity, sum(h.micro for h in own), hours=tuple(own))
            )
        total = sum(p.micro for p in prices)
        return ClosedPeriod(
            customer, customer, "", period, self._currency[customer], tuple(prices), total, ""
        )

    def closes(self, period: str | None, customer: str = "") -> Iterable[Close]:
        return [Close(*closed[:5]) for closed in self.closed]

    def read(self, closes: Sequence[Close]) -> list[ClosedPeriod]:
        return [next(closed for closed in self.closed if closed[:5] == close[:5]) for close in closes]

    def hours_until(self) -> int:
        return self.seen_until // HOUR * HOUR

    def all_hours(self) -> list[HourTotal]:
        known = {(who, hour) for who, hour in self.hours if hour + HOUR <= self.seen_until}
        return [
            HourTotal(who, who, "", "metered", hour, self.hours[who, hour]) for who, hour in sorted(known)
        ]

    seen_until = 0


def round_half_up(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_HALF_UP))


class World:
    """One seed."""

    def __init__(self, seed: int, faulty: float = FAULTY) -> None:
        self.chance = random.Random(seed)
        self.now = period_seconds(PERIODS[0])[0] + DAY
        self.books = Books(self.chance)
        self.fake = Fake(None, lambda: float(self.now))
        self.fake.meters.lag = self.chance.choice((0, 60, 3_600))
        self.fake.meters.create(
            {
                "display_name": "m",
                "event_name": "metered",
                "event_time_window": "hour",
                "default_aggregation": {"formula": "sum"},
            }
        )
        self.fake.faults.decide = self.fault
        self.config = CONFIG.model_copy(update={"meter_stream": self.chance.random() < 0.3})
        self.faulty = faulty
        self.ledger = Ledger(MEMORY, "sim")
        self.requests = self.faults = 0

    def fault(self, method: str, path: str) -> Fault | None:
        self.requests += 1
        if self.chance.random() >= self.faulty:
            return None
        self.faults += 1
        kind = self.chance.choice(("status", "drop", "crash", "cut", "delay", "slow", "gateway"))
        if method == "GET" and kind in ("delay", "slow", "gateway"):
            kind = "drop"
        when, status = self.chance.choice(("before", "after")), self.chance.choice((429, 409, 500, 503))
        if status in (429, 409):
            when = "before"
        if kind == "gateway":
            status = 504
        return Fault(kind, when, status, self.chance.randrange(1, 14 * 60))

    def sleep(self, seconds: float) -> None:
        self.now += max(1, round(seconds))

    def provider(self) -> Any:
        return StripeProvider(FAKE_KEY, fake=self.fake)

    def round(self) -> None:
        """One life of the process: it may die at any request."""
        self.books.advance(self.now)
        self.books.seen_until = self.now - 15 * 60
        pace = Pace(10_000, lambda: self.now, self.sleep, seed=1)
        try:
            Round(
                self.books,
                self.ledger,
                self.provider(),
                config=self.config,
                clock=lambda: self.now,
                sleep=self.sleep,
                pace=pace,
            ).run()
        except Crash:
            self.ledger.holder = f"sim{self.now}"
            self.ledger.run("DELETE FROM claim")  # as opening a SQLite ledger does

    def jump(self) -> int:
        """Seconds until the process runs again: restarts, nights, outages of days and of 40 days."""
        return self.chance.choice((1, 60, 20 * 60, 3 * HOUR, 10 * HOUR, DAY, 2 * DAY, 10 * DAY, 40 * DAY))

    def live(self) -> None:
        """Faults and restarts until every period is closed; then quiet rounds until all is settled."""
        end = period_seconds(PERIODS[-1])[1] + 2 * DAY
        while self.now < end:
            self.round()
            self.now += self.jump()
        self.faulty = min(self.faulty, FAULTY)
        for left in range(_ROUNDS, 0, -1):
            self.round()
            self.now += self.chance.choice((1, 60, 20 * 60))
            if left < _ROUNDS // 2:
                self.faulty = 0.0
            if self.is_settled():
                return

    def is_settled(self) -> bool:
        closed = {(c.customer, c.period) for c in self.books.closed}
        planned = {(e.plan.customer, e.plan.period) for e in self.ledger.entries()}
        return closed == planned and not self.ledger.entries_in(*OPEN) and not self.ledger.open_hours()

    def errors(self) -> list[str]:
        """Everywhere that Stripe differs from the books; empty is the law."""
        self.fake.settle()
        self.now += DAY  # every lag is over
        found = [] if self.is_settled() else [f"still open: {[e.state for e in self.ledger.entries()]}"]
        return found + self._money() + self._lines() + self._meters()

    def _money(self) -> list[str]:
        """Billed + carried = rated, per customer, to the micro-unit."""
        rated: defaultdict[tuple[str, str], int] = defaultdict(int)
        for closed in self.books.closed:
            rated[closed.customer, closed.currency] += self._ours(closed)
        billed: defaultdict[tuple[str, str], int] = defaultdict(int)
        for invoice in self._invoices():
            currency = invoice["currency"].upper()
            _, step = exponent_and_step(currency)
            billed[self._who(invoice), currency] += invoice["total"] // step * unit_micro(currency)
        carried = {(c, currency): micro for c, currency, micro, _ in self.ledger.carries()}
        return [
            f"{place}: rated {micro}, billed {billed[place]}, carried {carried.get(place, 0)}"
            for place, micro in rated.items()
            if micro != billed[place] + carried.get(place, 0)
        ]

    def _ours(self, closed: ClosedPeriod) -> int:
        """What our invoices must bill: not the metered hours that the meter holds."""
        held = self._held_when_expired()
        own = 0
        for price in closed.prices:
            late = [(h, held.get((closed.customer, h.hour))) for h in price.hours]
            rests = [h.micro - round_half_up(h.micro * q / h.quantity) for h, q in late if q is not None]
            own += sum(rests) if price.price == "metered" else price.micro
        return own

    def _held_when_expired(self) -> dict[tuple[str, int], Decimal]:
        found = (h for h in self.ledger.hours() if h.state == "expired")
        return {(h.customer, h.hour): Decimal(h.at_meter) for h in found}

    def _invoices(self) -> list[dict[str, Any]]:
        return [i for i in self.fake.state.all("invoice") if i["status"] not in ("void", "draft")]

    def _who(self, invoice: dict[str, Any]) -> str:
        held = self.fake.state.get(invoice["customer"])
        return str(held["metadata"]["um_customer"]) if held else "?"

    def _lines(self) -> list[str]:
        """One invoice a plan, each of its lines once; one account a customer."""
        wrong = []
        for entry in self.ledger.entries():
            held = [i for i in self._invoices() if i["metadata"]["um_invoice"] == entry.plan.id]
            lines = [
                (line["metadata"]["um_line"], line["amount"])
                for i in held
                for line in self.fake.state.all("line_item", i["id"])
            ]
            if sorted(lines) != sorted((line.id, line.minor) for line in entry.plan.lines):
                wrong.append(f"{entry.plan.customer} {entry.plan.period}: {len(held)} invoices, {lines}")
        drafts = [i for i in self.fake.state.all("invoice") if i["status"] == "draft"]
        people = [c["metadata"]["um_customer"] for c in self.fake.state.all("customer")]
        wrong += [f"{len(drafts)} drafts are left"] if drafts else []
        return wrong + (["a customer has two accounts"] if len(people) != len(set(people)) else [])

    def _meters(self) -> list[str]:
        """Every hour either at the meter with its last total, or expired and billed as a line."""
        (meter,) = self.fake.state.all("billing.meter")
        accounts = {c["metadata"]["um_customer"]: c["id"] for c in self.fake.state.all("customer")}
        held: dict[tuple[str, int], float] = {}
        for customer, account in accounts.items():
            query = {"customer": account, "start_time": "0", "end_time": str(self.now // HOUR * HOUR)}
            found = self.fake.meters.summaries(meter["id"], {**query, "value_grouping_window": "hour"})
            held |= {(customer, one["start_time"]): one["aggregated_value"] for one in found}
        expired = self._held_when_expired()
        all_wanted = {place: float(expired.get(place, q)) for place, q in self.books.hours.items()}
        wanted = {place: quantity for place, quantity in all_wanted.items() if quantity}
        return [] if held == wanted else [f"the meter holds {held}, wanted {wanted}"]


def simulate(seed: int) -> tuple[list[str], World]:
    """One seed: what is wrong at the end, and the world it happened in."""
    world = World(seed)
    try:
        world.live()
        return world.errors(), world
    finally:
        world.ledger.close()
        world.fake.state.close()


def main() -> int:
    """Run seeds and say how many ended exact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=1)
    arguments = parser.parse_args()
    began, wrong, requests, faults = time.monotonic(), 0, 0, 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        errors, world = simulate(seed)
        requests, faults = requests + world.requests, faults + world.faults
        if errors:
            wrong += 1
            sys.stdout.write(f"seed {seed}: {errors}\n")
    took = time.monotonic() - began
    sys.stdout.write(
        f"{arguments.seeds:,} seeds, {requests:,} requests, {faults:,} of them faulty, {took:.1f} s:"
        f" {wrong} with an error\n"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
