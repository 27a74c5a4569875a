"""The ledger read beside a sender: nothing is locked, nothing is made."""

from pathlib import Path

import pytest

from billing_sync.ledger import Ledger, LedgerReader
from billing_sync.planner import plan_invoice
from metering.errors import UserError
from tests.billing_sync.world import closed


def test_an_invoice_is_read_while_a_sender_holds_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    plan = plan_invoice(closed(), 0)
    ledger = Ledger(path)
    try:
        ledger.add_plan(plan)
        ledger.park("late", "2023-11", "wait for the sink")
        reader = LedgerReader(path)
        found = reader.entry(plan.id)
        assert found is not None
        assert (found.plan, found.state) == (plan, "planned")
        assert reader.parked("late", "2023-11") == "wait for the sink"
        assert reader.entry("inv_unknown") is None
    finally:
        ledger.close()


def test_a_ledger_that_is_not_there_is_empty_and_stays_away(tmp_path: Path) -> None:
    reader = LedgerReader(tmp_path / "ledger.sqlite3")
    assert (reader.entry("x"), reader.parked("a", "2023-11")) == (None, "")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_text("no database at all, and long enough to be read as one")
    with pytest.raises(UserError, match="cannot be read"):
        LedgerReader(tmp_path / "ledger.sqlite3").entry("x")
