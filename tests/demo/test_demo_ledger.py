"""A demo that is started again bills nothing twice at a provider that keeps its invoices."""

from collections.abc import Callable
from pathlib import Path

import pytest

from billing_sync.config import load_config
from billing_sync.ledger import ledger_url
from billing_sync.stripe_fake.server import Fake
from billing_sync.stripe_fake.server import running as stripe_running
from metering.demo.billing import KEPT, sync, with_billing, write_billing_file
from metering.demo.run import _clean, _own_settings
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from tests.bench.bench_billing import fill

PERIOD, CUSTOMERS = "2023-11", 3
TWO_DAYS = 2 * 86_400  # no idempotency key lives that long


@pytest.fixture
def start(local_parts: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Settings]:
    """Starts a demo whose month is closed already, as `make demo` does: with a folder that is empty."""
    monkeypatch.setenv("METERING_LEDGER_URL", f"sqlite:///{tmp_path / 'theirs' / 'ledger.sqlite3'}")
    monkeypatch.setenv("METERING_BILLING_FILE", str(tmp_path / "their_billing.yaml"))
    parts = {"kafka_brokers": local_parts.brokers(), "clickhouse_url": local_parts.clickhouse()}
    deployment = Settings(home=tmp_path).model_copy(update=parts)

    def begin() -> Settings:
        own = _own_settings(deployment)
        _clean(own)
        migrate(own.clickhouse(), own.database)
        with connect(own.clickhouse(), own.database) as client:
            fill(client, CUSTOMERS)
        result = sync(own, PERIOD, print)
        assert [i.state for i in result.invoices] == ["finalized"] * CUSTOMERS
        return own

    return begin


def held(fake: Fake) -> tuple[int, int]:
    return len(fake.state.all("invoice")), len(fake.state.all("customer"))


@pytest.mark.parts
def test_a_second_start_bills_nothing_again(
    start: Callable[[], Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stripe_running(tmp_path / "stripe.sqlite3") as (base, fake):
        monkeypatch.setenv("STRIPE_API_BASE", base)
        start()
        before, real = held(fake), fake.clock
        fake.clock = lambda: real() + TWO_DAYS
        start()
        assert held(fake) == before == (CUSTOMERS, CUSTOMERS)


@pytest.mark.parts
def test_with_a_fake_of_its_own_the_demo_starts_afresh(start: Callable[[], Settings], tmp_path: Path) -> None:
    for _ in range(2):
        own = start()
        assert ledger_url(own) == f"sqlite:///{tmp_path / 'demo' / 'billing' / 'ledger.sqlite3'}"
    assert not (tmp_path / "theirs").exists()  # the deployment's own ledger is left alone


def test_a_test_account_needs_one_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_somebody")
    monkeypatch.delenv("STRIPE_API_BASE", raising=False)
    own = with_billing(Settings(home=tmp_path / "demo"), tmp_path)
    assert ledger_url(own) == f"sqlite:///{tmp_path / KEPT / 'stripe' / 'ledger.sqlite3'}"
    own.home.mkdir()
    write_billing_file(own)
    found = load_config(own)
    assert (found.create_customers, found.automatic_tax) == (True, False)
