"""A round reads what is new and every hour of a few customers: nothing is missed, little is read."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import pytest

from billing_sync import wanted_hours
from billing_sync.book_hours import HourTotal
from billing_sync.wanted_hours import AGAIN_SECONDS, LOOK_BACK_SECONDS
from tests.billing_sync.office import DAY, HOUR, METERED, Office

NAMES = ("a", "b", "c")
OLD = 20 * 24  # hours ago


class Metered(Office):
    """Some customers who use something every hour, and what was read of them."""

    def __init__(self) -> None:
        super().__init__(METERED)
        self.make_meter()
        self.used = {(name, self.now - OLD * HOUR): Decimal(1) for name in NAMES}
        self.asked: list[tuple[str, int]] = []
        self.until = self.now - HOUR

    def all_hours(self) -> list[HourTotal]:
        return [HourTotal(c, c, "", "metered", at, q) for (c, at), q in self.used.items() if at < self.until]

    def closed_hours(
        self, prices: Iterable[str], since: int, customers: Sequence[str]
    ) -> Iterable[HourTotal]:
        self.asked += [(customer, self.now - since) for customer in customers]
        return super().closed_hours(prices, since, customers)

    def pass_hours(self, hours: int) -> None:
        """Everybody goes on using something."""
        for _ in range(hours):
            self.used |= {(name, self.until): Decimal(1) for name in NAMES}
            self.now, self.until = self.now + HOUR, self.until + HOUR

    def held(self) -> dict[tuple[str, int], Decimal]:
        return {(h.customer, h.hour): Decimal(h.quantity) for h in self.ledger.hours()}


@pytest.fixture
def m(monkeypatch: pytest.MonkeyPatch) -> Metered:
    monkeypatch.setattr(wanted_hours, "AT_ONCE", 1)
    return Metered()


def test_the_first_round_plans_every_hour(m: Metered) -> None:
    m.pass_hours(3)
    m.work().run()
    assert m.held() == m.used
    assert {h.state for h in m.ledger.hours()} == {"delivered"}


def test_a_later_round_reads_the_last_hours_and_all_of_one_customer(m: Metered) -> None:
    m.work().run()
    m.pass_hours(2)
    m.asked.clear()
    m.work().run()
    assert m.held() == m.used
    reach = dict(m.asked)
    assert len(m.asked) == len(NAMES)
    assert sorted(reach.values()) == [3 * HOUR + AGAIN_SECONDS] * 2 + [LOOK_BACK_SECONDS]


def test_a_late_correction_of_an_old_hour_is_found_in_turn(m: Metered) -> None:
    m.work().run()
    old = m.now - OLD * HOUR
    m.used[("c", old)] = Decimal(7)
    for _ in NAMES:
        m.pass_hours(1)
        m.work().run()
    assert m.held()["c", old] == 7
    assert m.held() == m.used


def test_old_hours_of_a_customer_nobody_has_seen_are_found_in_turn(m: Metered) -> None:
    m.work().run()
    m.used[("late", m.now - OLD * HOUR)] = Decimal(3)
    for _ in (*NAMES, "late"):
        m.work().run()
    assert m.held() == m.used


def test_hours_that_arrive_after_their_watermark_are_read_again(m: Metered) -> None:
    m.work().run()
    m.pass_hours(2)
    missing = {("b", at): q for (who, at), q in m.used.items() if who == "b" and at > m.now - DAY}
    for place in missing:
        del m.used[place]
    m.work().run()
    m.used |= missing
    m.ledger.set_mark(wanted_hours.SEEN, "b")  # it is not b's turn
    m.work().run()
    assert m.held() == m.used


def test_a_restart_goes_on_where_the_ledger_says(m: Metered) -> None:
    m.work().plan()
    assert m.ledger.mark(wanted_hours.SEEN) == "a"
    assert int(m.ledger.mark(wanted_hours.UNTIL)) == m.until


def test_an_hour_that_waits_is_sent_although_nobody_read_it_again(m: Metered) -> None:
    m.work().plan()
    m.pass_hours(AGAIN_SECONDS // HOUR + 2)
    m.used = {}  # nothing of it is read any more
    m.work().run()
    assert {h.state for h in m.ledger.hours()} == {"delivered"}
