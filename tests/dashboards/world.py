"""Books for dashboards: copies of the demo's, and rows that are written by hand."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from dashboards.macros import ALL, Range, Value
from dashboards.run import Json
from metering.records import version

QUOTE, EMOJI = 'o\'neill & "söhne"', "🚀 raumfahrt"
ONE = "harbor-analytics"
# An invoice in each state, and each word of the payment provider on a final one.
INVOICED = [
    *((state, "") for state in ("planned", "inflight", "unknown", "blocked", "carried")),
    *(("finalized", word) for word in ("", "open", "failed", "uncollectible", "paid", "void")),
]


def ms(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1000)


MONTHS = Range(ms(2023, 11, 1), ms(2023, 12, 2))
HOUR = Range(ms(2023, 11, 16, 10), ms(2023, 11, 16, 11))
YEARS = Range(ms(2023, 1, 1), ms(2027, 1, 1))
NOTHING = Range(ms(2019, 3, 1), ms(2019, 4, 1))


def selection(board: Json, **chosen: Value) -> dict[str, Value]:
    """A value for each variable of a dashboard: what was chosen, else all, or what it opens with."""
    given: dict[str, Value] = {
        "currency": "USD", "customer": ONE, "period": "2023-11", "price": "input", "search": "", "unit_cost": "",
    } | chosen  # fmt: skip
    found: dict[str, Value] = {}
    for variable in board["templating"].get("list", ()):
        name = variable["name"]
        every: Value = [ALL] if variable.get("multi") else given.get(name, "")
        value = chosen.get(name, every)
        found[name] = [value] if variable.get("multi") and isinstance(value, str) else value
    return found


def tables(client: Any, database: str) -> list[str]:
    rows = client.query(
        "SELECT name FROM system.tables WHERE database = {d:String} AND engine LIKE '%MergeTree'"
        " AND name != 'schema_versions'",
        parameters={"d": database},
    ).result_rows
    return [name for (name,) in rows]


def copy_tables(client: Any, source: str, target: str) -> None:
    for table in tables(client, source):
        client.command(f"TRUNCATE TABLE {target}.{table}")
        client.command(f"INSERT INTO {target}.{table} SELECT * FROM {source}.{table}")


def widen(client: Any) -> None:
    """Three customers in two months before, one of them in euros under two awkward ids."""
    for months, customers in ((1, ["acme-robotics", ONE]), (2, ["acme-robotics", "cedar-health"])):
        names = ", ".join(f"'{name}'" for name in customers)
        moved = f"addMonths(hour, -{months}) AS hour"
        client.command(
            f"INSERT INTO charges SELECT * REPLACE ({moved}, formatDateTime(addMonths(toDate('2023-11-01'), -{months}),"
            f" '%Y-%m') AS period) FROM (SELECT * FROM charges WHERE customer IN ({names}) AND period = '2023-11'"
            " AND hour < '2023-11-29')"
        )
        client.command(
            f"INSERT INTO hourly SELECT * REPLACE ({moved}) FROM"
            f" (SELECT * FROM hourly WHERE customer IN ({names}) AND hour < '2023-11-29')"
        )
    for name in (QUOTE, EMOJI):
        text = name.replace("\\", "\\\\").replace("'", "\\'")
        for table in ("charges", "hourly", "rejected"):
            euros = ", 'EUR' AS currency" if table == "charges" else ""
            client.command(
                f"INSERT INTO {table} SELECT * REPLACE ('{text}' AS customer{euros})"
                f" FROM (SELECT * FROM {table} WHERE customer = 'cedar-health')"
            )
        rows = [[name, f"{name} <b>&", "scale", "EUR", "", 1, ""]]
        client.insert("catalog_customers", rows)


def bill_and_limit(client: Any) -> None:
    """Invoices, findings and quota events of the same month, in each state that a panel tells apart."""
    at = datetime(2023, 11, 20, 9, tzinfo=UTC)
    client.insert(
        "billing_invoices",
        [
            [
                f"i{n}", name, "2023-10", currency, state, "no answer", "", "",
                *map(Decimal, ("9.126", "9.12", "0", "0.006")), at, n, payment, at,
            ]
            for n, (state, payment) in enumerate(INVOICED)
            for name, currency in ((ONE, "USD"), (QUOTE, "EUR"))
        ],
    )  # fmt: skip
    verdicts = ["ok", "missing", "under", "over", "foreign", "lagging"]
    hour = int(at.timestamp())
    client.insert(
        "billing_reconcile",
        [
            [
                name,
                "hour",
                f"input_tokens@{hour + n * 3600}",
                "2023-11",
                verdict,
                Decimal(5),
                Decimal(n),
                "",
                at,
                n,
            ]
            for n, verdict in enumerate(verdicts)
            for name in (ONE, QUOTE, EMOJI)
        ],
    )
    events = ["threshold", "blocked", "unblocked", "overrun", "grant_added", "refused"]
    client.insert(
        "quota_events",
        [
            [f"q{n}", event, name, name, "input_tokens", "month", "v1", at, at, 80, Decimal(80 + n), Decimal(100), "",
             Decimal(0), "anna", "", "", n]
            for n, event in enumerate(events)
            for name in (ONE, QUOTE, EMOJI)
        ],
    )  # fmt: skip
    client.insert(
        "quota_facts",
        [[1, at, "grant", ONE, "month", "g1", Decimal(10), at, at, False, "anna", "agreed"],
         [2, at, "limit", QUOTE, "month", "", None, at, at, False, "anna", "it's \"unlimited\""]],
    )  # fmt: skip


def charge(customer: str, period: str, amount: str, line: str = "usage", currency: str = "USD") -> list[Any]:
    """A row of `charges` for the first hour of a period: columns as `charge_columns`."""
    hour = datetime.fromisoformat(f"{period}-01T00:00:00+00:00")
    return [
        customer,
        period,
        f"p-{line}",
        hour,
        "m",
        currency,
        Decimal(amount),
        "card",
        "v1",
        1,
        line,
        version(1, 1),
    ]


CHARGE_COLUMNS = (
    "customer period price hour meter currency amount card card_version events line version".split()
)
