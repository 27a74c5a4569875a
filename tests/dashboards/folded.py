"""The demo's books without its processes: the same traffic, catalog and folds, written row by row."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metering.catalog.load import load_folder
from metering.demo.traffic import PERIOD, traffic
from metering.records import Progress, decode
from metering.sinks.archive import archived
from metering.sinks.rows import COLUMNS, TableRow, of_catalog, of_record
from metering.state.calendar import period_end
from tests.state.folding import HOUR, NOW, chunk, meter_fold, rate_fold, tick

_BLOCK = 20_000
_CLOSED = period_end(PERIOD) + 25 * HOUR  # a day of grace, and the hour that is then over


def demo_rows(example: Path) -> list[TableRow]:
    """Every row that the sink of the demo would store."""
    catalog = load_folder(example / "catalog")
    values = [sent.value for sent in traffic(example / "data").records] + [tick(NOW - _CLOSED)]
    log = chunk(0, values)
    meter, rate = meter_fold(), rate_fold()
    meter.adopt(catalog)
    rate.adopt(catalog)
    meter.fold([log], catalog)
    counted = meter.changes()
    assert counted is not None
    hourly = [output for output in counted.outputs if output.topic == "hourly"]
    rate.fold([chunk(0, [output.value for output in hourly])], catalog)
    rated = rate.changes()
    assert rated is not None
    c = meter.counters
    report = Progress(
        "meter",
        0,
        1,
        len(values),
        _CLOSED,
        c.read,
        c.accepted,
        c.duplicates,
        c.rejected,
        c.late,
        1,
        "worker-1",
        NOW,
    )
    rows = [of_record(decode(output.value)) for output in [*counted.outputs, *rated.outputs] if output.value]
    archive = [TableRow("events", row) for row in archived([log], "usage.events", 0)]
    return [row for row in [*rows, of_record(report)] if row] + archive + of_catalog(catalog)


def write(client: Any, rows: Iterable[TableRow]) -> None:
    """Replace what the tables hold."""
    tables: defaultdict[str, list[Any]] = defaultdict(list)
    for table, row in rows:
        tables[table].append(row)
    for table, held in tables.items():
        client.command(f"TRUNCATE TABLE {table}")
        for first in range(0, len(held), _BLOCK):
            client.insert(table, held[first : first + _BLOCK], column_names=COLUMNS[table])


def invoice_closes(client: Any) -> None:
    """What billing sync exports when every close is invoiced."""
    client.command(
        "INSERT INTO billing_invoices SELECT concat('inv-', customer), customer, period, currency, 'finalized', '', '', '',"
        " amount, toDecimal128(toDecimal64(amount, 2), 6), 0, amount - toDecimal64(amount, 2), now(), 1, 'paid', now()"
        " FROM period_closes_current"
    )
