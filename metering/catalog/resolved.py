"""The catalog as the folds use it: frozen, with lookups that cost one dictionary access."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from metering.catalog.models import CatalogFile, PriceFile, RateCardFile, VersionFile
from metering.rating import Price, Segment, Tier
from metering.rating.money import MICRO, parse_decimal

_SHORT_HASH = 12


@dataclass(frozen=True, slots=True)
class Meter:
    """What is measured; paths are steps inside the event's `data`, `start_ms` its first epoch ms."""

    id: str
    event_type: str
    aggregation: str
    value_path: tuple[str, ...]
    dimensions: tuple[str, ...]
    dimension_paths: tuple[tuple[str, ...], ...]
    unit: str
    scale: int
    start_ms: int


@dataclass(frozen=True, slots=True)
class Customer:
    """Who is charged; `start_ms` is the epoch ms of the first usage that counts."""

    id: str
    name: str
    plan: str
    currency: str
    start_ms: int
    stripe_customer: str | None


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
    _plan_cards: dict[str, str] = field(default_factory=dict)
    _segments: dict[tuple[str, str], tuple[Segment, ...]] = field(default_factory=dict)
    _free: dict[tuple[str, str], tuple[tuple[int, int | None], ...]] = field(default_factory=dict)

    def meters_for(self, event_type: str) -> tuple[Meter, ...]:
        """The meters that read events of this type; empty when none does."""
        return self._by_type.get(event_type, ())

    def meter(self, meter_id: str) -> Meter | None:
        """A meter by id."""
        return self._meters.get(meter_id)

    def customer(self, customer_id: str) -> Customer | None:
        """A customer by id."""
        return self._customers.get(customer_id)

    def segments(self, customer_id: str, meter_id: str) -> tuple[Segment, ...]:
        """The prices of a customer's meter in time order; empty where it has none."""
        return self._segments.get((self._card_of(customer_id), meter_id), ())

    def is_not_charged(self, customer_id: str, meter_id: str, hour: int) -> bool:
        """Whether the card in force at `hour` (epoch s) says that this meter costs nothing."""
        spans = self._free.get((self._card_of(customer_id), meter_id), ())
        return any(start <= hour and (end is None or hour < end) for start, end in spans)

    def _card_of(self, customer_id: str) -> str:
        customer = self._customers.get(customer_id)
        return self._plan_cards.get(customer.plan, "") if customer else ""


def resolve(content: CatalogFile, revision: int = 0) -> Catalog:
    """Build the lookups of a checked catalog."""
    meters = {m.id: _meter(m) for m in content.meters}
    by_type: dict[str, tuple[Meter, ...]] = {}
    for meter in meters.values():
        by_type[meter.event_type] = (*by_type.get(meter.event_type, ()), meter)
    segments: dict[tuple[str, str], tuple[Segment, ...]] = {}
    free: dict[tuple[str, str], tuple[tuple[int, int | None], ...]] = {}
    for card in content.rate_cards:
        for version, ends in _with_ends(card):
            for price in version.prices:
                place = (card.id, price.meter)
                segment = _segment(card, version, ends, price)
                segments[place] = (*segments.get(place, ()), segment)
            for meter_id in version.not_charged:
                place = (card.id, meter_id)
                free[place] = (*free.get(place, ()), (_seconds(version), ends))
    return Catalog(
        content=content,
        version=content_hash(content),
        revision=revision,
        _by_type=by_type,
        _meters=meters,
        _customers={c.id: _customer(c) for c in content.customers},
        _plan_cards={p.id: p.rate_card for p in content.plans},
        _segments=segments,
        _free=free,
    )


def canonical(content: CatalogFile) -> dict[str, Any]:
    """The content as plain JSON values, ordered by id: equal catalogs have equal text."""
    plain: dict[str, Any] = content.model_dump(mode="json", by_alias=True)
    return {kind: sorted(items, key=lambda item: item["id"]) for kind, items in plain.items()}


def content_hash(content: CatalogFile) -> str:
    """sha256 of the canonical content."""
    return _hash(canonical(content))


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _meter(m: Any) -> Meter:
    return Meter(
        id=m.id,
        event_type=m.event_type,
        aggregation=m.aggregation,
        value_path=tuple(m.value.split(".")) if m.value else (),
        dimensions=m.dimensions,
        dimension_paths=tuple(tuple(d.split(".")) for d in m.dimensions),
        unit=m.unit,
        scale=m.scale,
        start_ms=int(m.starts.timestamp()) * 1_000 if m.starts else 0,
    )


def _customer(c: Any) -> Customer:
    start_ms = int(c.start.timestamp()) * 1_000
    return Customer(c.id, c.name, c.plan, c.currency, start_ms, c.stripe_customer)


def _with_ends(card: RateCardFile) -> list[tuple[VersionFile, int | None]]:
    ends = [*(_seconds(version) for version in card.versions[1:]), None]
    return list(zip(card.versions, ends, strict=True))


def _seconds(version: VersionFile) -> int:
    return int(version.starts.timestamp())


def _segment(card: RateCardFile, version: VersionFile, ends: int | None, price: PriceFile) -> Segment:
    return Segment(
        starts=_seconds(version),
        ends=ends,
        price=_price(price),
        price_id=price.id,
        card=card.id,
        card_version=_hash(version.model_dump(mode="json", by_alias=True))[:_SHORT_HASH],
        currency=card.currency,
    )


def _price(price: PriceFile) -> Price:
    if price.unit_price is not None:
        return Price("unit", (Tier(None, parse_decimal(price.unit_price, 12)),))
    tiers = (
        Tier(
            None if t.up_to is None else parse_decimal(t.up_to, MICRO),
            parse_decimal(t.unit_price, 12),
            parse_decimal(t.flat_fee, MICRO),
        )
        for t in price.tiers
    )
    return Price(price.model, tuple(tiers))
