"""Invoices a second through the real SDK against the fake in this process, and whose time it is.

`python -m tests.bench.bench_billing --customers 300`; `--plan-only` plans and sends nothing.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from billing_sync.books import Close, ClosedPeriod, HourTotal
from billing_sync.ledger import Ledger
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.round import Round
from billing_sync.stripe_fake.core import Call, Fake, Reply
from tests.billing_sync.world import closed

_LINES = 5


class Month:
    """A month of many customers, made as it is read."""

    def __init__(self, customers: int) -> None:
        self._customers = customers

    def closes(self, period: str | None, customer: str = "") -> Iterable[Close]:
        return (Close(f"c{n:06d}", f"C {n}", "", "2023-11", "USD") for n in range(self._customers))

    def read(self, closes: Sequence[Close]) -> list[ClosedPeriod]:
        return [closed(c.customer, c.period, *[1_234_567] * _LINES)._replace(name=c.name) for c in closes]

    def closed_hours(self, prices: Iterable[str], since: int) -> Iterable[HourTotal]:
        return []


class Timed(Fake):
    """A fake that knows how long it took."""

    spent = 0.0

    def handle(self, call: Call) -> Reply:
        began = time.perf_counter()
        try:
            return super().handle(call)
        finally:
            self.spent += time.perf_counter() - began


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=300)
    parser.add_argument("--plan-only", action="store_true")
    arguments = parser.parse_args()
    fake = Timed()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite3")
        books = Month(arguments.customers)
        work = Round(books, ledger, StripeProvider(FAKE_KEY, fake=fake), sleep=lambda _: None)
        began = time.perf_counter()
        work.plan() if arguments.plan_only else work.run()
        took = time.perf_counter() - began
        ledger.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = arguments.customers / took
    verb = "planned" if arguments.plan_only else "billed"
    sys.stdout.write(
        f"{arguments.customers:,} customers of {_LINES} lines {verb} in {took:.1f} s, {rate:,.0f} a second,"
        f" {fake.requests:,} requests, {fake.spent / took:.0%} of the time in the fake, {memory:.0f} MiB\n"
    )


if __name__ == "__main__":
    main()
