"""Rating without Kafka or ClickHouse: events from a file, through the same measures and the same engine."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from metering.catalog.resolved import Catalog
from metering.errors import UserError
from metering.events import Refusal, UsageEvent, decode_values
from metering.rating.period import rate_period
from metering.rating.rows import ChargeRow, Unpriced
from metering.rating.usage import Dimensions, HourUse
from metering.state.calendar import hour_of, period, period_of
from metering.state.dedupe import content_of, fingerprint
from metering.state.measure import Measure, measure
from metering.state.totals import DIGESTS, Total, record_of, usage_of

_EVENT_FIELDS = ("id", "customer", "type", "time", "source")


class Rejected(NamedTuple):
    """An event of the file that is not counted: its line, and why."""

    line: int
    reason: str
    detail: str


class Offline(NamedTuple):
    """What a file comes to; `periods` are those it has usage in."""

    rows: dict[str, list[ChargeRow]]
    unpriced: list[Unpriced]
    rejected: list[Rejected]
    events: int
    duplicates: int


def rate_file(catalog: Catalog, name: str, raw: bytes, only: str = "") -> Offline:
    """Rate the events of JSON lines or CSV; `only` is a period such as `2026-11`.

    Each period is rated as closed: fees, discounts and minimum commitments included.
    """
    values = _csv_values(name, raw) if name.endswith(".csv") else _json_values(raw)
    counter = _Counter(catalog, only)
    for item in decode_values([value for _, value in values]):
        counter.take(values[item.value][0], item.event)
    rows: dict[str, list[ChargeRow]] = {}
    unpriced: list[Unpriced] = []
    for period_name in sorted(counter.periods | ({only} if only else set())):
        rated, missing = _rate(catalog, counter.uses(), period_name)
        rows[period_name] = rated
        unpriced += missing
    return Offline(rows, unpriced, counter.rejected, counter.events, counter.duplicates)


class _Counter:
    """Hourly totals of the events seen so far, each event once."""

    def __init__(self, catalog: Catalog, only: str) -> None:
        self._catalog, self._only = catalog, only
        self._totals: dict[tuple[str, str, Dimensions, int], Total] = {}
        self._seen: dict[bytes, int] = {}
        self.rejected: list[Rejected] = []
        self.periods: set[str] = set()
        self.events = self.duplicates = 0

    def take(self, line: int, event: UsageEvent | Refusal) -> None:
        self.events += 1
        found = event if isinstance(event, Refusal) else measure(event, self._catalog)
        if isinstance(found, Refusal):
            self.rejected.append(Rejected(line, found.reason, found.detail))
            return
        assert isinstance(event, UsageEvent), "a refusal has no measures"
        identity = fingerprint(event.customer, event.source, event.id)
        content, first = content_of(event), self._seen.get(identity)
        if first is not None and first != content:
            self.rejected.append(Rejected(line, "conflict", f"`{event.id}` came before with other content."))
        if first is not None:
            self.duplicates += first == content
            return
        self._seen[identity] = content
        self._add(event, found, int.from_bytes(identity[:8]))

    def _add(self, event: UsageEvent, measures: Iterable[Measure], digest: int) -> None:
        hour = hour_of(event.at)
        if self._only not in ("", period_of(hour)):
            return
        self.periods.add(period_of(hour))
        for found in measures:
            place = (event.customer, found.meter.id, found.dimensions, hour)
            total = self._totals.setdefault(place, Total(found.meter.aggregation))
            total.add(found, event)
            total.digest = (total.digest + digest) % DIGESTS

    def uses(self) -> Iterator[HourUse]:
        for (customer, meter, dimensions, hour), total in self._totals.items():
            usage = usage_of(record_of(total, customer, meter, dimensions, hour, "0"))
            yield HourUse(hour, customer, meter, dimensions, usage, total.digest)


def _rate(catalog: Catalog, uses: Iterable[HourUse], name: str) -> tuple[list[ChargeRow], list[Unpriced]]:
    by_account: defaultdict[str, list[HourUse]] = defaultdict(list)
    for use in uses:
        if period_of(use.hour) == name:
            by_account[catalog.account_of(use.customer)].append(use)
    rows: list[ChargeRow] = []
    unpriced: list[Unpriced] = []
    for account, members in sorted(catalog.accounts().items()):
        rated = rate_period(members, by_account.get(account, ()), period(name), closing=True)
        rows += rated.rows
        unpriced += rated.unpriced
    return rows, unpriced


def _json_values(raw: bytes) -> list[tuple[int, bytes]]:
    return [(number, line) for number, line in enumerate(raw.splitlines(), 1) if line.strip()]


def _csv_values(name: str, raw: bytes) -> list[tuple[int, bytes]]:
    """Columns id, customer, type, time and optionally source; every other one is a field of `data`."""
    try:
        reader = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""))
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8: {error.reason}", hint="save it as UTF-8") from error
    missing = [field for field in _EVENT_FIELDS[:4] if field not in (reader.fieldnames or ())]
    if missing:
        raise UserError(
            f"{name}:1: no column {', '.join(missing)}", hint="name the columns id, customer, type, time, …"
        )
    return [(reader.line_num, json.dumps(_csv_event(row)).encode()) for row in reader]


def _csv_event(row: dict[str, str]) -> dict[str, Any]:
    event: dict[str, Any] = {field: row[field] for field in _EVENT_FIELDS if row.get(field)}
    if str(event.get("time", "")).isdigit():
        event["time"] = int(event["time"])
    data: dict[str, Any] = {}
    for path, value in row.items():
        if path in _EVENT_FIELDS or value in (None, "") or path is None:
            continue
        place = data
        *steps, last = path.split(".")
        for step in steps:
            place = place.setdefault(step, {})
        place[last] = value
    return {**event, "data": data}
