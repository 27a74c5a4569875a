"""Invoices as files, through the same ledger and the same rules."""

import csv
import json
from pathlib import Path

import pytest

from billing_sync.ledger import MEMORY, Ledger
from billing_sync.planner import plan_invoice
from billing_sync.port import Rejected
from billing_sync.providers.files import FileProvider
from billing_sync.round import Round
from tests.billing_sync.office import Office
from tests.billing_sync.world import closed


def bill(folder: Path, *periods: object) -> Ledger:
    office, ledger = Office(), Ledger(MEMORY)
    office.books = list(periods)  # type: ignore[arg-type]  # closed periods
    work = Round(office, ledger, FileProvider(folder), clock=lambda: office.now, sleep=lambda _: None)
    work.run()
    work.run()
    return ledger


def test_an_invoice_is_a_json_and_a_csv_that_add_up(tmp_path: Path) -> None:
    ledger = bill(tmp_path, closed())
    (found,) = (tmp_path / "invoices").glob("*.json")
    invoice = json.loads(found.read_text())
    assert (invoice["status"], invoice["customer"]) == ("open", "acme")
    assert [(line["minor"], line["amount"]) for line in invoice["lines"]] == [(123, "1.23"), (200, "2.00")]
    rows = list(csv.DictReader(found.with_suffix(".csv").open()))
    assert [row["amount"] for row in rows] == ["1.23", "2.00"]
    assert [e.state for e in ledger.entries()] == ["finalized"]
    assert list((tmp_path / "drafts").iterdir()) == []


def test_a_text_that_a_spreadsheet_would_run_stays_a_text(tmp_path: Path) -> None:
    bill(tmp_path, closed("=SUM(A1)"))
    (found,) = (tmp_path / "invoices").glob("*.csv")
    assert "'=SUM(A1)" in found.read_text()


def test_customers_whose_names_look_alike_have_files_of_their_own(tmp_path: Path) -> None:
    bill(tmp_path, closed("a/b"), closed("a?b"), closed("../../etc"))
    assert len(list((tmp_path / "invoices").glob("*.json"))) == 3


def test_lines_added_twice_are_there_once(tmp_path: Path) -> None:
    provider, plan = FileProvider(tmp_path), plan_invoice(closed(), 0)
    draft = provider.create_draft("acme", plan, "k")
    for _ in range(2):
        provider.add_lines(draft, plan, plan.lines, "k")
        assert provider.create_draft("acme", plan, "k") == draft
    assert len(provider.lines(draft)) == 2
    for _ in range(2):
        assert provider.finalize(draft, "k").total == 323
    with pytest.raises(Rejected, match="no draft"):
        provider.add_lines(draft, plan, plan.lines, "k")


def test_a_death_between_the_files_is_mended(tmp_path: Path) -> None:
    provider, plan = FileProvider(tmp_path), plan_invoice(closed(), 0)
    draft = provider.create_draft("acme", plan, "k")
    provider.add_lines(draft, plan, plan.lines, "k")
    held = (tmp_path / "drafts" / f"{draft}.json").read_text()
    provider.finalize(draft, "k")
    (tmp_path / "drafts" / f"{draft}.json").write_text(held)  # as if it had died before removing it
    assert FileProvider(tmp_path).finalize(draft, "k").status == "open"
    assert list((tmp_path / "drafts").iterdir()) == []
