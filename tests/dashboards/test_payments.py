"""What the provider told of an invoice goes from the ledger to ClickHouse, and the newest word counts."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from billing_sync.export import export_invoices
from billing_sync.ledger import MEMORY, Ledger
from billing_sync.planner import plan_invoice
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from tests.billing_sync.world import closed

NOW = 1_700_000_000
SHOWN = "SELECT state, invoiced, payment, payment_told FROM billing_invoices_current"


@pytest.fixture
def client(local_parts: Settings) -> Iterator[Any]:
    migrate(local_parts.clickhouse(), "boards_payments")
    with connect(local_parts.clickhouse(), "boards_payments") as client:
        client.command("TRUNCATE TABLE billing_invoices")
        yield client


@pytest.mark.parts
def test_the_newest_word_on_a_payment_is_shown(client: Any) -> None:
    ledger = Ledger(MEMORY)
    plan = plan_invoice(closed(), 0)
    ledger.add_plan(plan, NOW)
    export_invoices(client, ledger.entries())
    assert [row[0::2] for row in client.query(SHOWN).result_rows] == [("planned", "")]
    ledger.set_state(plan.id, "finalized", now=NOW + 1)
    for number, word in enumerate(("open", "failed", "paid"), 2):
        ledger.set_status(plan.id, word, NOW + number)
        export_invoices(client, ledger.entries(since=NOW + number))  # as a round does: what is new
        (row,) = client.query(SHOWN).result_rows
        assert row == ("finalized", Decimal("3.23"), word, datetime.fromtimestamp(NOW + number, UTC))
    ledger.close()
