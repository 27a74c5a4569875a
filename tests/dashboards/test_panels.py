"""Every query of every dashboard, as Grafana would send it, answers what its panel needs."""

from decimal import Decimal
from typing import Any

import pytest

from dashboards.generate import GENERATED, HERE
from dashboards.macros import Range, Value, expand
from dashboards.run import Json, Result, ask, load, problems, questions, run, targets
from tests.dashboards.world import EMOJI, HOUR, MONTHS, NOTHING, ONE, QUOTE, YEARS, selection

BOARDS = {board["uid"]: board for board in load(HERE / GENERATED)}
PANELS = [
    pytest.param(board, panel, target, id=f"{uid}/{panel['title']}")
    for uid, board in BOARDS.items()
    for panel, target in targets(board)
]
AWKWARD: dict[str, Value] = {"customer": [QUOTE, EMOJI], "currency": "EUR", "meter": ["input_tokens"]}
SELECTIONS: list[tuple[Range, dict[str, Value]]] = [
    (MONTHS, {}),
    (HOUR, {"customer": [ONE], "plan": ["scale"], "unit_cost": "0.000002", "meter": ["input_tokens"]}),
    (YEARS, AWKWARD | {"search": "o'neill & 'söhne' 🚀"}),
    (NOTHING, {"customer": ["nobody ') OR 1 --"], "currency": "XXX", "period": "1999-01", "price": "🚀'"}),
]


def chosen(board: Json, given: dict[str, Value]) -> dict[str, Value]:
    """A single variable takes the first of several values."""
    multi = {v["name"] for v in board["templating"].get("list", ()) if v.get("multi")}
    fitted: dict[str, Value] = {
        name: value if isinstance(value, str) or name in multi else value[0] for name, value in given.items()
    }
    return selection(board, **fitted)


def check(
    client: Any, board: Json, panel: Json, target: Json, span: Range, given: dict[str, Value]
) -> Result:
    found = run(client, panel, target, span, chosen(board, given))
    assert problems(panel, target, found) == []
    return found


@pytest.mark.parts
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("board", "panel", "target"), PANELS)
def test_a_panel_over_the_demo(books: Any, board: Json, panel: Json, target: Json) -> None:
    for span, given in SELECTIONS:
        check(books, board, panel, target, span, given)


@pytest.mark.parts
@pytest.mark.parametrize(("board", "panel", "target"), PANELS)
def test_a_panel_over_an_empty_database(empty: Any, board: Json, panel: Json, target: Json) -> None:
    found = check(empty, board, panel, target, MONTHS, {})
    if panel["type"] == "timeseries":
        assert found.rows == []


@pytest.mark.parts
@pytest.mark.parametrize("uid", BOARDS)
def test_variables_answer_with_values_and_labels(books: Any, empty: Any, uid: str) -> None:
    for client in (books, empty):
        for name, sql in questions(BOARDS[uid]):
            for search in ("", 'o\'neill & "söhne"'):
                given = selection(BOARDS[uid], customer=QUOTE, search=search) | {"period": "2023-11"}
                found = ask(client, expand(sql, MONTHS, given))
                assert len(found.columns) <= 2, name
                assert len(found.rows) <= 1_000, name


@pytest.mark.parts
def test_the_search_finds_a_customer_by_a_part_of_its_name(books: Any) -> None:
    sql = dict(questions(BOARDS["metering-customer"]))["customer"]
    found = ask(books, expand(sql, MONTHS, {"search": "O'NEILL"}))
    assert [value for value, _ in found.rows] == [QUOTE]


@pytest.mark.parts
def test_a_hundred_thousand_customers_stay_a_short_list_in_which_each_can_be_found(empty: Any) -> None:
    empty.command(
        "INSERT INTO catalog_customers SELECT concat('c', toString(number)), concat('Customer ', toString(number)),"
        " 'scale', 'USD', '', 1, '' FROM numbers(100000)"
    )
    try:
        for uid, board in BOARDS.items():
            sql = dict(questions(board)).get("customer", "")
            if sql:
                given = selection(board, search="")
                assert len(ask(empty, expand(sql, MONTHS, given)).rows) == 1_000, uid
                found = ask(empty, expand(sql, MONTHS, given | {"search": "customer 99871"}))
                assert [row[0] for row in found.rows] == ["c99871"], uid
    finally:
        empty.command("TRUNCATE TABLE catalog_customers")


def rows(client: Any, uid: str, title: str, span: Range = MONTHS, **given: Value) -> list[tuple[Any, ...]]:
    for panel, target in targets(BOARDS[uid]):
        if panel["title"].startswith(title):
            return check(client, BOARDS[uid], panel, target, span, given).rows
    raise AssertionError(f"{uid} has no panel {title}")


