"""Whether limits, pools and grants fit the rest of a catalog; each problem says what to write."""

from collections.abc import Iterator, Mapping
from typing import Any

from metering.catalog.limit_files import LimitFile
from metering.catalog.limits import NoLimit, laid_over, limit_of
from metering.catalog.models import CustomerFile, MeterFile, PlanFile, PriceFile
from metering.catalog.places import Mistake, Placed, descend, line_of
from metering.catalog.prices import usage_price
from metering.quota.limits import Limit
from metering.quota.spend import spend_problems
from metering.rating.terms import Agreement

_ADDITIVE = frozenset({"sum", "count", "each", "priced"})
_PRICED = ("flat", "percent_of")


def check_limits(placed: Mapping[str, list[Placed]]) -> Iterator[Mistake]:
    """Every mistake of limits, pools and grants that does not depend on a customer's prices."""
    meters = {p.value.id: p.value for p in placed["meters"]}
    for item in (*placed["plans"], *placed["pools"]):
        for number, file in enumerate(item.value.limits):
            yield from _at(item, number, _problems(file, meters))
    for kind in ("plans", "contracts", "pools", "customers"):
        for item in placed[kind]:
            yield from _twice(item)
    yield from _check_cards(placed)
    plans = {p.value.id: p.value for p in placed["plans"]}
    contracts = {p.value.id: p for p in placed["contracts"]}
    for customer in placed["customers"]:
        yield from _check_customer(customer, plans, contracts.get(customer.value.contract), meters)
    members = {c.value.pool for c in placed["customers"]}
    for pool in placed["pools"]:
        if pool.value.id not in members:
            yield _mistake(pool, ("id",), f"pool `{pool.value.id}` has no customers; set their `pool` to it")
    for grant in placed["grants"]:
        yield from _check_grant(grant, placed)


def money_problems(limit: Limit, agreement: Agreement) -> Iterator[str]:
    """Why a customer's prices cannot carry a limit in money."""
    for span in agreement.spans:
        names = span.by_meter.get(limit.meter, ())
        if not names:
            yield f"limit `{limit.id}` in money: meter `{limit.meter}` has no price, so it is never reached"
        for name in names:
            for problem in spend_problems(span.prices[name]):
                yield f"limit `{limit.id}` in money: price `{name}` cannot carry it: {problem}"
        if span.change != "continue":
            yield (
                f"limit `{limit.id}` in money: prices change with `change: {span.change}`; only continue goes"
            )


def _mistake(item: Placed, path: tuple[Any, ...], text: str) -> Mistake:
    return Mistake(item.file, line_of(descend(item.node, path)), text)


def _at(item: Placed, number: int, problems: Iterator[str]) -> Iterator[Mistake]:
    for problem in dict.fromkeys(problems):
        yield _mistake(item, ("limits", number), problem)


def _twice(item: Placed) -> Iterator[Mistake]:
    seen = set()
    for number, file in enumerate(item.value.limits):
        if file.id in seen:
            yield _mistake(item, ("limits", number), f"limit `{file.id}` stands here a second time")
        seen.add(file.id)


def _problems(file: LimitFile, meters: Mapping[str, MeterFile]) -> Iterator[str]:
    """What is wrong with a complete limit."""
    try:
        limit = limit_of(file, meters, "UTC", 1, shared=False)
    except NoLimit as error:
        yield str(error)
        return
    meter = meters[limit.meter]
    if limit.counts != "requests" and meter.aggregation not in _ADDITIVE:
        yield (
            f"limit `{limit.id}` in {limit.counts}: meter `{meter.id}` is {meter.aggregation}, which does not"
            f" add up event by event; limit `requests`, or a meter that is {', '.join(sorted(_ADDITIVE))}"
        )
    for name, _ in limit.where:
        if name not in meter.dimensions:
            yield (
                f"limit `{limit.id}`: meter `{meter.id}` has no dimension `{name}`; add it to the meter's"
                " dimensions"
            )


def _check_cards(placed: Mapping[str, list[Placed]]) -> Iterator[Mistake]:
    """Limits in money of plans, against the prices of the plan's card."""
    cards = {p.value.id: p.value for p in placed["rate_cards"]}
    for plan in placed["plans"]:
        card = cards.get(plan.value.rate_card)
        for number, file in enumerate(plan.value.limits):
            if file.money is None or card is None:
                continue
            prices = [p for v in card.versions for p in v.prices if file.meter in p.meter_ids]
            problems = [text for price in prices for text in _price_problems(file, price)]
            yield from _at(plan, number, iter(problems))


def _price_problems(file: LimitFile, price: PriceFile) -> Iterator[str]:
    if price.model not in _PRICED:
        for problem in spend_problems(usage_price(price)):
            yield f"limit `{file.id}` in money: price `{price.id}` cannot carry it: {problem}"


def _check_customer(
    customer: Placed,
    plans: Mapping[str, PlanFile],
    contract: Placed | None,
    meters: Mapping[str, MeterFile],
) -> Iterator[Mistake]:
    """What a customer or its contract lays over the plan must be complete in every phase."""
    value: CustomerFile = customer.value
    negotiated = contract.value.limits if contract is not None else ()
    for phase in value.phases:
        below = plans[phase.plan].limits if phase.plan in plans else ()
        for item, files in ((contract, negotiated), (customer, value.limits)):
            if item is None or not files:
                continue
            try:
                merged = laid_over(below, files)
            except ValueError as error:
                yield _mistake(item, ("limits",), str(error))
                return
            for number, file in enumerate(files):
                yield from _at(item, number, _problems(merged[file.id], meters))
            below = tuple(merged.values())


def _check_grant(grant: Placed, placed: Mapping[str, list[Placed]]) -> Iterator[Mistake]:
    value = grant.value
    kind = "customer" if value.customer is not None else "pool"
    scope = next((p for p in placed[f"{kind}s"] if p.value.id == value.scope), None)
    if scope is None:
        yield _mistake(grant, (kind,), f"no {kind} `{value.scope}`")
        return
    files = {file.id: file for file in scope.value.limits}
    if kind == "customer":
        plans = {phase.plan for phase in scope.value.phases}
        above = [p for p in placed["plans"] if p.value.id in plans]
        above += [c for c in placed["contracts"] if c.value.id == scope.value.contract]
        files = {file.id: file for item in above for file in item.value.limits} | files
    if value.limit not in files:
        there = ", ".join(sorted(files)) or "none is defined"
        text = f"{kind} `{value.scope}` has no limit `{value.limit}`; there is: {there}"
        yield _mistake(grant, ("limit",), text)
    elif (files[value.limit].window or "").startswith("rolling"):
        text = f"limit `{value.limit}` is rolling: it has no base that a grant could follow; raise the limit"
        yield _mistake(grant, ("limit",), text)
