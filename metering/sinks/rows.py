"""Records to rows: pure, one function a table, Decimals and zoned times."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from metering.catalog.resolved import Catalog, canonical
from metering.records import (
    Charge,
    DeadLetter,
    HourlyTotal,
    LetterAction,
    PeriodClose,
    Progress,
    RatingError,
    Record,
)
from metering.sinks.audit_rows import AUDIT_COLUMNS, audit_rows
from metering.sinks.quota_rows import QUOTA_COLUMNS

Row = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TableRow(NamedTuple):
    """One row and the table that it belongs to."""

    table: str
    row: Row


_COLUMNS = {
    "events": ("customer type time id source data k_topic k_partition k_offset k_index appended backfill"),
    "hourly": (
        "customer meter hour dimensions quantity events late version aggregation value_keys"
        " value_weights last_time last_id digest"
    ),
    "charges": (
        "customer period price hour meter currency quantity quantity_before quantity_after amount"
        " rounding card card_version events slice_tiers slice_units slice_unit_prices"
        " slice_flat_fees slice_amounts version slice_billed slice_labels effect_names effect_amounts"
        " line model digest corrects"
    ),
    "rating_errors": "customer period meter hour quantity reason detail version",
    "period_closes": (
        "customer period currency rows errors amount digest watermark version revision approval_events"
        " approval_sources approval_actors approval_reasons approval_times"
    ),
    "rejected": (
        "k_topic k_partition k_offset k_index appended reason detail customer event_id event_type"
        " payload version"
    ),
    "rejected_actions": (
        "k_topic k_partition k_offset k_index acted action actor reason sent_partition sent_offset version"
    ),
    "progress": (
        "fold partition next_offset watermark read accepted duplicates rejected late"
        " catalog_revision instance reported version"
    ),
    "catalog": "revision hash content",
    "catalog_customers": "customer name plan currency stripe_customer revision pool",
    "sink_progress": "sink k_topic k_partition next_offset",
}

COLUMNS: dict[str, list[str]] = {
    table: names.split() for table, names in {**_COLUMNS, **AUDIT_COLUMNS, **QUOTA_COLUMNS}.items()
}


def of_record(record: Record) -> TableRow | None:
    """The row of a record on one of our topics; a watermark has none."""
    make = _MAKERS.get(type(record))
    return make(record) if make else None


def of_catalog(catalog: Catalog) -> list[TableRow]:
    """The rows of a catalog revision."""
    content = json.dumps(canonical(catalog.content), sort_keys=True, ensure_ascii=False)
    rows = [TableRow("catalog", (catalog.revision, catalog.version, content))]
    for c in catalog.content.customers:
        plan, pool = c.phases[-1].plan, c.pool or ""
        row = (c.id, c.name, plan, c.currency, c.stripe_customer or "", catalog.revision, pool)
        rows.append(TableRow("catalog_customers", row))
    return rows + [TableRow(*row) for row in audit_rows(catalog)]


def _hourly(r: HourlyTotal) -> TableRow:
    dimensions = json.dumps(r.dimensions, sort_keys=True, ensure_ascii=False)
    numbers = (Decimal(r.quantity), r.events, r.late, int(r.version))
    weights = [Decimal(weight) for weight in r.values.values()]
    state = (r.aggregation, list(r.values), weights, _time(r.last[0]), r.last[1], r.digest)
    return TableRow("hourly", (r.customer, r.meter, _hour(r.hour), dimensions, *numbers, *state))


def _charge(r: Charge) -> TableRow:
    row = (
        r.customer,
        r.period,
        r.price,
        _hour(r.hour),
        r.meter,
        r.currency,
        Decimal(r.quantity),
        Decimal(r.quantity_before),
        Decimal(r.quantity_after),
        Decimal(r.amount),
        Decimal(r.rounding),
        r.card,
        r.card_version,
        r.events,
        [s.tier for s in r.slices],
        [Decimal(s.units) for s in r.slices],
        [Decimal(s.unit_price) for s in r.slices],
        [Decimal(s.flat_fee) for s in r.slices],
        [Decimal(s.amount) for s in r.slices],
        int(r.version),
        [Decimal(s.billed or s.units) for s in r.slices],
        [s.label for s in r.slices],
        [e.name for e in r.effects],
        [Decimal(e.amount) for e in r.effects],
        r.line,
        r.model,
        r.digest,
        r.corrects,
    )
    return TableRow("charges", row)


def _error(r: RatingError) -> TableRow:
    facts = (Decimal(r.quantity), r.reason, r.detail, int(r.version))
    return TableRow("rating_errors", (r.customer, r.period, r.meter, _hour(r.hour), *facts))


def _close(r: PeriodClose) -> TableRow:
    numbers = (r.rows, r.errors, Decimal(r.amount), r.digest, _time(r.watermark), int(r.version))
    approvals = [[a.event_id, a.source, a.actor, a.reason, _time(a.at)] for a in r.approvals]
    columns = [list(column) for column in zip(*approvals, strict=True)] or [[]] * 5
    return TableRow("period_closes", (r.customer, r.period, r.currency, *numbers, r.revision, *columns))


def _letter(r: DeadLetter) -> TableRow:
    place = (r.topic, r.partition, r.offset, r.index, _time(r.appended))
    # ClickHouse strings are bytes; text would have to be valid UTF-8.
    facts = (r.reason, r.detail, r.customer, r.event_id, r.event_type, r.payload, int(r.version))
    return TableRow("rejected", (*place, *facts))


def _action(r: LetterAction) -> TableRow:
    facts = (_time(r.at), r.action, r.actor, r.reason, r.sent_partition, r.sent_offset, int(r.version))
    return TableRow("rejected_actions", (r.topic, r.partition, r.offset, r.index, *facts))


def _progress(r: Progress) -> TableRow:
    counters = (r.read, r.accepted, r.duplicates, r.rejected, r.late)
    # Positions only grow; at one position the latest report wins.
    version = (r.epoch << 112) | (r.offset << 48) | r.at
    row = (
        r.fold,
        r.partition,
        r.offset,
        _time(r.watermark),
        *counters,
        r.catalog_revision,
        r.instance,
        _time(r.at),
        version,
    )
    return TableRow("progress", row)


_MAKERS: dict[type, Any] = {
    HourlyTotal: _hourly,
    Charge: _charge,
    RatingError: _error,
    PeriodClose: _close,
    DeadLetter: _letter,
    LetterAction: _action,
    Progress: _progress,
}


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _hour(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
