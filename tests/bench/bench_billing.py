"""Billing at size: `python -m tests.bench.bench_billing` sends to the fake and plans a month from ClickHouse.

Sent: items a second through the real SDK, and whose time it is. Planned: a month of 100,000 customers,
made by ClickHouse itself in a scratch database, with seconds and the memory of this process.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from billing_sync.books import ClickHouseBooks, Close, ClosedPeriod
from billing_sync.ledger import Ledger
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.round import Round
from billing_sync.stripe_fake.core import Call, Fake, Reply
from metering.local import parts
from metering.settings import settings
from metering.sinks.client import LONG_ANSWER_SECONDS, connect
from metering.sinks.migrate import migrate
from metering.state.postings import close_digest
from tests.billing_sync.world import HourList, closed

DATABASE = "bench_billing"
PRICES, HOURS, HOUR = 5, 6, 3_600
FIRST_HOUR = 1_698_796_800  # 2023-11-01
MICRO = 1_234_567


class Month(HourList):
    """A month of some customers, made as it is read."""

    def __init__(self, customers: int) -> None:
        self._customers = customers

    def closes(self, period: str | None, customer: str = "") -> Iterable[Close]:
        return (Close(f"c{n:06d}", f"C {n}", "", "2023-11", "USD") for n in range(self._customers))

    def read(self, closes: Sequence[Close]) -> list[ClosedPeriod]:
        return [closed(c.customer, c.period, *[MICRO] * PRICES)._replace(name=c.name) for c in closes]


class Timed(Fake):
    """A fake that knows how much CPU it took."""

    spent = 0.0

    def handle(self, call: Call) -> Reply:
        began = time.process_time()
        try:
            return super().handle(call)
        finally:
            self.spent += time.process_time() - began


class TimedSdk:
    """How much CPU the SDK took, and the fake behind it."""

    def __init__(self, provider: StripeProvider) -> None:
        self.spent = 0.0
        requestor = provider.connection.sdk._requestor  # every service of the client asks through it
        real = requestor.request

        def request(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return real(*arguments, **named)
            finally:
                self.spent += time.process_time() - began

        requestor.request = request  # type: ignore[method-assign] # timed


def send(customers: int, folder: Path) -> None:
    """Bill a month through the SDK against the fake in this process."""
    fake, ledger = Timed(), Ledger(folder / "sent.sqlite3")
    provider = StripeProvider(FAKE_KEY, fake=fake)
    sdk = TimedSdk(provider)
    work = Round(Month(customers), ledger, provider, sleep=lambda _: None)
    began, busy = time.perf_counter(), time.process_time()
    work.run()
    took, busy = time.perf_counter() - began, time.process_time() - busy
    ledger.close()
    assert len(fake.state.all("line_item")) == customers * PRICES
    lines, own, theirs = customers * PRICES, 1 - sdk.spent / busy, (sdk.spent - fake.spent) / busy
    sys.stdout.write(
        f"sent: {customers:,} invoices, {lines:,} lines, {fake.requests:,} requests in {took:.1f} s:"
        f" {lines / took:,.0f} lines and {fake.requests / took:,.0f} requests a second; {busy:.1f} s of CPU"
        f" ({fake.requests / busy:,.0f} requests a second), {own:.0%} of it ours, {theirs:.0%} the SDK's\n"
    )


def fill(client: Any, customers: int) -> None:
    """A closed month: the same charges for everybody, so that one digest fits."""
    charges = [(f"p{p}", FIRST_HOUR + h * HOUR, MICRO) for p in range(PRICES) for h in range(HOURS)]
    client.command(
        "INSERT INTO charges (customer, period, price, hour, meter, currency, quantity, amount, card, line,"
        " slice_tiers, slice_units, slice_unit_prices, slice_flat_fees, slice_amounts, slice_billed,"
        " slice_labels, version)"
        " SELECT concat('c', leftPad(toString(number), 6, '0')), '2023-11', concat('p', toString(p)),"
        f" toDateTime({FIRST_HOUR}, 'UTC') + h * {HOUR}, 'calls', 'USD', 10, toDecimal128('1.234567', 6),"
        " 'card', 'usage', [1], [10], [toDecimal128('0.1234567', 12)], [0], [1], [10], [''], 1"
        f" FROM numbers({customers}) ARRAY JOIN range({PRICES}) AS p ARRAY JOIN range({HOURS}) AS h"
    )
    client.command(
        "INSERT INTO period_closes (customer, period, currency, rows, errors, amount, digest, version)"
        f" SELECT concat('c', leftPad(toString(number), 6, '0')), '2023-11', 'USD', {len(charges)}, 0,"
        f" toDecimal128('1.234567', 6) * {len(charges)}, '{close_digest(charges)}', 1"
        f" FROM numbers({customers})"
    )


def plan(customers: int, folder: Path) -> None:
    """Plan a month from ClickHouse into a ledger."""
    own = settings()
    parts.up(own, Console(stderr=True).print)
    with connect(own.clickhouse(), "default") as server:
        server.command(f"DROP DATABASE IF EXISTS {DATABASE}")
    migrate(own.clickhouse(), DATABASE)
    with connect(own.clickhouse(), DATABASE, answer_seconds=LONG_ANSWER_SECONDS) as client:
        fill(client, customers)
        ledger = Ledger(folder / "planned.sqlite3")
        provider = StripeProvider(FAKE_KEY, fake=Fake())
        work = Round(ClickHouseBooks(client), ledger, provider, sleep=lambda _: None)
        began, busy = time.perf_counter(), time.process_time()
        work.plan()
        took, busy = time.perf_counter() - began, time.process_time() - busy
        began = time.perf_counter()
        work.plan()
        again = time.perf_counter() - began
        assert not work.waits, work.waits[:3]
        ((planned,),) = ledger.rows("SELECT count(*) FROM invoice WHERE state = 'planned'")
        ledger.close()
        client.command(f"DROP DATABASE {DATABASE}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        f"planned: {planned:,} invoices of {customers * PRICES * HOURS:,} charges in {took:.0f} s,"
        f" {planned / took:,.0f} a second ({busy:.0f} s of CPU), {memory:.0f} MiB; a round without news takes"
        f" {again:.1f} s\n"
    )


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--send", type=int, default=500, help="customers to send")
    parser.add_argument("--plan", type=int, default=100_000, help="customers to plan")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        send(arguments.send, Path(folder))
        plan(arguments.plan, Path(folder))


if __name__ == "__main__":
    main()
