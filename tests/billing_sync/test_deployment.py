"""Billing over real books: metered hours, an outage of years, reconcile, and the dashboards' tables."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from billing_sync import cli
from billing_sync.books import ClickHouseBooks
from billing_sync.reconcile import Scope
from billing_sync.run import open_ledger, reconcile, run_once
from billing_sync.stripe_fake.server import running as stripe_running
from metering.settings import Settings
from metering.sinks.client import connect
from tests.demo.world import running, send, wait_for
from tests.state.folding import CATALOG, START, event

PERIOD = time.strftime("%Y-%m", time.gmtime(START / 1000))
FILE = "meter_events: [{price: tokens, event_name: tokens}]"


@pytest.mark.parts
@pytest.mark.timeout(240)
def test_metered_hours_that_are_too_old_become_a_line(
    deployment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "billing.yaml"
    file.write_text(FILE)
    own = deployment.model_copy(update={"tick_idle_seconds": 1.0, "billing_file": file})
    with running(own, CATALOG):
        send(own, *(event(n, n=100) for n in range(12)))
        wait_for(lambda books: any(c.agrees for c in books.closes(PERIOD)), own)
        wait_for(lambda books: max(books.watermarks().values()) > START + 86_400_000, own)  # reported
    monkeypatch.setattr(cli, "settings", lambda: own)
    with stripe_running(tmp_path / "fake.sqlite3") as (base, fake):
        monkeypatch.setenv("STRIPE_API_BASE", base)
        params = {"display_name": "t", "event_name": "tokens", "default_aggregation": {"formula": "sum"}}
        fake.meters.create({**params, "event_time_window": "hour"})
        shown = json.loads(CliRunner().invoke(cli.app, ["plan", "--json"]).output)
        assert [row["state"] for row in shown] == ["1 hours are not at the meter yet"]
        run_once(own)  # the hours are put aside first, the period waits for them
        result = run_once(own)
        assert [str(i.invoiced) for i in result.invoices] == ["96.00"]
        (line,) = [i for i in fake.state.all("line_item") if "tokens" in i["description"]]
        assert line["metadata"]["um_tiers"] == "1 hours too old for the meter"
        found, _ = reconcile(own, Scope())
        assert {f.verdict for f in found} == {"ok"}
        assert CliRunner().invoke(cli.app, ["reconcile", "--repair", "--actor", "ann"]).exit_code == 0
    with open_ledger(own) as ledger:
        assert [(a.actor, a.command) for a in ledger.actions()] == [("ann", "reconcile --repair")]
    with connect(own.clickhouse(), own.database) as client:
        books = ClickHouseBooks(client, own.partitions)
        (hour,) = books.closed_hours(["tokens"], 0, ["a", "b"])
        assert (hour.customer, hour.hour, hour.quantity) == ("a", START // 1_000, 1_200)
        assert list(books.closed_hours(["tokens"], START // 1_000 + 1, ["a"])) == []
        assert list(books.closed_hours(["tokens"], 0, ["b"])) == []
        assert books.metered_customers(["tokens"], 0, "", 9) == ["a"]
        assert books.metered_customers(["tokens"], 0, "a", 9) == []
        assert books.metered_customers(["tokens"], START // 1_000 + 1, "", 9) == []
        assert books.hours_until() > START // 1_000
        assert [one.customer for one in books.people(["a", "nobody"])] == ["a"]
        ((state, invoiced),) = client.query(
            "SELECT state, invoiced FROM billing_invoices_current"
        ).result_rows
        ((checked,),) = client.query("SELECT count() FROM billing_reconcile_current").result_rows
    assert (state, str(invoiced.normalize()), checked) == ("finalized", "96", len(found))
