"""Churn, retention, MRR and the rest, worked out by hand from four customers and six months."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from dashboards.generate import GENERATED, HERE
from dashboards.macros import Range
from dashboards.run import load, run, targets
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from tests.dashboards.world import CHARGE_COLUMNS, charge, ms, selection

FINANCE = next(board for board in load(HERE / GENERATED) if board["uid"] == "metering-finance")
SPAN = Range(ms(2025, 1, 1), ms(2025, 7, 1))

# Customer, then what each month from 2025-01 on came to; a pair is (recurring, usage).
PAID: dict[str, list[tuple[str, str]]] = {
    "anna": [("10", "0"), ("10", "2"), ("10", "2"), ("10", "0"), ("10", "0"), ("10", "1")],
    "bert": [("5", "0"), ("0", "0"), ("5", "0"), ("0", "0"), ("0", "0"), ("0", "0")],
    "cleo": [("0", "0"), ("0", "7"), ("0", "9"), ("0", "9"), ("0", "0"), ("0", "0")],
    "dora": [("0", "0"), ("0", "0"), ("0", "0"), ("0", "0"), ("3", "4"), ("3", "3")],
}


@pytest.fixture(scope="module")
def paid(local_parts: Settings) -> Iterator[Any]:
    migrate(local_parts.clickhouse(), "boards_paid")
    rows = []
    for customer, months in PAID.items():
        for number, (recurring, usage) in enumerate(months, 1):
            period = f"2025-{number:02}"
            rows += [charge(customer, period, recurring, "flat"), charge(customer, period, usage)]
    rows.append(charge("euro", "2025-06", "1000", "flat", "EUR"))
    with connect(local_parts.clickhouse(), "boards_paid") as client:
        client.command("TRUNCATE TABLE charges")
        client.insert("charges", rows, column_names=CHARGE_COLUMNS)
        yield client


def rows(client: Any, title: str, span: Range = SPAN) -> list[tuple[Any, ...]]:
    for panel, target in targets(FINANCE):
        if panel["title"].startswith(title):
            return run(client, panel, target, span, selection(FINANCE)).rows
    raise AssertionError(title)


FIGURES = {
    "MRR": "13.000000",  # anna 10, dora 3
    "ARR": "156.000000",
    "Revenue of the month": "17.000000",  # 11 + 6
    "Run rate": "204.000000",
    "Paying customers": "2",
    "ARPU": "8.500000",
    "Churn of customers": "0.0 %",
    # ARPU 8.5; lost 1 (bert) + 1 (bert) + 1 (cleo) of 2 + 2 + 3 + 2 + 2 = 11: churn 3/11
    "Lifetime value": "31.166666",
}


@pytest.mark.parts
@pytest.mark.parametrize("title", FIGURES)
def test_a_figure(paid: Any, title: str) -> None:
    assert rows(paid, title)[0][0] == FIGURES[title]


@pytest.mark.parts
def test_customers_gained_and_lost(paid: Any) -> None:
    found = {row[0]: row[1:] for row in rows(paid, "Customers gained")}
    #                 new back lost churn  gained       expansion    contraction  lost        net retention
    assert found == {
        "2025-01": (2, 0, 0, "–", "15.000000", "0.000000", "0.000000", "0.000000", "–"),
        "2025-02": (1, 0, 1, "50.0 %", "7.000000", "2.000000", "0.000000", "5.000000", "80.0 %"),
        "2025-03": (0, 1, 0, "0.0 %", "5.000000", "2.000000", "0.000000", "0.000000", "110.5 %"),
        "2025-04": (0, 0, 1, "33.3 %", "0.000000", "0.000000", "2.000000", "5.000000", "73.0 %"),
        "2025-05": (1, 0, 1, "50.0 %", "7.000000", "0.000000", "0.000000", "9.000000", "52.6 %"),
        "2025-06": (0, 0, 0, "0.0 %", "0.000000", "1.000000", "1.000000", "0.000000", "100.0 %"),
    }


@pytest.mark.parts
@pytest.mark.parametrize("month", range(2, 7))
def test_churn_of_a_month_is_that_of_the_table(paid: Any, month: int) -> None:
    table = {row[0]: row[4] for row in rows(paid, "Customers gained")}
    until = Range(ms(2025, 1, 1), ms(2025, month + 1, 1))
    assert rows(paid, "Churn of customers", until)[0][0] == table[f"2025-{month:02}"]


@pytest.mark.parts
def test_retention_of_the_first_cohort(paid: Any) -> None:
    found = [row[1:] for row in rows(paid, "Retention by cohort") if row[0] == "2025-01"]
    # anna and bert began with 15; bert came back once
    assert [row[1] for row in found] == [2, 1, 2, 1, 1, 1]
    assert [row[2] for row in found] == ["100.0 %", "50.0 %", "100.0 %", "50.0 %", "50.0 %", "50.0 %"]
    assert found[1][4] == "80.0 %"
    assert Decimal(found[5][3]) == 11


@pytest.mark.parts
def test_a_month_that_still_runs_is_not_the_month(paid: Any) -> None:
    assert rows(paid, "Revenue of the month", Range(ms(2025, 1, 1), ms(2025, 6, 20)))[0] == (
        "17.000000",
        "2025-05",
    )


@pytest.mark.parts
def test_a_range_to_the_last_second_of_a_month_holds_the_month(paid: Any) -> None:
    june = Range(ms(2025, 1, 1), ms(2025, 7, 1) - 1_000)
    assert rows(paid, "Revenue of the month", june)[0] == (FIGURES["Revenue of the month"], "2025-06")
    assert rows(paid, "Customers gained", june)[0][0] == "2025-06"


@pytest.mark.parts
def test_growth_and_the_months_table_agree_with_the_figures(paid: Any) -> None:
    months = {row[0]: row[1:] for row in rows(paid, "MRR, ARR and ARPU")}
    assert months["2025-06"] == (FIGURES["MRR"], FIGURES["ARR"], FIGURES["ARPU"])
    assert months["2025-02"] == ("10.000000", "120.000000", "9.500000")
