"""The catalog as the folds use it: frozen, with lookups that cost one dictionary access."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from metering.catalog.agreements import Agreements
from metering.catalog.limits import NO_LIMITS, Limits, grant_of
from metering.catalog.models import CatalogFile, CustomerFile, LatePolicy, MeterFile
from metering.quota.grants import Grant
from metering.quota.limits import Limit, Timeline
from metering.rating.money import parse_decimal
from metering.rating.terms import Agreement, Terms
from metering.rating.usage import Aggregation

_EARLY = datetime(1970, 1, 1, tzinfo=UTC)
_NO_MEMBERS: Mapping[str, Terms] = {}
_NOT_PRICES = {
    "id": "-",
    "name": "-",
    "pool": None,
    "stripe_customer": None,
    "limits": (),
    "zone": "UTC",
    "billing_day": 1,
}


@dataclass(frozen=True, slots=True)
class Meter:
    """What is measured; paths are steps inside the event's `data`, `start_ms` its first epoch ms.

    `filters` are paths with the values that count. `max_unit_price` (10^-12) bounds a price that
    stands on the event.
    """

    id: str
    event_type: str
    aggregation: Aggregation
    value_path: tuple[str, ...]
    price_path: tuple[str, ...]
    max_unit_price: int
    filters: tuple[tuple[tuple[str, ...], frozenset[str]], ...]
    dimensions: tuple[str, ...]
    dimension_paths: tuple[tuple[str, ...], ...]
    unit: str
    scale: int
    start_ms: int
    late: LatePolicy


@dataclass(frozen=True, slots=True)
class Customer:
    """Who is charged; usage counts from `start_ms` until `end_ms` (epoch ms).

    `account` is the pool that it is rated with, or the customer; it is also the key of its events.
    """

    id: str
    name: str
    account: str
    currency: str
    start_ms: int
    end_ms: int | None


@dataclass(frozen=True)
class Catalog:
    """One revision of the catalog; `version` is the hash of its content.

    `revision` is its offset in the catalog topic plus one, 0 for a catalog read from files.
    """

    content: CatalogFile
    version: str
    revision: int = 0
    _by_type: dict[str, tuple[Meter, ...]] = field(default_factory=dict)
    _meters: dict[str, Meter] = field(default_factory=dict)
    _customers: dict[str, Customer] = field(default_factory=dict)
    _members: dict[str, dict[str, Terms]] = field(default_factory=dict)
    _timelines: dict[str, Timeline] = field(default_factory=dict)
    _grants: dict[str, tuple[Grant, ...]] = field(default_factory=dict)

    @property
    def event_types(self) -> Collection[str]:
        """The types of events that meters read."""
        return self._by_type.keys()

    def meters_for(self, event_type: str) -> tuple[Meter, ...]:
        """The meters that read events of this type; empty when none does."""
        return self._by_type.get(event_type, ())

    def meter(self, meter_id: str) -> Meter | None:
        """A meter by id."""
        return self._meters.get(meter_id)

    def customer(self, customer_id: str) -> Customer | None:
        """A customer by id."""
        return self._customers.get(customer_id)

    def account_of(self, customer_id: str) -> str:
        """The pool of a customer, or the customer: what is rated together."""
        customer = self._customers.get(customer_id)
        return customer.account if customer is not None else customer_id

    def members(self, account: str) -> Mapping[str, Terms]:
        """The terms of an account's customers; empty when there is none."""
        return self._members.get(account, _NO_MEMBERS)

    def accounts(self) -> Mapping[str, Mapping[str, Terms]]:
        """All accounts with the terms of their customers."""
        return self._members

    def terms(self, customer_id: str) -> Terms | None:
        """The terms of a customer."""
        return self.members(self.account_of(customer_id)).get(customer_id)

    def limits_of(self, customer_id: str, at: int) -> tuple[Limit, ...]:
        """The limits of a customer at an instant (epoch ms): its own, then those of its pool."""
        own = self.timeline(customer_id).at(at)
        account = self.account_of(customer_id)
        return own if account == customer_id else own + self.timeline(account).at(at)

    def timeline(self, scope: str) -> Timeline:
        """The limits of a customer by itself, or those that the members of a pool share."""
        return self._timelines.get(scope, NO_LIMITS)

    def limited(self) -> frozenset[str]:
        """The accounts of which a customer or the pool has a limit."""
        return frozenset(self.account_of(scope) for scope in self._timelines)

    def grants_of(self, scope: str) -> tuple[Grant, ...]:
        """The grants of a customer or a pool."""
        return self._grants.get(scope, ())


