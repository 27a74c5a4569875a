"""`kill -9` anywhere during the sync of `make demo`, and a restart: each cent is billed once."""

import os
import signal
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from billing_sync.ledger import LedgerReader
from billing_sync.stripe_fake.state import State
from metering.demo.billing import FAKE_STATE, PID_FILE
from metering.demo.run import run_demo
from metering.settings import Settings

ROOT = Path(__file__).parent.parent.parent
KILLS = 6
DEADLINE = 900.0


class Killer(threading.Thread):
    """Kills the sync each time it has written a little more, until it was killed often enough."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self._home = home
        self.killed_at: list[int] = []

    def run(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while len(self.killed_at) < KILLS and time.monotonic() < deadline:
            written = self._written()
            if written > (self.killed_at[-1] if self.killed_at else 0):
                with suppress(FileNotFoundError, ProcessLookupError, ValueError):
                    os.kill(int((self._home / "run" / PID_FILE).read_text()), signal.SIGKILL)
                    self.killed_at.append(written)
            time.sleep(0.002)

    def _written(self) -> int:
        """How many writing requests the fake has answered."""
        path = self._home / "billing" / FAKE_STATE
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
        ):
            return int(db.execute("SELECT count(*) FROM answer").fetchone()[0])
        return 0


@pytest.mark.parts
@pytest.mark.timeout(1_200)
@pytest.mark.slow
def test_a_demo_whose_sync_is_killed_bills_each_cent_once(
    local_parts: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    own = local_parts.model_copy(update={"home": tmp_path, "kafka_brokers": local_parts.brokers()})
    killer = Killer(tmp_path / "demo")
    killer.start()
    code = run_demo(own.model_copy(update={"clickhouse_url": local_parts.clickhouse()}))
    killer.join(5)
    assert len(killer.killed_at) == KILLS, "nothing was killed: the test proves nothing"
    assert code == 0
    plans = LedgerReader(tmp_path / "demo" / "billing" / "ledger.sqlite3").standing().plans
    held = State(tmp_path / "demo" / "billing" / FAKE_STATE)
    invoices = {i["metadata"]["um_invoice"]: i for i in held.all("invoice")}
    assert len(held.all("invoice")) == len(invoices) == len(plans)
    for plan in plans:
        lines = held.all("line_item", invoices[plan.id]["id"])
        assert invoices[plan.id]["status"] in ("open", "paid")
        assert sorted(line["amount"] for line in lines) == sorted(line.minor for line in plan.lines)
        assert invoices[plan.id]["total"] == plan.minor
    accounts = [c["metadata"]["um_customer"] for c in held.all("customer")]
    held.close()
    assert sorted(accounts) == sorted({plan.customer for plan in plans})
