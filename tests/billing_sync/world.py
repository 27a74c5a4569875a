"""A small world for the billing tests: books in memory, a ledger, the fake, a virtual clock."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from billing_sync.book_hours import BookPerson, HourTotal
from billing_sync.books import Close, ClosedPeriod, PriceTotal
from billing_sync.config import BillingConfig
from billing_sync.ledger import Ledger
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.round import Round
from billing_sync.run import RunResult, result_of
from billing_sync.stripe_fake.server import Fake, running


def closed(customer: str = "acme", period: str = "2023-11", *micro: int, **changes: Any) -> ClosedPeriod:
    amounts = micro or (1_234_567, 2_000_001)
    prices = tuple(PriceTotal(f"p{n}", "tokens", Decimal(n + 1), m) for n, m in enumerate(amounts))
    base = ClosedPeriod(customer, customer.title(), "", period, "USD", prices, sum(amounts), "")
    return base._replace(**changes)


class HourList:
    """Metered hours out of a list, bounded as they are asked for."""

    until = 0

    def all_hours(self) -> list[HourTotal]:
        return []

    def hours_until(self) -> int:
        return self.until

    def metered_customers(self, prices: Iterable[str], since: int, after: str, most: int) -> list[str]:
        found = {h.customer for h in self.all_hours() if h.hour >= since and h.customer > after}
        return sorted(found)[:most]

    def closed_hours(
        self, prices: Iterable[str], since: int, customers: Sequence[str]
    ) -> Iterable[HourTotal]:
        return sorted(h for h in self.all_hours() if h.hour >= since and h.customer in customers)

    def people(self, customers: Sequence[str]) -> Iterable[BookPerson]:
        return [BookPerson(customer, customer, "") for customer in customers]


class World(HourList):
    """Runs rounds of billing; a round can be cut off and started again."""

    def __init__(self, folder: Path, base: str, fake: Fake) -> None:
        self.folder = folder
        self.base = base
        self.fake = fake
        self.now = 1_700_000_000
        self.books: list[ClosedPeriod] = [closed()]

    def closes(self, period: str | None, customer: str = "") -> Iterable[Close]:
        return [Close(*b[:5], revision=b.revision) for b in self.books if period in (None, b.period)]

    def read(self, closes: Sequence[Close]) -> list[ClosedPeriod]:
        return [next(b for b in self.books if b[:5] == close[:5]) for close in closes]

    def provider(self) -> StripeProvider:
        return StripeProvider(FAKE_KEY, base=self.base)

    def round(self, provider: Any = None) -> RunResult:
        ledger = Ledger(self.folder / "ledger.sqlite3")
        try:
            used = provider or self.provider()
            config = BillingConfig(minimum={"USD": 0})
            work = Round(self, ledger, used, config=config, clock=lambda: self.now, sleep=lambda _: None)
            work.run()
            return result_of(work, ledger, used, None)
        finally:
            ledger.close()

    def fault(self, **fault: Any) -> None:
        requests.post(f"{self.base}/admin/faults", json=fault, timeout=5).raise_for_status()

    def invoices(self) -> list[dict[str, Any]]:
        return [i for i in self.fake.state.all("invoice") if i["status"] != "void"]

    def lines(self) -> list[dict[str, Any]]:
        return self.fake.state.all("line_item")


@contextmanager
def world(folder: Path) -> Iterator[World]:
    with running(folder / "fake.sqlite3") as (base, fake):
        made = World(folder, base, fake)
        fake.clock = lambda: float(made.now)
        yield made
