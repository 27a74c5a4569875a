"""What a catalog revision says, written down for the audit in SQL: meters, spans and prices as numbers."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from metering.catalog.resolved import Catalog, Meter
from metering.rating.cards import Price, Tier
from metering.rating.terms import Agreement, Span, Terms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPEN = datetime(2106, 1, 1, tzinfo=UTC)  # within a DateTime of 32 bits
_OPEN_TIER = 10**38
_NONE = -1
COVERED_MODELS = frozenset(
    "unit graduated volume package graduated_package stairstep stairstep_accumulate percentage".split()
)
_COVERED_KINDS = frozenset({"sum", "count"})
_COVERED_SCOPES = frozenset({"hour", "day", "period"})

AUDIT_COLUMNS = {
    "audit_meters": (
        "revision meter event_type aggregation value_path filter_paths filter_values dimension_names"
        " dimension_paths starts"
    ),
    "audit_spans": "revision customer account starts ends window card_version is_covered",
    "audit_prices": (
        "revision card_version price model scope is_covered meters weights where_names where_values"
        " cell_dimensions cells tier_cells tier_froms tier_tos tier_prices tier_fees package min_packages"
        " included event_fee conversion maximum percent_off amount_off cap"
    ),
}


class AuditRow(NamedTuple):
    """One row and the table that it belongs to."""

    table: str
    row: tuple[Any, ...]


def audit_rows(catalog: Catalog) -> list[AuditRow]:
    """Everything that the audit needs of a revision."""
    rows = [_meter(catalog.revision, meter) for m in catalog.content.meters if (meter := catalog.meter(m.id))]
    agreements: dict[int, Agreement] = {}
    for account, members in catalog.accounts().items():
        for terms in members.values():
            agreements[id(terms.agreement)] = terms.agreement
            rows += _spans(catalog.revision, account, terms)
    versions = {s.origin.version: s for a in agreements.values() for s in a.spans}
    for span in versions.values():
        rows += [_price(catalog, span, name, price) for name, price in span.prices.items()]
    return rows


def _meter(revision: int, m: Meter) -> AuditRow:
    paths = [list(path) for path, _ in m.filters]
    values = [sorted(wanted) for _, wanted in m.filters]
    starts = _EPOCH + timedelta(milliseconds=m.start_ms)
    dimensions = (list(m.dimensions), [list(path) for path in m.dimension_paths])
    kind = (m.id, m.event_type, m.aggregation, list(m.value_path))
    return AuditRow("audit_meters", (revision, *kind, paths, values, *dimensions, starts))


def _spans(revision: int, account: str, terms: Terms) -> list[AuditRow]:
    covered = all(span.change != "retroactive" for span in terms.agreement.spans)
    rows, window = [], _EPOCH
    for span in terms.agreement.spans:
        starts = _time(span.starts)
        window = starts if span.change == "reset" else window
        ends = _OPEN if span.ends is None else _time(span.ends)
        place = (revision, terms.customer, account, starts, ends, window)
        rows.append(AuditRow("audit_spans", (*place, span.origin.version, int(covered))))
    return rows


def _price(catalog: Catalog, span: Span, name: str, price: Price) -> AuditRow:
    tiers = _tiers(price)
    row = (
        catalog.revision,
        span.origin.version,
        name,
        price.model,
        price.scope,
        int(is_covered(catalog, price)),
        [meter for meter, _ in price.meters],
        [weight for _, weight in price.meters],
        [dimension for dimension, _ in price.where],
        [sorted(wanted) for _, wanted in price.where],
        list(price.dimensions),
        [["*" if value is None else value for value in cell.when] for cell in price.cells],
        [cell for cell, _, _ in tiers],
        [start for _, start, _ in tiers],
        [_OPEN_TIER if tier.up_to is None else tier.up_to for _, _, tier in tiers],
        [tier.unit_price for _, _, tier in tiers],
        [tier.flat_fee for _, _, tier in tiers],
        price.package,
        price.min_packages,
        price.included,
        price.event.fixed,
        price.conversion,
        _NONE if price.maximum is None else price.maximum,
        sum(discount.percent for discount in price.discounts),
        sum(discount.amount for discount in price.discounts),
        _NONE if price.cap is None else price.cap,
    )
    return AuditRow("audit_prices", row)


def is_covered(catalog: Catalog, price: Price) -> bool:
    """Whether the audit recomputes a price: additive models over sums and counts, not prorated."""
    meters = [catalog.meter(meter) for meter, _ in price.meters]
    limited = price.event.minimum is not None or price.event.maximum is not None
    return (
        price.model in COVERED_MODELS
        and price.scope in _COVERED_SCOPES
        and price.proration == "none"
        and not limited
        and all(m is not None and m.aggregation in _COVERED_KINDS for m in meters)
    )


def _tiers(price: Price) -> list[tuple[int, int, Tier]]:
    """Each tier with the number of its cell (1 without a matrix) and where it begins."""
    found = []
    lists = [cell.tiers for cell in price.cells] or [price.tiers]
    for number, tiers in enumerate(lists, 1):
        start = 0
        for tier in tiers:
            found.append((number, start, tier))
            start = tier.up_to or 0
    return found


def _time(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