def total(found: list[tuple[Any, ...]], column: int) -> Decimal:
    return sum((Decimal(row[column]) for row in found), Decimal(0))


@pytest.mark.parts
def test_every_way_to_cut_revenue_gives_the_same_sum(demo: Any) -> None:
    ((expected,),) = demo.query("SELECT toString(sum(amount)) FROM charges_current").result_rows
    whole = Decimal(expected)
    assert whole > 200
    uid = "metering-revenue"
    assert Decimal(rows(demo, uid, "Charged in the range")[0][0]) == whole
    assert total(rows(demo, uid, "Revenue by day"), 2) == whole
    assert total(rows(demo, uid, "By plan"), 1) == whole
    assert total(rows(demo, uid, "By price"), 4) == whole
    assert total(rows(demo, uid, "By customer"), 3) == whole
    assert total(rows(demo, uid, "All currencies"), 1) == whole


@pytest.mark.parts
def test_the_largest_customer_comes_to_the_bill_of_the_demo(demo: Any) -> None:
    bill = Decimal("39.055310")  # as the README prints it
    uid = "metering-customer"
    assert Decimal(rows(demo, uid, "Charged in the range", customer=ONE)[0][0]) == bill
    assert total(rows(demo, uid, "Charges", customer=ONE), 5) == bill
    assert rows(demo, uid, "Last closed period", customer=ONE) == [(f"2023-11: {bill}",)]
    parts = total(rows(demo, uid, "Tiers", customer=ONE), 7) + total(
        rows(demo, uid, "Effects", customer=ONE), 3
    )
    ((rounding,),) = demo.query(
        f"SELECT toString(sum(rounding)) FROM charges_current WHERE customer = '{ONE}' AND period = '2023-11'"
    ).result_rows
    assert parts + Decimal(rounding) == bill


@pytest.mark.parts
def test_the_hours_of_an_explanation_add_up_to_its_charge(demo: Any) -> None:
    uid, line = "metering-explanation", {"customer": ONE, "period": "2023-11", "price": "input"}
    hours = rows(demo, uid, "Hour by hour", **line)
    ((charge,),) = rows(demo, uid, "Charge", **line)
    assert len(hours) > 300
    assert f"{total(hours, 7)} USD" == charge
    assert all(row[4].startswith("tier ") for row in hours)


@pytest.mark.parts
def test_currencies_are_never_added_up(books: Any) -> None:
    dollars = Decimal(rows(books, "metering-revenue", "Charged in the range", YEARS)[0][0])
    euros = Decimal(rows(books, "metering-revenue", "Charged in the range", YEARS, currency="EUR")[0][0])
    listed = {row[0]: Decimal(row[1]) for row in rows(books, "metering-revenue", "All currencies", YEARS)}
    assert listed == {"USD": dollars, "EUR": euros}
    assert euros > 0


@pytest.mark.parts
def test_a_name_is_text_whatever_is_in_it(books: Any) -> None:
    found = rows(books, "metering-revenue", "By customer", YEARS, currency="EUR", customer=[QUOTE, EMOJI])
    assert {row[0]: row[1] for row in found} == {name: f"{name} <b>&" for name in (QUOTE, EMOJI)}


@pytest.mark.parts
def test_the_closed_month_of_the_demo_is_ready(demo: Any) -> None:
    assert rows(demo, "metering-close", "Billing period") == [("ready",)]
    assert [row[2] for row in rows(demo, "metering-close", "Checklist")] == ["done"] * 8


@pytest.mark.parts
def test_the_open_month_of_the_demo_says_what_is_missing(demo: Any) -> None:
    steps = {row[1]: row for row in rows(demo, "metering-close", "Checklist", period="2023-12")}
    open_customers = steps["Every customer has closed"]
    assert open_customers[2:4] == ("missing", 9)
    assert "bluebird-travel" in open_customers[4]
    assert "metering status" in open_customers[5]


@pytest.mark.parts
def test_finance_sees_what_is_paid_open_and_failed(books: Any) -> None:
    words = {"not known", "open", "failed", "uncollectible", "paid", "void"}
    assert {row[0] for row in rows(books, "metering-billing", "Payments")} == words
    unpaid = [row[3] for row in rows(books, "metering-billing", "Not paid")]
    assert sorted(unpaid) == sorted(words - {"paid", "void"})
    assert unpaid[0] == "failed"
    span = YEARS
    shown = [(row[2], row[3]) for row in rows(books, "metering-customer", "Invoices", span, customer=ONE)]
    assert {payment for state, payment in shown if state == "finalized"} == words | {"paid"}
    assert {payment for state, payment in shown if state != "finalized"} == {"–"}
