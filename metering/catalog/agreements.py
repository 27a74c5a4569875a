"""A customer's agreement: phases, card versions, overrides and rates of units, resolved into spans.

Customer > contract > plan > card. Each span is one immutable version with a hash of its content;
nothing is looked up while usage is rated.
"""

import hashlib
import json
from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

from metering.catalog.models import (
    CatalogFile,
    ConditionsFile,
    CustomerFile,
    MinimumFile,
    OverrideFile,
    PhaseFile,
    PriceFile,
    RateCardFile,
    VersionFile,
    overridden,
)
from metering.catalog.price_checks import overlaps
from metering.catalog.prices import discount, flat_price, percent_of, usage_price
from metering.rating.cards import RATE_ONE, Change, Discount, Minimum, Origin, PercentOf
from metering.rating.lines import CAP
from metering.rating.money import MICRO, parse_decimal
from metering.rating.terms import Agreement, Span

SHORT_HASH = 12
_NO_CONDITIONS = ConditionsFile()


class NoPrice(ValueError):
    """A price that cannot be resolved; the message says which, and what to write."""


class _Moment(NamedTuple):
    """What applies at an instant."""

    phase: PhaseFile
    is_switch: bool  # of plans, just now
    card: RateCardFile
    version: VersionFile
    conditions: tuple[ConditionsFile, ...]  # plan, contract, customer: the later one wins


class Agreements:
    """Agreements of a catalog's customers; those with the same terms share one."""

    def __init__(self, content: CatalogFile) -> None:
        self._cards = {card.id: card for card in content.rate_cards}
        self._plans = {plan.id: plan for plan in content.plans}
        self._contracts = {contract.id: contract for contract in content.contracts}
        self._units = {unit.id: unit for unit in content.units}
        self._made: dict[str, Agreement] = {}

    def of(self, customer: CustomerFile) -> Agreement:
        """The agreement of a customer; NoPrice when an override or a unit does not fit."""
        own = customer.model_dump(
            mode="json", include={"plan", "plans", "contract", "currency", *_CONDITIONS}
        )
        key = _canonical(own)
        if key not in self._made:
            self._made[key] = self._resolve(customer)
        return self._made[key]

    def _resolve(self, customer: CustomerFile) -> Agreement:
        contract = self._contracts.get(customer.contract or "", _NO_CONDITIONS)
        cuts = sorted(self._cuts(customer, contract))
        spans = []
        for starts, ends in zip(cuts, [*cuts[1:], None], strict=True):
            moment = self._at(customer, contract, starts)
            if moment is not None:
                spans.append(self._span(moment, starts, ends, customer.currency))
        return Agreement(tuple(spans))

    def _cuts(self, customer: CustomerFile, contract: ConditionsFile) -> set[datetime]:
        cuts = {phase.starts for phase in customer.phases[1:]}
        conditions: list[ConditionsFile] = [contract, customer]
        for phase in customer.phases:
            plan = self._plans[phase.plan]
            conditions.append(plan)
            cuts |= {version.starts for version in self._cards[plan.rate_card].versions}
        for override in (o for c in conditions for o in c.overrides):
            cuts |= {t for t in (override.starts, override.ends) if t is not None}
        for unit in self._units.values():
            cuts |= {rate.starts for rate in unit.rates if rate.currency == customer.currency}
        return cuts

    def _at(self, customer: CustomerFile, contract: ConditionsFile, instant: datetime) -> _Moment | None:
        begun = [p for p in customer.phases if p.starts <= instant] or [customer.phases[0]]
        plan = self._plans[begun[-1].plan]
        card = self._cards[plan.rate_card]
        versions = [version for version in card.versions if version.starts <= instant]
        if not versions:
            return None
        is_switch = any(phase.starts == instant for phase in customer.phases[1:])
        return _Moment(begun[-1], is_switch, card, versions[-1], (plan, contract, customer))

    def _span(self, moment: _Moment, starts: datetime, ends: datetime | None, currency: str) -> Span:
        prices = self._prices(moment, starts)
        rates = self._rates(prices, starts, currency)
        for meter, first, second in overlaps(prices):
            raise NoPrice(f"meter `{meter}` is priced twice, by `{first}` and `{second}`")
        conditions = _effective(moment.conditions)
        minimums = (*_price_minimums(prices), *conditions.minimums)
        _check_minimums(conditions.minimums, {price.id for price in prices})
        _check_names([p.id for p in prices], conditions, minimums)
        version = _hash(
            [_plain(prices), rates, sorted(moment.version.not_charged), _plain_conditions(conditions)]
        )
        by_meter: dict[str, tuple[str, ...]] = {}
        for price in prices:
            for meter in price.meter_ids:
                by_meter[meter] = (*by_meter.get(meter, ()), price.id)
        return Span(
            starts=_seconds(starts),
            ends=None if ends is None else _seconds(ends),
            origin=Origin(moment.card.id, version[:SHORT_HASH], moment.card.currency),
            change=_change(moment, starts),
            prices={
                p.id: usage_price(p, rates.get(p.unit or "", RATE_ONE))
                for p in prices
                if p.model not in ("flat", "percent_of")
            },
            flats={p.id: flat_price(p) for p in prices if p.model == "flat"},
            shares=shares_in_order(prices),
            discounts=conditions.discounts,
            cap=conditions.cap,
            minimums=minimums,
            free=frozenset(moment.version.not_charged),
            by_meter=by_meter,
        )

    def _prices(self, moment: _Moment, instant: datetime) -> list[PriceFile]:
        prices = {price.id: price for price in moment.version.prices}
        for conditions in moment.conditions:
            for override in conditions.overrides:
                known = override.price in prices or override.replace
                if not known or not _is_active(override, instant):
                    continue
                try:
                    prices[override.price] = overridden(prices.get(override.price), override)
                except ValueError as error:
                    raise NoPrice(f"override of `{override.price}`: {error}") from error
        return list(prices.values())

    def _rates(self, prices: list[PriceFile], instant: datetime, currency: str) -> dict[str, int]:
        rates = {}
        for price in prices:
            if price.unit is not None:
                rates[price.unit] = self._rate(price.unit, instant, currency)
        return rates

    def _rate(self, unit_id: str, instant: datetime, currency: str) -> int:
        unit = self._units.get(unit_id)
        if unit is None:
            raise NoPrice(f"no unit `{unit_id}`; define it under units")
        known = [r for r in unit.rates if r.currency == currency and r.starts <= instant]
        if not known:
            raise NoPrice(f"unit `{unit_id}` has no {currency} rate at {instant:%Y-%m-%dT%HZ}; add one")
        return parse_decimal(known[-1].rate, 12)


