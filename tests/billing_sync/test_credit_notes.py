"""What a restatement takes off a final invoice: carried to the next one, or given back by a credit note."""

from typing import Any

import pytest

from billing_sync.config import BillingConfig
from billing_sync.currencies import unit_micro
from billing_sync.stripe_fake.errors import Lost
from tests.billing_sync.office import Office
from tests.billing_sync.world import closed

QUIET = 15 * 60


@pytest.fixture
def o() -> Office:
    office = Office(BillingConfig(credit_notes=True))
    office.books = [closed("acme", "2023-11", 1_234_567, 2_000_001)]
    office.work().run()
    return office


def restate(o: Office, revision: int, *micro: int) -> None:
    o.books = [closed("acme", "2023-11", *micro, revision=revision)]
    o.work().run()


def notes(o: Office) -> list[int]:
    return [note["total"] for note in o.objects("credit_note")]


def assert_conserved(o: Office, rated: int) -> None:
    """Invoiced - given back + carried = rated, to the micro-unit; and less than a unit waits."""
    kept = (sum(i["total"] for i in o.objects("invoice")) - sum(notes(o))) * unit_micro("USD")
    assert kept + o.ledger.carry("acme", "USD") == rated
    assert abs(o.ledger.carry("acme", "USD")) < unit_micro("USD")


def test_a_negative_difference_is_given_back_at_once(o: Office) -> None:
    restate(o, 1, 1_134_567, 2_000_001)
    assert notes(o) == [10]
    assert o.states() == ["finalized", "finalized"]
    assert_conserved(o, 3_134_568)


def test_the_rest_is_rounded_in_favour_of_the_customer(o: Office) -> None:
    restate(o, 1, 1_134_567, 1_990_000)  # 0.110001 less, 0.105433 with what was carried before
    assert notes(o) == [11]
    assert o.ledger.carry("acme", "USD") == 4_567
    assert_conserved(o, 3_124_567)


def test_less_than_a_unit_is_carried(o: Office) -> None:
    restate(o, 1, 1_230_000, 1_990_001)
    assert notes(o) == []
    restate(o, 2, 1_229_000, 1_990_001)
    assert notes(o) == [2]
    assert_conserved(o, 3_219_001)


def test_a_second_round_and_a_reconciliation_find_nothing_to_do(o: Office) -> None:
    restate(o, 1, 1_134_567, 2_000_001)
    posts = o.fake.posts
    o.work().run()
    assert (o.fake.posts, o.drift()) == (posts, [])


def test_more_than_the_invoice_came_to_is_carried(o: Office) -> None:
    restate(o, 1, 1_000_000)
    restate(o, 2, -5_000_000)
    assert notes(o) == [223]
    assert o.ledger.carry("acme", "USD") == -5_000_000 - 1_000_000


def test_without_the_setting_it_is_carried(o: Office) -> None:
    o.config = BillingConfig()
    restate(o, 1, 1_134_567, 2_000_001)
    assert (notes(o), o.ledger.carry("acme", "USD")) == ([], 4_568 - 100_000)


def test_a_paid_invoice_gives_back_to_the_balance(o: Office) -> None:
    (invoice,) = o.objects("invoice")
    o.fake.invoices.pay(invoice["id"])
    restate(o, 1, 1_134_567, 2_000_001)
    assert (notes(o), o.objects("customer")[0]["balance"]) == ([10], -10)


def test_a_voided_invoice_is_a_block_with_its_reason(o: Office) -> None:
    (invoice,) = o.objects("invoice")
    o.fake.invoices.void(invoice["id"])
    restate(o, 1, 1_134_567, 2_000_001)
    (blocked,) = o.ledger.entries_in("blocked")
    assert "open or paid invoice" in blocked.reason


@pytest.mark.parametrize("fault", [{"kind": "drop"}, {"kind": "status", "status": 500}])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_gives_back_once(o: Office, fault: dict[str, Any], when: str) -> None:
    o.fake.faults.add({**fault, "when": when})
    restate(o, 1, 1_134_567, 2_000_001)
    o.now += QUIET
    o.work().run()
    assert notes(o) == [10]
    assert o.states() == ["finalized", "finalized"]


def test_a_credit_note_that_is_gone_is_found(o: Office) -> None:
    restate(o, 1, 1_134_567, 2_000_001)
    (note,) = o.objects("credit_note")
    o.fake.state.put({**note, "status": "void"})
    assert o.drift() == [("invoice", "missing")]
    assert o.repair() == 0


@pytest.mark.parametrize(("account", "file"), [("pending", True), ("active", None)])
def test_where_invoices_have_tax_it_is_carried_and_taxed_with_the_next(
    o: Office, account: str, file: bool | None
) -> None:
    o.fake.invoices.tax_status = account
    o.config = BillingConfig(credit_notes=True, automatic_tax=file)
    restate(o, 1, 1_134_567, 2_000_001)
    assert (notes(o), o.ledger.carry("acme", "USD")) == ([], 4_568 - 100_000)


def test_tax_settings_that_do_not_answer_give_nothing_back_at_once(
    o: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise Lost("no answer")

    monkeypatch.setattr(o.fake.invoices, "tax_settings", lost)
    o.config = BillingConfig(credit_notes=True)
    restate(o, 1, 1_134_567, 2_000_001)
    assert (notes(o), o.ledger.carry("acme", "USD")) == ([], 4_568 - 100_000)
