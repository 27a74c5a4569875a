"""Each invariant holds on a live deployment, and each is seen to break when its data is broken."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from billing_sync.ledger import ledger_url
from billing_sync.ledger.store import SQLITE
from billing_sync.run import run_once
from metering import standing
from metering.demo.pipeline import environment
from metering.invariants import positions
from metering.invariants.arrival import arrival
from metering.invariants.registry import ALL
from metering.invariants.runner import Finding, Watch
from metering.local import process
from metering.rating.terms import Period
from metering.settings import Settings
from metering.sinks.client import connect
from metering.state.calendar import HOUR_MS, period
from tests.demo.test_books_commands import CATALOG
from tests.demo.world import resumed, running, send, wait_for

NAMES = {invariant.name for invariant in ALL}


def months_ago(count: int) -> Period:
    """A billing period, counted back from the one of now."""
    found = period(time.strftime("%Y-%m", time.gmtime()))
    for _ in range(count):
        found = period(time.strftime("%Y-%m", time.gmtime(found.starts - 1)))
    return found


CLOSED = months_ago(1 if time.gmtime().tm_mday > 2 else 2)  # on the first days, one is still in its grace


def now() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def usage_flows(settings: Settings) -> Iterator[None]:
    """Events arrive while somebody looks."""
    is_over = threading.Event()

    def work() -> None:
        for number in count(1_000):
            if is_over.wait(0.05):
                return
            send(settings, event(number, now(), region="eu", size="0.5"), b"noise")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def event(number: int, at: int, kind: str = "call", **data: Any) -> bytes:
    body = {"id": f"e{number}", "customer": "a", "type": kind, "time": at, "data": data}
    return json.dumps(body).encode()


def a_month(number: int, start: int) -> list[bytes]:
    calls = [
        event(number + n, start + n * HOUR_MS, region="eu" if n % 3 else "us", size="3.125") for n in range(7)
    ]
    return [*calls, event(number + 8, start, "seats", n=2), calls[0], b"noise"]


@pytest.fixture(scope="module")
def live(local_parts: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A deployment with a closed and billed month and an open one, looked at once while it ran."""
    settings = local_parts.model_copy(
        update={
            "home": tmp_path_factory.mktemp("watch"),
            "kafka_brokers": local_parts.brokers(),
            "clickhouse_url": local_parts.clickhouse(),
            "kafka_simulated": local_parts.is_simulated(),
            "database": "watched",
            "topic_prefix": "watched.",
            "partitions": 1,
            "checkpoint_seconds": 0.2,
            "sink_batch_seconds": 0.2,
            "tick_idle_seconds": 86_400.0,
        }
    )
    with running(settings.model_copy(update={"tick_idle_seconds": 1.0}), CATALOG):
        send(settings, *a_month(0, CLOSED.starts * 1_000))
        wait_for(lambda books: any(close.agrees for close in books.closes(CLOSED.name)), settings)
    with resumed(settings):
        late = event(50, CLOSED.ends * 1_000 - HOUR_MS, region="us", size="1")
        send(settings, *a_month(100, now() - 8 * HOUR_MS), late)
        wait_for(lambda books: books.counters().read == 21, settings)
        with usage_flows(settings):
            rounds = [broken(look(settings)) for _ in range(3)]
        (settings.home / "rounds.json").write_text(json.dumps(rounds))
        assert asyncio.run(arrival(settings, 60)) == ""
    run_once(settings)
    return settings


def look(settings: Settings, *only: str) -> list[Finding]:
    chosen = [invariant for invariant in ALL if not only or invariant.name in only]
    return Watch(settings, chosen, newest_periods=3, patience=3.0).round()


def broken(findings: list[Finding]) -> dict[str, list[Any]]:
    return {f.invariant.name: f.rows or [f.unknown] for f in findings if not f.holds}


