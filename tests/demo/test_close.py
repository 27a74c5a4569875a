"""A quiet partition is closed by its owner's tick, and billing bills exactly what was closed."""

import time

import pytest

from billing_sync.books import ClickHouseBooks
from billing_sync.run import run_once
from metering.settings import Settings
from metering.sinks.client import connect
from tests.demo.world import running, send, wait_for
from tests.state.folding import CATALOG, START, event

PERIOD = time.strftime("%Y-%m", time.gmtime(START / 1000))


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_a_quiet_month_is_closed_and_billed_once(deployment: Settings) -> None:
    own = deployment.model_copy(update={"tick_idle_seconds": 1.0})
    with running(own, CATALOG):
        send(own, *(event(n, n=100) for n in range(12)))
        wait_for(lambda books: any(c.agrees for c in books.closes(PERIOD)), own)
        send(own, event(99, n=100))  # too late: the books closed years ago
        wait_for(lambda books: books.rejected_by_reason() == {"period_closed": 1}, own)
    first, second = run_once(own), run_once(own)
    assert [str(i.invoiced) for i in first.invoices] == ["96.00"]  # 1,200 × 0.08; 12 calls are carried
    assert (first.sent_now, second.sent_now, second.is_settled) == (1, 0, True)
    assert second.invoices == first.invoices


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_a_charge_that_was_changed_by_hand_is_not_billed(deployment: Settings) -> None:
    own = deployment.model_copy(update={"tick_idle_seconds": 1.0})
    with running(own, CATALOG):
        send(own, *(event(n, n=100) for n in range(3)))
        wait_for(lambda books: any(c.agrees for c in books.closes(PERIOD)), own)
    with connect(own.clickhouse(), own.database) as client:
        client.command(
            "INSERT INTO charges SELECT * REPLACE (amount + 1 AS amount, version + 1 AS version)"
            " FROM charges FINAL WHERE price = 'tokens'"
        )
        (found,) = ClickHouseBooks(client).closed_periods(PERIOD)
    assert "do not add up" in found.problem
    result = run_once(own)
    assert [(c, p) for c, p, _ in result.waiting] == [("a", PERIOD)]
    assert result.invoices == []
