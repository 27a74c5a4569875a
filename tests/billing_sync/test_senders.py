"""Several senders on one ledger: a customer has one sender at a time, and each cent is billed once."""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from billing_sync.books import Close, ClosedPeriod
from billing_sync.ledger import CLAIM_SECONDS, ClaimLost, Ledger
from billing_sync.planner import plan_invoice
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.round import Round
from billing_sync.stripe_fake.core import Fake
from billing_sync.stripe_fake.server import running
from metering.errors import UserError
from tests.billing_sync.conftest import KINDS
from tests.billing_sync.world import HourList, closed

NOW = 1_700_000_000
SHARED = [kind for kind in KINDS if kind != "sqlite"]
SENDERS, CUSTOMERS = 3, 12


def test_a_sqlite_ledger_takes_one_sender(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger.sqlite3")
    with pytest.raises(UserError, match="another billing sync") as found:
        Ledger(tmp_path / "ledger.sqlite3")
    assert "PostgreSQL" in found.value.hint
    first.close()


@pytest.mark.parametrize("place", SHARED, indirect=True)
def test_a_customer_is_claimed_by_one(place: str) -> None:
    first, second = Ledger(place, "one"), Ledger(place, "two")
    assert first.claim("acme", NOW)
    assert not second.claim("acme", NOW + CLAIM_SECONDS - 1)
    assert second.claim("other", NOW)
    first.release("acme")
    assert second.claim("acme", NOW)
    first.close()
    second.close()


@pytest.mark.parametrize("place", SHARED, indirect=True)
def test_a_sender_that_was_away_too_long_cannot_send(place: str) -> None:
    first, second = Ledger(place, "one"), Ledger(place, "two")
    assert first.claim("acme", NOW)
    assert second.claim("acme", NOW + CLAIM_SECONDS)
    with pytest.raises(ClaimLost):
        first.intend("r", 0, "p", NOW + CLAIM_SECONDS, "acme")
    assert first.request("r") is None
    first.close()
    second.close()


class Books(HourList):
    """A month of some customers."""

    def __init__(self) -> None:
        self.periods = [closed(f"c{n}") for n in range(CUSTOMERS)]

    def closes(self, period: str | None, customer: str = "") -> Iterable[Close]:
        return [Close(*one[:5]) for one in self.periods]

    def read(self, closes: Sequence[Close]) -> list[ClosedPeriod]:
        return [next(one for one in self.periods if one[:5] == close[:5]) for close in closes]


class Overtaken(Books):
    """Books that are read while another sender plans one of their customers."""

    def __init__(self, other: Ledger) -> None:
        super().__init__()
        self._other = other

    def read(self, closes: Sequence[Close]) -> list[ClosedPeriod]:
        if self._other.entry(PLANNED.id) is None:
            self._other.add_plan(PLANNED, NOW)
        return super().read(closes)


PLANNED = plan_invoice(closed("c3"), 0)


@pytest.mark.parametrize("place", SHARED, indirect=True)
def test_what_another_sender_planned_meanwhile_is_not_planned_twice(place: str) -> None:
    first, second = Ledger(place, "one"), Ledger(place, "two")
    Round(Overtaken(second), first, StripeProvider(FAKE_KEY, fake=Fake()), clock=lambda: NOW).plan()
    assert len(first.entries()) == CUSTOMERS
    assert first.carry("c3", "USD") == PLANNED.carry_out
    first.close()
    second.close()


@pytest.mark.parametrize("place", SHARED, indirect=True)
def test_senders_at_once_bill_each_customer_once(place: str, tmp_path: Path) -> None:
    with running(tmp_path / "fake.sqlite3") as (base, fake):
        errors: list[Exception] = []

        def work(name: str) -> None:
            ledger = Ledger(place, name)
            try:
                Round(Books(), ledger, StripeProvider(FAKE_KEY, base=base)).run()
            except Exception as error:
                errors.append(error)
            finally:
                ledger.close()

        threads = [threading.Thread(target=work, args=(f"s{n}",)) for n in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        work("last")  # what one planned while another looked away
        invoices, people = fake.state.all("invoice"), fake.state.all("customer")
    assert errors == []
    assert [(i["status"], i["total"]) for i in invoices] == [("open", 323)] * CUSTOMERS
    assert len(people) == CUSTOMERS
