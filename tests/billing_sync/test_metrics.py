"""What `billing-sync run` says of itself: the ledger's standing, rounds, and no customer in any label."""

import time
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from billing_sync import cli
from billing_sync.ledger import Ledger
from billing_sync.metrics import NOTHING, Metrics, Standing, standing_of
from billing_sync.planner import plan_invoice
from billing_sync.run import Checks
from metering.errors import UserError
from metering.local.process import free_port
from metering.settings import Settings
from tests.billing_sync.world import closed

NOW = 1_700_000_000


def test_an_empty_ledger_waits_for_nothing(ledger: Ledger) -> None:
    assert standing_of(ledger) == NOTHING


def test_what_waits_is_told_with_the_oldest_moment(ledger: Ledger) -> None:
    for number, customer in enumerate(("acme", "beta", "zeta")):
        ledger.add_plan(plan_invoice(closed(customer), 0), NOW + number)
    ledger.set_state(ledger.entries()[0].plan.id, "finalized", now=NOW - 900)  # done, however old
    ledger.park("acme", "2023-12", "no customer", NOW + 50)
    ledger.park("beta", "2023-12", "no customer", NOW + 40)
    found = standing_of(ledger)
    assert found == Standing({"finalized": 1, "planned": 2}, NOW + 1, 2, NOW + 40)


def shown(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def test_a_round_is_told(ledger: Ledger) -> None:
    metrics = Metrics()
    metrics.done(Standing({"planned": 2, "unknown": 1}, NOW, 1, NOW + 1), 3, seconds=0.3, at=NOW + 9)
    metrics.done(Standing({"finalized": 3}, 0, 0, 0), 0, seconds=0.3, at=NOW + 70)
    metrics.failed()
    found = shown(metrics)
    assert found["metering_billing_invoices", "finalized"] == 3
    assert ("metering_billing_invoices", "planned") not in found
    assert found["metering_billing_rounds_total", "done"] == 2
    assert found["metering_billing_rounds_total", "failed"] == 1
    assert found["metering_billing_last_round_timestamp_seconds", ""] == NOW + 70
    assert found["metering_billing_oldest_unsent_timestamp_seconds", ""] == 0
    assert found["metering_billing_round_seconds_count", ""] == 2


def test_a_round_that_fails_is_counted_and_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise UserError("ClickHouse does not answer", hint="wait")

    monkeypatch.setattr(cli, "run_once", away)
    metrics = Metrics()
    cli._one_of_many("", Checks(1), metrics, live=False, as_json=False)
    found = shown(metrics)
    assert found["metering_billing_rounds_total", "failed"] == 1
    assert found["metering_billing_last_round_timestamp_seconds", ""] == 0


def test_it_answers_on_the_port_of_the_settings_and_names_nobody() -> None:
    port, metrics = free_port(), Metrics()
    metrics.serve(Settings(metrics_port=port))
    metrics.done(Standing({"planned": 1}, NOW, 1, NOW), 0, seconds=1, at=time.time())
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    assert {label for f in families for s in f.samples for label in s.labels} <= {"outcome", "state", "le"}
    with pytest.raises(UserError, match=str(port)):
        Metrics().serve(Settings(metrics_port=port))


def test_nothing_is_served_unless_a_port_is_set() -> None:
    Metrics().serve(Settings(metrics_port=0))