def resolve(content: CatalogFile, revision: int = 0) -> Catalog:
    """Build the lookups of a checked catalog."""
    meters = {m.id: _meter(m) for m in content.meters}
    by_type: dict[str, tuple[Meter, ...]] = {}
    for meter in meters.values():
        by_type[meter.event_type] = (*by_type.get(meter.event_type, ()), meter)
    agreements = Agreements(content)
    members: defaultdict[str, dict[str, Terms]] = defaultdict(dict)
    for c in sorted(content.customers, key=lambda customer: customer.id):
        ends = int(c.end.timestamp()) if c.end is not None else None
        members[c.pool or c.id][c.id] = Terms(c.id, int(c.start.timestamp()), ends, agreements.of(c))
    return Catalog(
        content=content,
        version=content_hash(content),
        revision=revision,
        _by_type=by_type,
        _meters=meters,
        _customers={c.id: _customer(c) for c in content.customers},
        _members=dict(members),
        _timelines=_timelines(content),
        _grants=_grants(content),
    )


def _timelines(content: CatalogFile) -> dict[str, Timeline]:
    limits = Limits(content)
    found = {pool.id: limits.of_pool(pool) for pool in content.pools}
    found |= {customer.id: limits.of(customer) for customer in content.customers}
    return {scope: timeline for scope, timeline in found.items() if timeline is not NO_LIMITS}


def _grants(content: CatalogFile) -> dict[str, tuple[Grant, ...]]:
    found: dict[str, tuple[Grant, ...]] = {}
    for grant in map(grant_of, content.grants):
        found[grant.scope] = (*found.get(grant.scope, ()), grant)
    return found


def excerpt(catalog: Catalog, customer_id: str) -> bytes:
    """What decides a customer's agreement, as JSON: equal terms have equal text.

    With it the agreement can be rebuilt when the catalog has long moved on.
    """
    content = catalog.content
    customer = next(c for c in content.customers if c.id == customer_id)
    plans = [p for p in content.plans if p.id in {phase.plan for phase in customer.phases}]
    cards = {plan.rate_card for plan in plans}
    anonymous = customer.model_copy(update=_NOT_PRICES)
    if customer.plan is not None:  # one plan from the start: when that was changes no version
        anonymous = anonymous.model_copy(update={"start": _EARLY, "end": None})
    part = CatalogFile.model_construct(
        None,
        units=content.units,
        rate_cards=tuple(card for card in content.rate_cards if card.id in cards),
        plans=tuple(_priced(p) for p in plans),
        contracts=tuple(_priced(c) for c in content.contracts if c.id == customer.contract),
        customers=(anonymous,),
    )
    return json.dumps(canonical(part), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _priced(item: Any) -> Any:
    """A plan or contract without its limits: they change no charge."""
    return item.model_copy(update={"limits": ()}) if item.limits else item


def agreement_of(raw: bytes) -> Agreement:
    """The agreement of an excerpt."""
    content = CatalogFile.model_validate(json.loads(raw))
    return Agreements(content).of(content.customers[0])


def canonical(content: CatalogFile) -> dict[str, Any]:
    """The content as plain JSON values, ordered by id: equal catalogs have equal text."""
    plain: dict[str, Any] = content.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {kind: sorted(items, key=lambda item: item["id"]) for kind, items in plain.items()}


def content_hash(content: CatalogFile) -> str:
    """sha256 of the canonical content."""
    text = json.dumps(canonical(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _meter(m: MeterFile) -> Meter:
    return Meter(
        id=m.id,
        event_type=m.event_type,
        aggregation=m.aggregation,
        value_path=_steps(m.value),
        price_path=_steps(m.unit_price),
        max_unit_price=parse_decimal(m.max_unit_price or "0", 12),
        filters=tuple((_steps(path), frozenset(values)) for path, values in sorted(m.filters.items())),
        dimensions=m.dimensions,
        dimension_paths=tuple(_steps(d) for d in m.dimensions),
        unit=m.unit,
        scale=m.scale,
        start_ms=int(m.starts.timestamp()) * 1_000 if m.starts else 0,
        late=m.late,
    )


def _steps(path: str | None) -> tuple[str, ...]:
    return tuple(path.split(".")) if path else ()


def _customer(c: CustomerFile) -> Customer:
    start_ms = int(c.start.timestamp()) * 1_000
    end_ms = int(c.end.timestamp()) * 1_000 if c.end is not None else None
    return Customer(c.id, c.name, c.pool or c.id, c.currency, start_ms, end_ms)
