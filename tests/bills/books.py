"""Books without a pipeline: charges rated from a file, or made by hand, stored as the sink stores them."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from metering.catalog.load import load_folder, load_texts
from metering.catalog.resolved import Catalog
from metering.offline import rate_file
from metering.rating.money import MICRO, format_exact
from metering.rating.rows import ChargeRow
from metering.records import Charge, HourlyTotal, Record, version
from metering.settings import Settings
from metering.sinks.migrate import migrate
from metering.sinks.rows import TableRow, of_catalog, of_record
from metering.sinks.writer import Origin, Writer
from metering.state.postings import charge_record

ROOT = Path(__file__).parent.parent.parent
STAMP = str(version(1, 10))
_batches = iter(range(1_000_000))


def store(settings: Settings, rows: Iterable[TableRow]) -> None:
    """Write rows with a token of their own."""

    async def work() -> None:
        writer = Writer(settings.clickhouse(), settings.database)
        try:
            number = next(_batches)
            await writer.write(list(rows), Origin("test", 0, number, number))
        finally:
            await writer.close()

    asyncio.run(work())


def rows_of(records: Iterable[Record]) -> list[TableRow]:
    return [row for record in records if (row := of_record(record)) is not None]


def put(settings: Settings, catalog: Catalog, file: str, usage: bytes) -> list[Record]:
    """Migrate, and store a catalog with the totals and charges that usage comes to."""
    rated = rate_file(catalog, file, usage)
    assert not rated.rejected, rated.rejected
    records: list[Record] = []
    for period, rows in rated.rows.items():
        for row in rows:
            records += _records(row, period)
    migrate(settings.clickhouse(), settings.database)
    store(settings, [*of_catalog(catalog), *rows_of(records)])
    return records


def _records(row: ChargeRow, period: str) -> list[Record]:
    charge = charge_record(row, period)
    found: list[Record] = [type(charge)(**{**_fields(charge), "version": STAMP})]
    if row.meter:
        quantity = format_exact(row.quantity, MICRO)
        found.append(HourlyTotal(row.customer, row.meter, row.hour, quantity, row.events, STAMP))
    return found


def _fields(charge: Charge) -> dict[str, object]:
    return {name: getattr(charge, name) for name in charge.__struct_fields__}


def changed(charge: Charge, **values: object) -> Charge:
    return Charge(**{**_fields(charge), **values})  # type: ignore[arg-type]


def saas(settings: Settings) -> list[Record]:
    """The example of a software company, October 2026."""
    folder = ROOT / "examples" / "saas"
    catalog = load_folder(folder / "catalog")
    return put(settings, catalog, "usage.jsonl", (folder / "usage.jsonl").read_bytes())


def catalog_of(text: str) -> Catalog:
    return load_texts({"catalog.yaml": text})
