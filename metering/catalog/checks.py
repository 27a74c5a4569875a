"""What files say of each other: references, coverage, overlaps, overrides, pools."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

from metering.catalog.agreements import Agreements, NoPrice, shares_in_order
from metering.catalog.limit_checks import check_limits, money_problems
from metering.catalog.limits import NO_LIMITS, Limits
from metering.catalog.models import (
    CatalogFile,
    MeterFile,
    OverrideFile,
    PlanFile,
    PriceFile,
    RateCardFile,
    UnitFile,
    overridden,
)
from metering.catalog.places import Mistake, Placed, descend, line_of
from metering.catalog.price_checks import overlaps, price_problems


class _Known(NamedTuple):
    meters: dict[str, MeterFile]
    units: dict[str, UnitFile]
    cards: dict[str, RateCardFile]
    plans: dict[str, PlanFile]
    contracts: dict[str, Any]


def cross_check(placed: dict[str, list[Placed]]) -> Iterator[Mistake]:
    """Every mistake between objects that are right in themselves."""
    for kind, found in placed.items():
        yield from _duplicates(kind, found)
    by_id = {kind: {p.value.id: p.value for p in found} for kind, found in placed.items()}
    known = _Known(*(by_id[kind] for kind in ("meters", "units", "rate_cards", "plans", "contracts")))
    for card in placed["rate_cards"]:
        yield from _check_card(card, known)
    for plan in placed["plans"]:
        if plan.value.rate_card not in known.cards:
            yield _unknown(plan, "rate_card", plan.value.rate_card, known.cards)
        else:
            yield from _check_overrides(plan, [plan.value], known)
    for contract in placed["contracts"]:
        users = [c.value for c in placed["customers"] if c.value.contract == contract.value.id]
        plans = [p.plan for c in users for p in c.phases]
        yield from _check_overrides(contract, [known.plans[p] for p in plans if p in known.plans], known)
    limit_mistakes = list(check_limits(placed))
    yield from limit_mistakes
    fine = not limit_mistakes
    for customer in placed["customers"]:
        mistakes = list(_check_customer(customer, known))
        fine = fine and not mistakes
        yield from mistakes
    if fine and placed["customers"]:
        yield from _check_agreements(placed, known)


def _duplicates(kind: str, found: list[Placed]) -> Iterator[Mistake]:
    first: dict[str, Placed] = {}
    for item in found:
        other = first.setdefault(item.value.id, item)
        if other is not item:
            place = f"{other.file}:{line_of(other.node)}"
            message = f"{kind}: `{item.value.id}` is already defined at {place}"
            yield Mistake(item.file, line_of(item.node), message)


def _check_card(card: Placed, known: _Known) -> Iterator[Mistake]:
    for number, version in enumerate(card.value.versions):
        node = descend(card.node, ("versions", number))
        for index, price in enumerate(version.prices):
            place = line_of(descend(node, ("prices", index)))
            yield from (Mistake(card.file, place, text) for text in price_problems(price, known.meters))
            yield from _check_unit(card, place, price, known)
        yield from (Mistake(card.file, line_of(node), text) for text in _version_problems(version, known))


def _check_unit(card: Placed, line: int, price: PriceFile, known: _Known) -> Iterator[Mistake]:
    if price.unit is None:
        return
    unit = known.units.get(price.unit)
    if unit is None:
        yield Mistake(card.file, line, f"price `{price.id}`: no unit `{price.unit}`; define it under units")
    elif card.value.currency not in {rate.currency for rate in unit.rates}:
        yield Mistake(card.file, line, f"unit `{price.unit}` has no {card.value.currency} rate; add one")


def _version_problems(version: Any, known: _Known) -> Iterator[str]:
    prices: tuple[PriceFile, ...] = version.prices
    for price_id, count in Counter(price.id for price in prices).items():
        if count > 1:
            yield f"price `{price_id}` stands twice in this version"
    for meter, first, second in overlaps(list(prices)):
        yield (
            f"meter `{meter}` is priced twice in this version, by `{first}` and `{second}`;"
            " give each a `where` with different values"
        )
    priced = set(chain.from_iterable(price.meter_ids for price in prices))
    for meter in version.not_charged:
        if meter not in known.meters:
            yield f"not_charged: no meter `{meter}`"
        if meter in priced:
            yield f"meter `{meter}` has a price and is not_charged; remove one"
    for meter in known.meters:
        if meter not in priced and meter not in version.not_charged:
            yield f"meter `{meter}` has no price here; add one, or list it under not_charged"
    try:
        shares_in_order(list(prices))
    except NoPrice as error:
        yield str(error)


def _check_overrides(item: Placed, plans: list[PlanFile], known: _Known) -> Iterator[Mistake]:
    """Each override must give a price on every card version that it applies to."""
    added = {o.price for plan in plans if plan is not item.value for o in plan.overrides if o.replace}
    for number, override in enumerate(item.value.overrides):
        node = descend(item.node, ("overrides", number))
        cards = [known.cards[plan.rate_card] for plan in plans if plan.rate_card in known.cards]
        prices = [price for card in cards for price in _overridden_in(card, override)]
        if any(price is not None for price in prices) or override.price in added:
            prices = [price for price in prices if price is not None]  # elsewhere it changes nothing
        problems = dict.fromkeys(p for price in prices for p in _override_problems(price, override, known))
        yield from (Mistake(item.file, line_of(node), text) for text in problems)


def _overridden_in(card: RateCardFile, override: OverrideFile) -> Iterator[PriceFile | None]:
    for version, following in zip(card.versions, [*card.versions[1:], None], strict=True):
        over_before = override.ends is not None and override.ends <= version.starts
        begins_after = override.starts is not None and following and override.starts >= following.starts
        if not over_before and not begins_after:
            yield next((p for p in version.prices if p.id == override.price), None)


def _override_problems(price: PriceFile | None, override: OverrideFile, known: _Known) -> Iterator[str]:
    if price is None and not override.replace:
        yield f"override: the card has no price `{override.price}`; correct the id, or set `replace: true`"
        return
    try:
        yield from price_problems(overridden(price, override), known.meters)
    except ValueError as error:
        yield f"override of `{override.price}`: {error}"


def _check_customer(customer: Placed, known: _Known) -> Iterator[Mistake]:
    value = customer.value
    if value.contract is not None and value.contract not in known.contracts:
        yield _unknown(customer, "contract", value.contract, known.contracts)
    for number, phase in enumerate(value.phases):
        plan = known.plans.get(phase.plan)
        if plan is None:
            where = ("plan",) if value.plan else ("plans", number, "plan")
            yield _unknown(customer, where, phase.plan, known.plans)
            continue
        card = known.cards.get(plan.rate_card)
        if card is not None:  # otherwise reported at the plan
            yield from _check_phase(customer, max(phase.starts, value.start), card)
    if all(phase.plan in known.plans for phase in value.phases):
        yield from _check_overrides(customer, [known.plans[p.plan] for p in value.phases], known)


def _check_phase(customer: Placed, starts: Any, card: RateCardFile) -> Iterator[Mistake]:
    value = customer.value
    if card.currency != value.currency:
        yield Mistake(
            customer.file,
            line_of(descend(customer.node, ("currency",))),
            f"customer `{value.id}` pays in {value.currency}, its rate card"
            f" `{card.id}` is in {card.currency}",
        )
    if card.versions[0].starts > starts:
        yield Mistake(
            customer.file,
            line_of(descend(customer.node, ("start",))),
            f"customer `{value.id}` starts before the first version of `{card.id}`",
        )


def _check_agreements(placed: dict[str, list[Placed]], known: _Known) -> Iterator[Mistake]:
    """Resolve every customer as it will be rated; a pool's members must have the same terms."""
    if any(plan.rate_card not in known.cards for plan in known.plans.values()):
        return
    values = {kind: tuple(p.value for p in found) for kind, found in placed.items()}
    content = CatalogFile.model_construct(None, **values)
    agreements, limits = Agreements(content), Limits(content)
    shared = {pool.id: limits.of_pool(pool) for pool in content.pools}
    pools: dict[str, Any] = {}
    for customer in placed["customers"]:
        line = line_of(customer.node)
        try:
            made = agreements.of(customer.value)
        except (NoPrice, ValueError) as error:
            yield Mistake(customer.file, line, f"customer `{customer.value.id}`: {error}")
            continue
        pool = customer.value.pool
        timelines = (limits.of(customer.value), shared.get(pool, NO_LIMITS))
        money = [limit for t in timelines for found in t.limits for limit in found if limit.counts == "money"]
        for text in dict.fromkeys(text for limit in money for text in money_problems(limit, made)):
            yield Mistake(customer.file, line, f"customer `{customer.value.id}`: {text}")
        if pool is None:
            continue
        if pool in {c.value.id for c in placed["customers"]}:
            yield Mistake(customer.file, line, f"pool `{pool}` has the id of a customer; choose another")
        if pools.setdefault(pool, made) is not made:
            text = f"customer `{customer.value.id}` has other terms than the rest of pool `{pool}`"
            yield Mistake(customer.file, line, f"{text}; tiers are shared, so they must be equal")


def _unknown(item: Placed, field: str | tuple[Any, ...], name: str, known: dict[str, Any]) -> Mistake:
    path = (field,) if isinstance(field, str) else field
    line = line_of(descend(item.node, path))
    choices = ", ".join(sorted(known)) or "none is defined"
    return Mistake(
        item.file, line, f"{path[0] if len(path) == 1 else path[-1]}: no `{name}`; there is: {choices}"
    )
