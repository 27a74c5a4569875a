"""Books in memory, a ledger in memory and the fake in this process: everything under one clock."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from billing_sync.book_hours import HourTotal
from billing_sync.books import Close, ClosedPeriod
from billing_sync.config import BillingConfig, MeterRule
from billing_sync.currencies import unit_micro
from billing_sync.ledger import MEMORY, Ledger
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.reconcile import Reconciler, Scope
from billing_sync.round import Round
from billing_sync.stripe_fake.core import Fake
from tests.billing_sync.world import HourList

HOUR, DAY = 3_600, 86_400
METERED = BillingConfig(meter_events=(MeterRule(price="metered", event_name="metered"),))


class Office(HourList):
    """Books, a ledger, the fake in this process and a reconciler."""

    def __init__(self, config: BillingConfig | None = None) -> None:
        self.now = 1_700_000_000 // HOUR * HOUR
        self.fake = Fake(None, lambda: float(self.now))
        self.ledger = Ledger(MEMORY)
        self.config = config or BillingConfig()
        self.may_create = True
        self.spread_seconds = 0
        self.books: list[ClosedPeriod] = []
        self.hours: dict[int, Decimal] = {}

    def closes(self, period: str | None, customer: str = "") -> list[Close]:
        return [Close(*b[:5], revision=b.revision) for b in self.books]

    def read(self, closes: Sequence[Close]) -> list[ClosedPeriod]:
        return [next(b for b in self.books if b[:5] == close[:5]) for close in closes]

    def all_hours(self) -> list[HourTotal]:
        return [HourTotal("acme", "Acme", "", "metered", at, q) for at, q in sorted(self.hours.items())]

    def billing(self) -> BillingConfig:
        """Small amounts are invoiced here unless a test says a minimum."""
        if self.config.minimum:
            return self.config
        return self.config.model_copy(update={"minimum": {"USD": 0}})

    def work(self) -> Round:
        provider = StripeProvider(FAKE_KEY, fake=self.fake, tax_of=self.config.tax_of)
        return Round(
            self,
            self.ledger,
            provider,
            config=self.billing(),
            may_create=self.may_create,
            clock=lambda: self.now,
            sleep=lambda _: None,
            spread_seconds=self.spread_seconds,
        )

    def reconciler(self) -> Reconciler:
        provider = StripeProvider(FAKE_KEY, fake=self.fake)
        exchange = self.work().exchange
        return Reconciler(self, self.ledger, provider, exchange, config=self.config, clock=lambda: self.now)

    def drift(self, scope: Scope | None = None) -> list[tuple[str, str]]:
        return [(f.kind, f.verdict) for f in self.reconciler().check(scope) if f.is_drift]

    def repair(self) -> int:
        reconciler = self.reconciler()
        return reconciler.repair(reconciler.check())

    def objects(self, kind: str) -> list[dict[str, Any]]:
        return self.fake.state.all(kind)

    def billed_micro(self) -> int:
        return sum(i["total"] for i in self.objects("invoice")) * unit_micro("USD")

    def make_meter(self, window: str | None = "hour") -> str:
        params = {
            "display_name": "m",
            "event_name": "metered",
            "default_aggregation": {"formula": "sum"},
            "event_time_window": window,
        }
        return str(self.fake.meters.create(params)["id"])

    def states(self) -> list[str]:
        return [entry.state for entry in self.ledger.entries()]
