"""What the books hold for a rehearsal: totals, watermarks, the catalogs that closed periods, backfills."""

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from metering.backfill.rehearsal import Moment, Terms
from metering.backfill.request import Identity
from metering.catalog.models import CatalogFile
from metering.catalog.resolved import Catalog, resolve
from metering.errors import UserError
from metering.records import HourlyTotal
from metering.settings import Settings
from metering.sinks.queries import Books
from metering.state.partitioning import partition_of
from metering.topics import Names

_BEGUN = (
    "SELECT k_partition, toUnixTimestamp64Milli(min(appended)) FROM events"
    " WHERE k_topic = {topic:String} GROUP BY k_partition"
)
_TOTALS = (
    "SELECT customer, meter, toUnixTimestamp(hour), dimensions, quantity, events, aggregation, value_keys,"
    " value_weights, toUnixTimestamp64Milli(last_time), last_id, digest FROM hourly_current"
    " WHERE customer IN {customers:Array(String)} AND hour >= {since:UInt32}"
)
_CLOSED = (
    "SELECT customer, period, toUInt32(bitAnd(version, toUInt128(4294967295))) FROM period_closes_current"
    " WHERE customer IN {customers:Array(String)}"
)
_STEPS = (
    "SELECT backfill, step, customer, mode, file, digest, scope, actor, reason,"
    " toUnixTimestamp64Milli(made), adds, voids, amends, restores, arrived"
    " FROM backfills WHERE {backfill:String} IN ('', backfill)"
    " ORDER BY made, backfill, step, customer"
)

_TOUCHED = (
    "SELECT DISTINCT customer, event_source, event_id FROM corrections_current"
    " WHERE backfill = {backfill:String} AND step = 'apply' UNION DISTINCT"
    " SELECT customer, event_source, event_id FROM backfilled_events WHERE backfill = {backfill:String}"
)

_OPERATIONS = (
    "SELECT step, what, customer, event_source, event_id, event_time FROM"
    " (SELECT step, what, customer, event_source, event_id, event_time FROM corrections_current"
    " WHERE backfill = {backfill:String} UNION ALL SELECT 'apply', 'add', customer, event_source, event_id,"
    " event_time FROM backfilled_events WHERE backfill = {backfill:String})"
    " ORDER BY step, what, customer, event_time, event_source, event_id LIMIT {limit:UInt32}"
)


class Part(NamedTuple):
    """One customer's part of a step of a backfill: what was announced, and how much of it has arrived."""

    backfill: str
    step: str
    customer: str
    mode: str
    file: str
    digest: str
    scope: str
    actor: str
    reason: str
    made: int  # epoch ms
    adds: int
    voids: int
    amends: int
    restores: int
    arrived: int

    @property
    def announced(self) -> int:
        """The number of operations that its record speaks of."""
        return self.adds + self.voids + self.amends + self.restores

    @property
    def is_complete(self) -> bool:
        """Whether all of them are in the archive, and were not refused."""
        return self.arrived >= self.announced


def parts_of(client: Any, backfill: str = "") -> list[Part]:
    """What is known of one backfill, or of all."""
    rows = client.query(_STEPS, parameters={"backfill": backfill}).result_rows
    return [Part(*row[:9], *(int(number) for number in row[9:])) for row in rows]


def operations_of(client: Any, backfill: str, limit: int) -> list[tuple[Any, ...]]:
    """What a backfill did: step, what, customer, source, event and its time."""
    return list(client.query(_OPERATIONS, parameters={"backfill": backfill, "limit": limit}).result_rows)


def touched_by(client: Any, backfill: str) -> list[Identity]:
    """The events that a backfill brought or corrected."""
    rows = client.query(_TOUCHED, parameters={"backfill": backfill}).result_rows
    return [(customer, source, name) for customer, source, name in rows]


class Ledger:
    """Reads over one blocking client, each catalog revision once."""

    def __init__(self, client: Any, settings: Settings, now: int) -> None:
        self._client, self._settings, self._now = client, settings, now
        rows = client.query(_BEGUN, parameters={"topic": Names(settings).events}).result_rows
        self._begun = {int(partition): int(first) for partition, first in rows}
        self._watermarks = Books(client).watermarks()
        self._contents: dict[int, CatalogFile] = {}
        self._parts: dict[tuple[str, int], Catalog] = {}  # by account and revision

    def moment(self, account: str) -> Moment:
        """How far time has come for an account."""
        partition = partition_of(account, self._settings.partitions)
        return Moment(self._begun.get(partition, self._now), self._now, self._watermarks.get(partition, 0))

    def totals(self, customers: Iterable[str], since: int) -> list[HourlyTotal]:
        """The hourly totals of some customers from an hour on (epoch s)."""
        parameters = {"customers": sorted(customers), "since": since}
        return [_total(*row) for row in self._client.query(_TOTALS, parameters=parameters).result_rows]

    def terms(self, accounts: Iterable[str], in_force: Catalog) -> dict[str, Terms]:
        """The terms of accounts now, and those that closed their periods."""
        found = {
            account: Terms(self._part_of(account, in_force.revision, in_force), {}) for account in accounts
        }
        customers = sorted(customer for account in found for customer in in_force.members(account))
        rows = self._client.query(_CLOSED, parameters={"customers": customers}).result_rows
        for customer, period, revision in rows if found else ():
            account = in_force.account_of(customer)
            found[account].closed[period] = self._part_of(account, int(revision), in_force)
        return found

    def _part_of(self, account: str, revision: int, in_force: Catalog) -> Catalog:
        """A catalog revision with the customers of one account alone."""
        if (account, revision) not in self._parts:
            is_now = revision == in_force.revision
            content = in_force.content if is_now else self._content(revision)
            members = tuple(c for c in content.customers if (c.pool or c.id) == account)
            part = content.model_copy(update={"customers": members})
            self._parts[account, revision] = resolve(part, revision)
        return self._parts[account, revision]

    def _content(self, revision: int) -> CatalogFile:
        if revision not in self._contents:
            rows = self._client.query(
                "SELECT content FROM catalog WHERE revision = {revision:UInt32} LIMIT 1",
                parameters={"revision": revision},
            ).result_rows
            if not rows:
                raise UserError(
                    f"the books hold no catalog revision {revision}, which closed a period",
                    hint="let the sink read the catalog topic from its beginning",
                )
            self._contents[revision] = CatalogFile.model_validate(json.loads(rows[0][0]))
        return self._contents[revision]


def _total(
    customer: str,
    meter: str,
    hour: int,
    dimensions: str,
    quantity: Decimal,
    events: int,
    kind: Any,
    keys: list[str],
    weights: list[Decimal],
    last_time: int,
    last_id: str,
    digest: str,
) -> HourlyTotal:
    texts = (str(w) if kind == "priced" else str(int(w)) for w in weights)
    plain = {
        "kind": "total",
        "customer": customer,
        "meter": meter,
        "hour": int(hour),
        "quantity": str(quantity),
        "events": int(events),
        "version": "0",
        "dimensions": json.loads(dimensions),
        "aggregation": kind,
        "values": dict(zip(keys, texts, strict=True)),
        "last": (int(last_time), last_id),
        "digest": digest,
    }
    return msgspec.convert(plain, HourlyTotal)
