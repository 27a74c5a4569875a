"""What-if over a whole month of many customer-meters: `python -m tests.bench.bench_whatif`.

Fills a scratch database with hourly totals made by ClickHouse itself, then rates the month again under
a catalog with other prices, as `metering whatif` does, catalog files included.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from metering.catalog.load import load_folder
from metering.catalog.resolved import canonical
from metering.local import parts
from metering.settings import settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.state.calendar import period
from metering.whatif import what_if

DATABASE = "bench_whatif"
PERIOD = "2026-10"
CARDS = """
meters:
  - {{id: calls, event_type: call, aggregation: count}}
  - {{id: bytes, event_type: call, aggregation: sum, value: n}}
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2026-01-01T00:00:00Z
        prices: &prices
          - id: calls
            meter: calls
            model: graduated
            tiers: [{{up_to: 1000, unit_price: "{price}"}}, {{unit_price: "0.0008"}}]
          - id: bytes
            meter: bytes
            model: volume
            tiers: [{{up_to: 100000, unit_price: "0.00001"}}, {{unit_price: "0.000008"}}]
      - {{from: 2026-10-16T00:00:00Z, prices: *prices}}
plans: [{{id: plan, name: Plan, rate_card: card}}]
"""


def write_catalog(folder: Path, customers: int, price: str) -> None:
    """A catalog of many customers, as files."""
    (folder / "cards.yaml").write_text(CARDS.format(price=price))
    lines = [
        f"  - {{id: c{n}, name: C{n}, plan: plan, currency: USD, start: 2026-01-01T00:00:00Z}}"
        for n in range(customers)
    ]
    (folder / "customers.yaml").write_text("customers:\n" + "\n".join(lines) + "\n")


def main() -> int:
    """Run it and print one table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--customers", type=int, default=50_000)
    options.add_argument("--hours", type=int, default=744, help="hours with usage in the month")
    options.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    chosen = options.parse_args()
    own = settings()
    parts.up(own, Console(stderr=True).print)
    with connect(own.clickhouse(), "default") as server:
        server.command(f"DROP DATABASE IF EXISTS {DATABASE}")
    migrate(own.clickhouse(), DATABASE)
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, connect(own.clickhouse(), DATABASE) as client:
        folder = Path(name)
        write_catalog(folder, chosen.customers, "0.001")
        old = load_folder(folder)
        content = json.dumps(canonical(old.content))
        client.insert("catalog", [(1, old.version, content)], column_names=["revision", "hash", "content"])
        began = time.perf_counter()
        for meter in ("calls", "bytes"):
            client.command(
                "INSERT INTO hourly (customer, meter, hour, dimensions, quantity, events, version)"
                f" SELECT concat('c', toString(intDiv(number, {chosen.hours}))), '{meter}',"
                f" toDateTime('2026-10-01 00:00:00', 'UTC') + (number % {chosen.hours}) * 3600, '{{}}',"
                f" number % 97, 1, 1 FROM numbers({chosen.customers * chosen.hours})"
            )
        times["fill"] = time.perf_counter() - began
        write_catalog(folder, chosen.customers, "0.0009")
        began = time.perf_counter()
        new = load_folder(folder)
        times["read the catalog"] = time.perf_counter() - began
        began = time.perf_counter()
        found = what_if(client, new, period(PERIOD))
        times["what-if"] = time.perf_counter() - began
        client.command(f"DROP DATABASE {DATABASE}")
    rows = 2 * chosen.customers * chosen.hours
    table = Table(
        "Step", "Seconds", title=f"{2 * chosen.customers:,} customer-meters, {rows:,} hourly totals"
    )
    for step, seconds in times.items():
        table.add_row(step, f"{seconds:.1f}")
    table.add_section()
    table.add_row("old in all", f"{sum(found.table['old']):,.6f}")
    table.add_row("new in all", f"{sum(found.table['new']):,.6f}")
    Console().print(table)
    if chosen.json is not None:
        figures = {"customer_meters": 2 * chosen.customers, "rows": rows, **times}
        chosen.json.write_text(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
