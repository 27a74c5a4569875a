"""The ledger on both databases: one code path, upgraded when old, refused when newer."""

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from billing_sync.ledger import Action, CarryChanged, Ledger, LedgerReader
from billing_sync.ledger.schema import SCHEMA, STEPS
from billing_sync.planner import Correction, plan_invoice
from metering.errors import UserError
from tests.billing_sync.world import closed

NOW = 1_700_000_000


def test_a_plan_comes_back_as_it_was(ledger: Ledger) -> None:
    plan = plan_invoice(closed(), 0)
    ledger.add_plan(plan, NOW)
    (entry,) = ledger.entries()
    assert (entry.plan, entry.state, entry.changed) == (plan, "planned", NOW)
    assert ledger.carry("acme", "USD") == plan.carry_out


def test_what_changed_since_a_moment_is_told(ledger: Ledger) -> None:
    for number, customer in enumerate(("acme", "zeta")):
        ledger.add_plan(plan_invoice(closed(customer), 0), NOW + number)
    assert [e.plan.customer for e in ledger.entries(since=NOW + 1)] == ["zeta"]
    ledger.set_state(ledger.entries()[0].plan.id, "inflight", now=NOW + 5)
    assert [e.plan.customer for e in ledger.entries(since=NOW + 2)] == ["acme"]


def test_what_the_provider_has_told_since_a_moment_is_told(ledger: Ledger) -> None:
    for customer in ("acme", "zeta"):
        ledger.add_plan(plan_invoice(closed(customer), 0), NOW)
    invoice = ledger.entries()[0].plan.id
    ledger.set_status(invoice, "paid", NOW + 5)
    (entry,) = ledger.entries(since=NOW + 1)
    assert (entry.plan.customer, entry.status, entry.changed, entry.told) == ("acme", "paid", NOW, NOW + 5)


@pytest.mark.parametrize(
    "words", [("open", "failed", "paid"), ("paid", "open", "failed"), ("failed", "paid")]
)
def test_a_status_only_moves_forward(ledger: Ledger, words: tuple[str, ...]) -> None:
    plan = plan_invoice(closed(), 0)
    ledger.add_plan(plan, NOW)
    for number, word in enumerate(words):
        ledger.set_status(plan.id, word, NOW + number)
    assert ledger.entries()[0].status == "paid"


def test_a_plan_made_with_an_older_carry_is_not_written(ledger: Ledger) -> None:
    ledger.add_plan(plan_invoice(closed(), 0))
    stale = plan_invoice(closed("acme", "2023-12"), 0)
    with pytest.raises(CarryChanged):
        ledger.add_plan(stale)
    assert ledger.entry(stale.id) is None


def test_a_carry_that_another_plan_took_is_not_taken_again(ledger: Ledger) -> None:
    ledger.add_plan(plan_invoice(closed(), 0))
    carried = ledger.carry("acme", "USD")
    assert carried > 0
    ledger.add_plan(plan_invoice(closed("acme", "2023-12", 20_000), carried))
    with pytest.raises(CarryChanged):
        ledger.add_plan(plan_invoice(closed("acme", "2024-01", 20_000), carried + 1))
    with pytest.raises(CarryChanged):
        ledger.add_plan(plan_invoice(closed("nobody"), carried))
    assert ledger.carries()[0][2] == carried
    assert [e.plan.period for e in ledger.entries()] == ["2023-11", "2023-12"]


def test_a_correction_is_taken_once(ledger: Ledger) -> None:
    correction = Correction("fix_1", "acme", 500_000, "correction of FAKE-0001")
    for _ in range(2):
        ledger.correct(correction, "USD", NOW)
    assert ledger.corrections("acme") == [(correction, "USD")]
    ledger.add_plan(plan_invoice(closed(), 0, [correction]))
    assert ledger.corrections("acme") == []


def test_the_first_time_of_waiting_stays(ledger: Ledger) -> None:
    ledger.park("acme", "2023-11", "a", NOW)
    ledger.park("acme", "2023-11", "b", NOW + 9)
    ((_, _, reason, since),) = ledger.parked()
    assert (reason, since) == ("b", NOW)


def test_an_hour_is_news_only_when_its_total_changed(ledger: Ledger) -> None:
    assert ledger.want_hour("acme", "tokens", 3_600, Decimal("1.50"))
    assert not ledger.want_hour("acme", "tokens", 3_600, Decimal("1.5"))
    assert ledger.want_hour("acme", "tokens", 3_600, Decimal(2))
    (hour,) = ledger.open_hours()
    assert (hour.revision, hour.quantity) == (1, "2")


