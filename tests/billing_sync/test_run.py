"""Rounds of billing through the real SDK: each cent once, whatever is lost on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from billing_sync.exchange import QUIET_SECONDS
from billing_sync.ledger import Ledger
from billing_sync.providers.stripe import StripeProvider
from metering.errors import UserError
from tests.billing_sync.world import World, closed, world

REQUESTS = 4  # a round for one customer writes: customer, draft, lines, finalize
DAY = 86_400


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def assert_billed_once(w: World) -> None:
    (invoice,) = w.invoices()
    assert (invoice["status"], invoice["total"]) == ("open", 323)
    assert sorted(line["amount"] for line in w.lines()) == [123, 200]


def test_a_closed_period_becomes_one_invoice_with_a_line_per_price(w: World) -> None:
    result = w.round()
    assert_billed_once(w)
    assert result.is_settled


def test_a_second_round_sends_nothing(w: World) -> None:
    w.round()
    posts = w.fake.posts
    result = w.round()
    assert (w.fake.posts, result.sent_now) == (posts, 0)


def test_what_is_less_than_a_cent_goes_to_the_next_invoice(w: World) -> None:
    w.round()
    w.books.append(closed("acme", "2023-12", 5_500))
    result = w.round()
    last = next(i for i in result.invoices if i.period == "2023-12")
    assert f"{last.carried_before:.6f} {last.invoiced} {last.carried_after:.6f}" == "0.004568 0.01 0.000068"


def test_a_negative_period_is_carried_and_not_invoiced(w: World) -> None:
    w.books = [closed("acme", "2023-11", -40_000)]
    (invoice,) = w.round().invoices
    assert (invoice.state, w.invoices()) == ("carried", [])


def test_charges_that_do_not_match_the_close_wait_with_their_reason(w: World) -> None:
    w.books = [closed(problem="2 of 3 charges have arrived"), closed("other")]
    result = w.round()
    assert result.waiting == [("acme", "2023-11", "2 of 3 charges have arrived")]
    assert len(w.invoices()) == 1


def test_what_waited_is_billed_once_it_matches(w: World) -> None:
    w.books = [closed(problem="not yet")]
    w.round()
    w.books = [closed()]
    w.round()
    assert_billed_once(w)


@pytest.mark.parametrize("skip", range(REQUESTS))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_is_harmless(w: World, when: str, skip: int) -> None:
    w.fault(kind="drop", when=when, skip=skip)
    w.round()
    assert_billed_once(w)


@pytest.mark.parametrize("skip", range(REQUESTS))
def test_too_many_requests_are_waited_out(w: World, skip: int) -> None:
    w.fault(kind="status", status=429, skip=skip, count=3)
    w.round()
    assert_billed_once(w)


@pytest.mark.parametrize("skip", range(REQUESTS))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stored_failure_is_looked_up_after_the_quiet_time(w: World, when: str, skip: int) -> None:
    w.fault(kind="status", status=500, when=when, skip=skip)
    assert w.round().invoices[0].state == "unknown"
    w.now += QUIET_SECONDS
    w.round()
    assert_billed_once(w)


def test_a_stored_failure_is_not_tried_again_within_the_quiet_time(w: World) -> None:
    w.fault(kind="status", status=500, when="after", skip=1)
    w.round()
    posts = w.fake.posts
    w.now += QUIET_SECONDS - 1
    w.round()
    assert w.fake.posts == posts


class Crash(BaseException):
    """The process dies."""


class Dying:
    """A provider whose process dies before or after its n-th writing call."""

    def __init__(self, inner: StripeProvider, at: int, *, after: bool) -> None:
        self._inner, self._left, self._after = inner, at, after

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        if name not in ("create_customer", "create_draft", "add_lines", "finalize"):
            return inner

        def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == -1 and not self._after:
                raise Crash
            done = inner(*arguments)
            if self._left == -1:
                raise Crash
            return done

        return call


@pytest.mark.parametrize("at", range(REQUESTS))
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("pause", [0, 3 * DAY])
def test_a_crash_around_any_request_bills_once(w: World, at: int, after: bool, pause: int) -> None:
    with pytest.raises(Crash):
        w.round(Dying(w.provider(), at, after=after))
    w.now += pause  # beyond a day the idempotency keys are gone
    w.round()
    assert_billed_once(w)


def test_a_line_that_somebody_added_blocks_the_invoice(w: World) -> None:
    with pytest.raises(Crash):
        w.round(Dying(w.provider(), 2, after=True))
    (draft,) = w.invoices()
    w.fake.invoices.add_lines(draft["id"], {"lines": [{"amount": "5"}]})
    (invoice,) = w.round().invoices
    assert invoice.state == "blocked"
    assert w.invoices()[0]["status"] == "draft"


def test_a_refused_key_stops_the_round_with_what_to_do(w: World) -> None:
    with pytest.raises(UserError, match="refuses our key"):
        w.round(StripeProvider("sk_wrong", base=w.base))
    w.round()
    assert_billed_once(w)


@pytest.mark.parametrize("key", ["sk_live_x", "rk_live_x"])
def test_a_live_key_is_refused_unless_it_is_asked_for(key: str) -> None:
    with pytest.raises(UserError, match="live"):
        StripeProvider(key)
    assert "live" in StripeProvider(key, live=True).name


def test_two_senders_cannot_share_a_ledger(w: World) -> None:
    ledger = Ledger(w.folder / "ledger.sqlite3")
    with pytest.raises(UserError, match="another billing sync"):
        w.round()
    ledger.close()


def test_many_lines_are_sent_in_batches_and_read_back_in_pages(w: World) -> None:
    w.books = [closed("acme", "2023-11", *[10_000] * 240)]
    w.round()
    assert w.invoices()[0]["total"] == 240
    assert len(w.lines()) == 240


def restated(revision: int, *micro: int) -> Any:
    return closed("acme", "2023-11", *micro, revision=revision)


def test_a_restated_period_is_invoiced_by_its_difference_once(w: World) -> None:
    w.round()
    w.books = [restated(1, 1_334_567, 2_000_001)]
    w.round()
    posts = w.fake.posts
    w.round()
    first, second = sorted(w.invoices(), key=lambda invoice: -invoice["total"])
    assert (first["total"], second["total"], w.fake.posts) == (323, 10, posts)
    (line,) = [x for x in w.lines() if "restated" in x["description"]]
    assert line["description"] == "2023-11 restated (revision 1): 3.334568 instead of 3.234568"


def test_a_restatement_in_favour_of_the_customer_lowers_the_next_invoice(w: World) -> None:
    w.round()
    w.books = [restated(1, 1_134_567, 2_000_001), closed("acme", "2023-12", 1_000_000)]
    w.round()
    assert sorted(invoice["total"] for invoice in w.invoices()) == [90, 323]


def test_every_restatement_is_invoiced_from_where_the_last_one_left(w: World) -> None:
    w.round()
    for revision, first in ((1, 1_334_567), (3, 1_434_567)):  # the second one was never seen
        w.books = [restated(revision, first, 2_000_001)]
        w.round()
    assert sorted(invoice["total"] for invoice in w.invoices()) == [10, 10, 323]


def test_a_period_restated_before_it_was_invoiced_has_one_invoice(w: World) -> None:
    w.books = [restated(2)]
    w.round()
    w.round()
    assert_billed_once(w)


def test_a_restatement_that_changes_no_amount_is_not_invoiced(w: World) -> None:
    w.round()
    w.books = [restated(1)]
    assert w.round().sent_now == 0
    assert_billed_once(w)


def test_a_restatement_waits_until_its_charges_are_here(w: World) -> None:
    w.round()
    w.books = [restated(1, 1_334_567, 2_000_001)._replace(problem="1 of 2 charges have arrived")]
    assert w.round().waiting == [("acme", "2023-11", "1 of 2 charges have arrived")]
    assert_billed_once(w)


@pytest.mark.parametrize("skip", range(REQUESTS - 1))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_does_not_bill_a_restatement_twice(w: World, when: str, skip: int) -> None:
    w.round()
    w.books = [restated(1, 1_334_567, 2_000_001)]
    w.fault(kind="drop", when=when, skip=skip)
    w.round()
    w.round()
    assert sorted(invoice["total"] for invoice in w.invoices()) == [10, 323]
