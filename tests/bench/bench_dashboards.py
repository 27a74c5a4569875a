"""Every panel over many charges, beside its budget: python -m tests.bench.bench_dashboards --rows 10000000.

The engine makes the rows itself: 5,000 customers of very different size, four prices, a year. The months
that rest are one part each, as the server makes them after a day; the one that runs stands in several whose
keys overlap and that are not merged. A panel is judged by its first run. Exit code 1 when one takes longer
than its budget. It needs a ClickHouse: `metering local up` starts one.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from dashboards.generate import GENERATED, HERE
from dashboards.macros import ALL, Range
from dashboards.preview import selected
from dashboards.run import load, run, targets
from metering.settings import settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate

DATABASE = "metering_bench_dashboards"
BUDGET_SECONDS = 10.0  # of any panel, on two cores; a dashboard asks for several at once
CUSTOMERS, MONTHS, PARTS = 5_000, 12, 4
SPAN = Range(
    int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000),
    int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000) - 1000,
)

# A few customers have most of the usage: the square of an even number falls towards zero.
_WHO = f"concat('c', toString(intDiv(pow(cityHash64(number) % 1000000, 2), 200000000) % {CUSTOMERS}))"


class Measured(NamedTuple):
    """A panel: seconds of its first run and of its second one."""

    first: float
    second: float
    name: str


def fill(client: Any, rows: int) -> None:
    """The charges of a year, and totals, customers and closes that go with them."""
    size = rows // MONTHS
    for month in range(1, MONTHS):
        _month(client, month, 0, size)
    _rest(client)
    for part in range(PARTS):
        _month(client, MONTHS, part * size // PARTS, size // PARTS)
    _accounts(client)


def _month(client: Any, month: int, first: int, count: int) -> None:
    hour = f"toDateTime('2025-{month:02}-01 00:00:00', 'UTC') + toUInt32(cityHash64(number, 1) % 672) * 3600"
    client.command(
        f"""INSERT INTO charges (customer, period, price, hour, meter, currency, quantity, quantity_after, amount, card,
                card_version, events, slice_tiers, slice_units, slice_unit_prices, slice_flat_fees, slice_amounts,
                slice_billed, slice_labels, line, model, version)
            SELECT {_WHO} AS customer, '2025-{month:02}', concat('price', toString(number % 4)), {hour},
                concat('meter', toString(number % 4)), if(cityHash64(customer) % 5 = 0, 'EUR', 'USD'),
                toDecimal128(number % 1000, 6), toDecimal128(number % 1000, 6), toDecimal128(number % 1000, 6) / 1000,
                'standard', if({month} > 6, 'v2', 'v1'), number % 50, [1, 2],
                [toDecimal128(number % 1000, 6), toDecimal128(0, 6)], [toDecimal128(0.001, 12), toDecimal128(0.0005, 12)],
                [toDecimal128(0, 6), toDecimal128(0, 6)], [toDecimal128(number % 1000, 18) / 1000, toDecimal128(0, 18)],
                [toDecimal128(number % 1000, 6), toDecimal128(0, 6)], ['', ''], if(number % 97 = 0, 'flat', 'usage'), 'graduated', 1
            FROM numbers({first}, {count})"""
    )
    client.command(
        "INSERT INTO hourly (customer, meter, hour, dimensions, quantity, events, late, version)"
        " SELECT customer, meter, hour, '{}', quantity, events, events % 3, 1 FROM charges"
        f" WHERE line = 'usage' AND period = '2025-{month:02}'"
    )


def _rest(client: Any) -> None:
    """What the server does by itself with months that nobody has written to for a day; nothing is merged after."""
    for table in ("charges", "hourly"):
        client.command(f"OPTIMIZE TABLE {table} FINAL")
        client.command(
            f"ALTER TABLE {table} MODIFY SETTING min_age_to_force_merge_seconds = 0,"
            " max_bytes_to_merge_at_min_space_in_pool = 1, max_bytes_to_merge_at_max_space_in_pool = 1"
        )


def _accounts(client: Any) -> None:
    client.command(
        "INSERT INTO catalog_customers SELECT customer, concat('Customer ', customer), if(cityHash64(customer) % 9 = 0,"
        " 'scale', 'developer'), any(currency), '', 1, '' FROM charges GROUP BY customer"
    )
    client.command(
        "INSERT INTO period_closes (customer, period, currency, rows, amount, version) SELECT customer, period, any(currency),"
        " count(), sum(amount), 1 FROM charges_current WHERE period < '2025-12' GROUP BY customer, period"
    )


def measure(client: Any) -> list[Measured]:
    """Each panel twice, the slowest first."""
    return sorted(_measured(client), reverse=True)


def _measured(client: Any) -> Iterator[Measured]:
    for board in load(HERE / GENERATED):
        chosen = selected(board)
        for name, value in {"customer": "c17", "period": "2025-11", "price": "price1"}.items():
            if isinstance(chosen.get(name), str):
                chosen[name] = value
        if chosen.get("meter") not in (None, [ALL]):
            chosen["meter"] = ["meter1"]
        for panel, target in targets(board):
            took = []
            for _ in range(2):
                began = time.perf_counter()
                run(client, panel, target, SPAN, chosen)
                took.append(time.perf_counter() - began)
            yield Measured(*took, f"{board['title']} / {panel['title']}")


def main() -> int:
    """Fill, measure, clean up."""
    parser = argparse.ArgumentParser(description=Path(__file__).stem)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--budget", type=float, default=BUDGET_SECONDS)
    given = parser.parse_args()
    url = settings().clickhouse()
    migrate(url, DATABASE)
    with connect(url, DATABASE, answer_seconds=1_800) as client:
        try:
            fill(client, given.rows)
            ((charges,),) = client.query("SELECT count() FROM charges").result_rows
            ((parts,),) = client.query(
                "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'charges' AND active"
            ).result_rows
            found = measure(client)
        finally:
            client.command(f"DROP DATABASE {DATABASE}")
    sys.stdout.write(f"{charges:,} charge rows in {parts} parts; budget {given.budget:g} s a panel\n")
    sys.stdout.write("    first   second\n")
    for one in found[:15]:
        judged = "over budget" if one.first > given.budget else ""
        sys.stdout.write(f"{one.first:7.2f} s {one.second:6.2f} s  {judged:12}{one.name}\n")
    over = [one for one in found if one.first > given.budget]
    sys.stdout.write(f"{len(found)} panels, {len(over)} over the budget\n")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
