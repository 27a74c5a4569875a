"""Subscriptions of the provider as customers of the catalog: plan, trial, billing day, end.

A webhook tells that one changed; what it says now is asked. The ledger keeps every plan with the hour
it began, so events may come twice and in any order. The result goes into the catalog stream.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from billing_sync.config import BillingConfig
from billing_sync.ledger.subscriptions import Subscribed
from metering.catalog.models import CatalogFile, CustomerFile, PhaseFile

_HOUR = 3_600


class Unfit(Exception):
    """A subscription that the catalog cannot take; the text says what is missing."""


def with_subscriptions(
    catalog: CatalogFile, subscriptions: Iterable[Subscribed], config: BillingConfig
) -> tuple[CatalogFile, list[str]]:
    """The catalog with what customers subscribed to, and what did not fit into it."""
    customers = {customer.id: customer for customer in catalog.customers}
    plans = {plan.id: plan.rate_card for plan in catalog.plans}
    currencies = {card.id: card.currency for card in catalog.rate_cards}
    unfit = []
    for one in sorted(subscriptions, key=lambda s: (s.started, s.id)):
        try:
            made = _customer(customers.get(one.customer), one, config)
            _check(made, plans, currencies)
        except (Unfit, ValueError) as error:
            unfit.append(f"{one.customer}: subscription {one.id}: {error}")
        else:
            customers[one.customer] = made
    return catalog.model_copy(update={"customers": tuple(customers.values())}), unfit


def _customer(known: CustomerFile | None, one: Subscribed, config: BillingConfig) -> CustomerFile:
    phases = _phases(one, config)
    start = phases[0].starts
    earlier = [phase for phase in known.phases if phase.starts < start] if known else []
    fields = known.model_dump(by_alias=True) if known else {"id": one.customer, "name": one.customer}
    fields |= {
        "plan": None,
        "plans": [phase.model_dump(by_alias=True) for phase in _merged([*earlier, *phases])],
        "currency": one.currency.upper(),
        "start": min(known.start, start) if known else start,
        "end": _instant(_next_hour(one.ended)) if one.ended else None,
        "billing_day": datetime.fromtimestamp(one.anchor, UTC).day,
        "stripe_customer": one.account,
    }
    return CustomerFile.model_validate(fields)


def _phases(one: Subscribed, config: BillingConfig) -> list[PhaseFile]:
    """Plans by the hour they began; a trial's plan comes first, until the trial ends."""
    first = one.started // _HOUR * _HOUR
    found = {max(at // _HOUR * _HOUR, first): _plan(price, config) for at, price in sorted(one.prices)}
    trial_end = _next_hour(one.trial_end)
    if one.trial_end and trial_end > first:
        if not config.trial_plan:
            raise Unfit("it has a trial: say `trial_plan` in the billing file")
        after = [plan for at, plan in sorted(found.items()) if at <= trial_end]
        found = {at: plan for at, plan in found.items() if at > trial_end}
        found |= {first: config.trial_plan, trial_end: after[-1]}
    return [PhaseFile(plan=plan, starts=_instant(at)) for at, plan in sorted(found.items())]


def _plan(price: str, config: BillingConfig) -> str:
    if price not in config.plans:
        raise Unfit(f"the price {price} is no plan of ours: name it under `plans` in the billing file")
    return config.plans[price]


def _merged(phases: list[PhaseFile]) -> list[PhaseFile]:
    """A plan that goes on is one phase."""
    found: list[PhaseFile] = []
    for phase in phases:
        if not found or found[-1].plan != phase.plan:
            found.append(phase)
    return found


def _check(customer: CustomerFile, plans: Mapping[str, str], currencies: Mapping[str, str]) -> None:
    for phase in customer.phases:
        if phase.plan not in plans:
            raise Unfit(f"the catalog has no plan `{phase.plan}`")
        currency = currencies[plans[phase.plan]]
        if currency != customer.currency:
            raise Unfit(f"plan `{phase.plan}` is in {currency}, the subscription in {customer.currency}")


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _next_hour(seconds: int) -> int:
    return -(-seconds // _HOUR) * _HOUR