@pytest.fixture
def quiet(live: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The deployment after it was stopped, as if its last reports were of now."""
    monkeypatch.setattr(standing, "DEAD_SECONDS", 1e6)
    monkeypatch.setattr(positions, "STUCK_SECONDS", 1e6)
    return live


@contextmanager
def changed(settings: Settings, table: str, *statements: str) -> Iterator[None]:
    """A table changed by hand, and put back."""
    kept = f"kept_{table}"
    with connect(settings.clickhouse(), settings.database) as client:
        client.command(
            f"CREATE OR REPLACE TABLE {kept} ENGINE = MergeTree ORDER BY tuple() AS SELECT * FROM {table}"
        )
        try:
            for statement in statements:
                client.command(statement, settings={"mutations_sync": 2})
            yield
        finally:
            client.command(f"TRUNCATE TABLE {table}")
            client.command(f"INSERT INTO {table} SELECT * FROM {kept}")
            client.command(f"DROP TABLE {kept}")


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_everything_holds_while_it_runs_and_after(live: Settings, quiet: Settings) -> None:
    assert json.loads((live.home / "rounds.json").read_text()) == [{}, {}, {}]
    assert broken(look(quiet)) == {}


def update(table: str, what: str) -> tuple[str, str]:
    return table, f"ALTER TABLE {table} UPDATE {what}"


OPEN = f"period != '{CLOSED.name}'"
BREAKS = {
    "outcomes": update("progress", "accepted = accepted + 1 WHERE 1"),
    "dead_letters": ("rejected", "ALTER TABLE rejected DELETE WHERE k_offset < 10"),
    "nothing_refused": (
        "rejected",
        "INSERT INTO rejected SELECT * REPLACE (-2 AS k_index, 'charges' AS event_type) FROM rejected"
        " LIMIT 1",
    ),
    "hourly_from_archive": update("hourly", "quantity = quantity + 1 WHERE meter = 'calls'"),
    "charges_in_sql": update("charges", f"amount = amount + 0.000001 WHERE price = 'bytes' AND {OPEN}"),
    "charges_by_hour": update("charges", f"amount = amount - 0.000001 WHERE price = 'base' AND {OPEN}"),
    "rows_explained": update("charges", f"rounding = rounding + 0.0000001 WHERE price = 'seats' AND {OPEN}"),
    "card_versions": update("charges", f"card_version = '' WHERE price = 'seats' AND {OPEN}"),
    "closed_periods": ("charges", f"ALTER TABLE charges DELETE WHERE price = 'seats' AND NOT {OPEN}"),
    "sink_within_log": (
        "sink_progress",
        "INSERT INTO sink_progress SELECT * REPLACE (next_offset + 1000 AS next_offset) FROM sink_progress",
    ),
    "sink_stores": update("progress", "reported = reported - INTERVAL 2 MINUTE WHERE 1"),
    "positions_forward": update("progress", "next_offset = next_offset + 1000 WHERE 1"),
    "watermark_forward": update("progress", "watermark = watermark + INTERVAL 1 HOUR WHERE 1"),
}


@pytest.mark.parts
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BREAKS)
def test_what_is_changed_by_hand_is_found(quiet: Settings, name: str) -> None:
    table, statement = BREAKS[name]
    with changed(quiet, table, statement):
        found = broken(look(quiet, name))
    assert all(row.where and row.found != row.expected for row in found[name])


# What an invoice holds: `$[4]` is what was charged, `$[6]` what is carried on, `$[7][0][4]` a line's cents.
ADD = "UPDATE invoice SET plan = json_set(plan, '{0}', json_extract(plan, '{0}') + {1})"
LEDGER = [
    ("invoiced", ["UPDATE carry SET micro = micro + 1"]),
    ("invoiced", [ADD.format("$[4]", 1)]),
    ("invoiced", [ADD.format("$[6]", 1)]),
    (
        "remainders",  # a cent too much, taken from the next invoice
        [
            ADD.format("$[7][0][4]", 1),
            ADD.format("$[6]", -10_000),
            "UPDATE carry SET micro = micro - 10000",
        ],
    ),
]


@pytest.mark.parts
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "changes"), LEDGER)
def test_a_ledger_changed_by_hand_is_found(quiet: Settings, name: str, changes: list[str]) -> None:
    path = Path(ledger_url(quiet).removeprefix(SQLITE))
    folder = path.parent
    shutil.copytree(folder, folder.with_name("kept"))
    try:
        with closing(sqlite3.connect(path)) as db, db:
            for change in changes:
                db.execute(change)
        assert set(broken(look(quiet, "invoiced", "remainders"))) == {name}
    finally:
        shutil.rmtree(folder)
        folder.with_name("kept").rename(folder)


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_dead_partition_is_told_from_a_quiet_one(live: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "DEAD_SECONDS", 1e6)
    assert broken(look(live, "partitions_report")) == {}
    monkeypatch.setattr(standing, "DEAD_SECONDS", 0.5)
    (row,) = broken(look(live, "partitions_report"))["partitions_report"]
    assert row.found.startswith("dead: worker-1 reported")


def test_every_invariant_says_what_it_means_and_what_to_do() -> None:
    assert len(NAMES) == len(ALL)
    for invariant in ALL:
        assert invariant.means
        assert invariant.remedy.endswith((".", "`.")), invariant.name
        assert (type(invariant).__doc__ or "").strip()


def test_every_invariant_is_on_its_page() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "invariants.md").read_text()
    assert not [name for name in NAMES if f"`{name}`" not in page]


@pytest.mark.parts
@pytest.mark.timeout(120)
def test_the_command_ends_with_1_when_something_is_broken(live: Settings) -> None:
    result = subprocess.run(
        command("--once"), env=variables(live), capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 1, result.stdout + result.stderr  # nothing runs any more
    assert "✗ partitions_report" in result.stdout
    assert f"broken, {len(ALL) - 1} hold" in result.stdout
    assert "→ No report: no worker owns the partition" in result.stdout


@pytest.mark.parts
@pytest.mark.timeout(120)
def test_the_metrics_are_served_on_loopback(live: Settings) -> None:
    port = process.free_port()
    watch = subprocess.Popen(command("--every", "1", "--port", str(port)), env=variables(live))
    try:
        values = scrape(port)
        assert {name for name, _ in values} >= {
            "metering_invariant_holds",
            "metering_invariant_last_check_timestamp_seconds",
            "metering_invariant_check_seconds",
        }
        assert {labels for name, labels in values if name == "metering_invariant_holds"} == NAMES
        assert values["metering_invariant_holds", "partitions_report"] == 0
        assert values["metering_invariant_holds", "outcomes"] == 1
        listening = Path(f"/proc/{watch.pid}/net/tcp").read_text()
        assert f"0100007F:{port:04X}" in listening
        assert f"00000000:{port:04X}" not in listening
    finally:
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "metering", "watch", *words]


def variables(settings: Settings) -> dict[str, str]:
    return {**os.environ, **environment(settings)}


def scrape(port: int) -> dict[tuple[str, str], float]:
    """Names and invariants to values, once a whole round is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.5)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
        except OSError:
            continue
        values = {(s.name, s.labels.get("invariant", "")): s.value for f in families for s in f.samples}
        if ("metering_invariant_holds", ALL[-1].name) in values:
            return values
    raise AssertionError("no metrics within the deadline")
