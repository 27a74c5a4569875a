"""Usage late beyond the close through the real pipeline: an adjustment, and an audit that agrees."""

import asyncio
import time
from decimal import Decimal

import pytest

from metering.audit import run_audit
from metering.producer import UsageProducer
from metering.settings import Settings
from metering.sinks.client import connect
from metering.state.calendar import HOUR_MS, period_end
from metering.topics import Names
from tests.demo.world import running, send, wait_for
from tests.state.folding import CATALOG, event


def close(settings: Settings) -> None:
    """Let the time of November pass, and a day and an hour more."""

    async def work() -> None:
        until = period_end("2023-11") + 25 * HOUR_MS
        async with UsageProducer(settings.brokers(), Names(settings).events) as producer:
            await producer.tick(settings.partitions, idle_ms=time.time_ns() // 1_000_000 - until)

    asyncio.run(work())


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_late_usage_of_a_closed_period_is_adjusted_and_audited(deployment: Settings) -> None:
    with running(deployment, CATALOG):
        send(deployment, event(1, n=600), event(2, hour=1, n=300))
        wait_for(lambda books: books.charge_rows("2023-11") == 4, deployment)
        close(deployment)
        wait_for(lambda books: any(c.agrees for c in books.closes("2023-11")), deployment)
        send(deployment, event(3, n=200))
        wait_for(lambda books: books.charge_rows("2023-12") == 2, deployment)
    with connect(deployment.clickhouse(), deployment.database) as client:
        rows = client.query("SELECT price, corrects, amount FROM charges_current WHERE corrects != ''")
        found = {price: amount for price, _, amount in rows.result_rows}
        assert found["tokens@2023-11"] == Decimal("-2")  # 1,100 × 0.08 less 900 × 0.10
        assert run_audit(client).differences == []
        changed = "UPDATE amount = amount + 1 WHERE corrects != '' SETTINGS mutations_sync = 2"
        client.command(f"ALTER TABLE charges {changed}")
        assert "charge" in {d.check for d in run_audit(client).differences}
