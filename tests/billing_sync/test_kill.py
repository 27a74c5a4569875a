"""SIGKILL at any moment of a round and a restart: each cent once."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from billing_sync.ledger import Ledger
from billing_sync.stripe_fake.server import running
from tests.billing_sync.victim import CUSTOMERS

ROOT = Path(__file__).parent.parent.parent
KILLS, DEADLINE = 8, 90.0


@pytest.mark.timeout(500)
def test_a_sender_that_is_killed_again_and_again_bills_each_cent_once(tmp_path: Path) -> None:
    path, chance, killed = tmp_path / "ledger.sqlite3", random.Random(5), 0
    with running(tmp_path / "fake.sqlite3") as (base, fake):
        command = [sys.executable, "-m", "tests.billing_sync.victim", str(path), base]
        for _ in range(KILLS):
            before = fake.requests
            with subprocess.Popen(command, cwd=ROOT) as process:
                target = before + chance.randrange(1, 25)  # killed somewhere in the middle of its requests
                deadline = time.monotonic() + DEADLINE
                while process.poll() is None and fake.requests < target:
                    assert time.monotonic() < deadline
                    time.sleep(0.001)
                killed += process.poll() is None
                process.kill()
        subprocess.run(command, cwd=ROOT, check=True, timeout=DEADLINE)
        invoices, people = fake.state.all("invoice"), fake.state.all("customer")
    assert killed > KILLS // 2
    assert [(i["status"], i["total"]) for i in invoices] == [("open", 323)] * CUSTOMERS
    assert len(people) == CUSTOMERS
    ledger = Ledger(path)
    states = {entry.state for entry in ledger.entries()}
    ledger.close()
    assert states == {"finalized"}