_CONDITIONS = frozenset(ConditionsFile.model_fields)


class _Effective(NamedTuple):
    discounts: tuple[Discount, ...]
    cap: int | None
    minimums: tuple[Minimum, ...]


def _effective(conditions: tuple[ConditionsFile, ...]) -> _Effective:
    """Discounts by id, the closest cap, the closest minimum."""
    discounts = {d.id: discount(d) for c in conditions for d in c.discounts}
    caps = [c.cap for c in conditions if c.cap is not None]
    minimums = [c.minimum for c in conditions if c.minimum is not None]
    return _Effective(
        tuple(discounts[name] for name in sorted(discounts)),
        parse_decimal(caps[-1], MICRO) if caps else None,
        (_minimum(minimums[-1]),) if minimums else (),
    )


def _check_minimums(minimums: tuple[Minimum, ...], prices: set[str]) -> None:
    for minimum in minimums:
        unknown = [name for name in minimum.of if name not in prices]
        if unknown:
            raise NoPrice(f"minimum `{minimum.id}` is of price `{unknown[0]}`, which is not in this version")


def _check_names(prices: list[str], conditions: _Effective, minimums: tuple[Minimum, ...]) -> None:
    """A line of a bill is known by its name: prices, discounts, cap and minima share one list."""
    names = [*prices, *(d.id for d in conditions.discounts), *(m.id for m in minimums)]
    names += [CAP] if conditions.cap is not None else []
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise NoPrice(f"`{twice[0]}` names two lines of the bill; give one another id")


def _minimum(file: MinimumFile) -> Minimum:
    return Minimum(file.id, parse_decimal(file.amount, MICRO), file.of, file.prorate)


def _price_minimums(prices: list[PriceFile]) -> list[Minimum]:
    return [
        Minimum(f"{p.id}:minimum", parse_decimal(p.minimum, MICRO), (p.id,))
        for p in prices
        if p.minimum is not None
    ]


def shares_in_order(prices: list[PriceFile]) -> dict[str, PercentOf]:
    """Shares of other prices, each behind those it reads; NoPrice for a cycle or an unknown price."""
    waiting = {p.id: percent_of(p) for p in prices if p.model == "percent_of"}
    known = {p.id for p in prices}
    found: dict[str, PercentOf] = {}
    for name, share in waiting.items():
        unknown = [price for price in share.of if price not in known]
        if unknown:
            raise NoPrice(f"price `{name}` is a share of `{unknown[0]}`, which is not in this version")
    while waiting:
        ready = [n for n, share in waiting.items() if not any(of in waiting for of in share.of)]
        if not ready:
            raise NoPrice(
                f"prices {', '.join(f'`{n}`' for n in waiting)} are shares of each other; break the circle"
            )
        for name in ready:
            found[name] = waiting.pop(name)
    return found


def _change(moment: _Moment, instant: datetime) -> Change:
    if moment.is_switch:
        return moment.phase.change
    return moment.version.change if moment.version.starts == instant else "continue"


def _is_active(override: OverrideFile, instant: datetime) -> bool:
    begun = override.starts is None or override.starts <= instant
    return begun and (override.ends is None or instant < override.ends)


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def _plain(prices: list[PriceFile]) -> list[Any]:
    ordered = sorted(prices, key=lambda price: price.id)
    return [price.model_dump(mode="json", by_alias=True, exclude_defaults=True) for price in ordered]


def _plain_conditions(effective: _Effective) -> list[Any]:
    return [
        [[d.id, d.percent, d.amount] for d in effective.discounts],
        effective.cap,
        [[m.id, m.amount, list(m.of), m.prorated] for m in effective.minimums],
    ]


def _hash(value: Any) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