def test_a_request_keeps_its_first_time_within_an_epoch(ledger: Ledger) -> None:
    ledger.intend("r", 0, "p", 1)
    ledger.saw_5xx("r")
    ledger.intend("r", 0, "p", 9)
    held = ledger.request("r")
    assert held is not None
    assert (held.first_sent, held.last_sent, held.saw_5xx) == (1, 9, True)
    ledger.intend("r", 1, "p", 20)
    again = ledger.request("r")
    assert again is not None
    assert (again.first_sent, again.saw_5xx) == (20, False)


def test_what_people_did_is_kept(ledger: Ledger) -> None:
    done = Action(NOW, "ann", "periods freeze", "acme 2023-11", "contract in dispute")
    ledger.record(done)
    assert ledger.actions() == [done]


def test_a_ledger_of_the_first_version_is_upgraded_with_what_it_holds(place: str) -> None:
    engine = create_engine(place)
    plan = plan_invoice(closed(), 0)
    old = '["%s", "acme", "2023-11", "USD", 3234568, 0, 4568, [["l", "p0", "p0 2023-11", 3234568, 323]]]'
    with engine.begin() as connection:
        for statement in STEPS[0].split(";\n"):
            if statement.strip():
                connection.execute(text(statement))
        connection.execute(
            text(
                "INSERT INTO invoice (id, customer, period, currency, plan, state)"
                " VALUES (:id, 'acme', '2023-11', 'USD', :plan, 'inflight')"
            ),
            {"id": plan.id, "plan": old % plan.id},
        )
        connection.execute(text("INSERT INTO parked VALUES ('b', '2023-11', 'wait')"))
    engine.dispose()
    ledger = Ledger(place)
    try:
        (entry,) = ledger.entries()
        assert (entry.state, entry.plan.minor, entry.plan.lines[0].price) == ("inflight", 323, "p0")
        assert [p.customer for p in ledger.parked()] == ["b"]
        ledger.want_hour("acme", "tokens", 0, Decimal(1))
    finally:
        ledger.close()


def test_a_newer_ledger_is_refused(place: str) -> None:
    ledger = Ledger(place)
    ledger.run("UPDATE ledger_schema SET version = :v", v=SCHEMA + 1)
    ledger.close()
    with pytest.raises(UserError, match=f"schema {SCHEMA + 1}"):
        Ledger(place)


def test_both_databases_have_the_same_tables(place: str) -> None:
    Ledger(place).close()
    engine = create_engine(place)
    names = inspect(engine).get_table_names()
    engine.dispose()
    wanted = "action carry claim correction hold invoice ledger_schema mark meter_hour parked person request"
    wanted += " subscribed subscription"
    assert sorted(names) == wanted.split()


def test_a_reader_reads_either(place: str) -> None:
    ledger = Ledger(place)
    plan = plan_invoice(closed(), 0)
    ledger.add_plan(plan)
    found = LedgerReader(place).entry(plan.id)
    ledger.close()
    assert found is not None
    assert found.plan == plan


def test_a_database_that_is_not_there_says_what_to_check() -> None:
    with pytest.raises(UserError, match="cannot be read") as found:
        Ledger("postgresql+psycopg://ledger@/nothing?host=/tmp/no-such-folder")
    assert "METERING_LEDGER_URL" in found.value.hint


def test_a_first_version_made_by_sqlite_itself_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with sqlite3.connect(path) as db:
        db.executescript(STEPS[0])
        db.execute("PRAGMA user_version = 1")
    Ledger(path).close()
    assert sqlite3.connect(path).execute("SELECT version FROM ledger_schema").fetchall() == [(SCHEMA,)]


def test_an_hour_that_another_sender_wrote_meanwhile_is_not_written_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("acme", "metered", NOW)
    for quantity in (1, 2):
        stale = ledger.hour(*place)
        ledger.want_hour(*place, Decimal(quantity))
        with monkeypatch.context() as m:
            m.setattr(ledger, "hour", lambda *_, stale=stale: stale)
            ledger.want_hour(*place, Decimal(quantity))
    (hour,) = ledger.hours()
    assert (hour.quantity, hour.revision) == ("2", 1)


def test_hours_of_some_customers_from_a_moment_on(ledger: Ledger) -> None:
    for customer in ("acme", "zeta", "other"):
        for hour in (NOW - 3_600, NOW):
            ledger.want_hour(customer, "metered", hour, Decimal(1))
    found = ledger.hours_of(["acme", "zeta"], NOW)
    assert sorted((h.customer, h.hour) for h in found) == [("acme", NOW), ("zeta", NOW)]
