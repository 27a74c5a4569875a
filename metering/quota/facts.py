"""Grants and amounts that people set at run time: whether they can be in force, and what is announced."""

from metering.quota.desk import Desk
from metering.quota.leases import quantity_of
from metering.quota.limits import Limit
from metering.quota.wire import Fact, GrantFact


def problem(fact: Fact, limits: dict[str, Limit]) -> str:
    """Why a fact cannot be in force; empty when it can."""
    limit = limits.get(fact.limit)
    if limit is None:
        there = ", ".join(f"`{name}`" for name in sorted(limits)) or "none"
        return f"`{fact.scope}` has no limit `{fact.limit}`; there is: {there}"
    if isinstance(fact, GrantFact) and fact.revoked:
        return ""
    is_grant = isinstance(fact, GrantFact)
    if not is_grant and not fact.amount:
        return ""
    amount = quantity_of(fact.amount)
    if amount is None:
        return f"`{fact.amount}` is no amount of 10^-6"
    if is_grant and limit.window.kind == "rolling":
        return "a rolling limit has no base that a grant could follow; set its amount instead"
    if isinstance(fact, GrantFact) and (amount == 0 or (fact.ends and fact.ends <= fact.starts)):
        return "a grant is more than nothing, and begins before it ends"
    return ""


def tell_grant(desk: Desk, fact: GrantFact, account: str) -> None:
    """Announce a grant that was given or taken back, with who and why."""
    desk.announce(
        "grant_revoked" if fact.revoked else "grant_added",
        account,
        fact.scope,
        fact.limit,
        fact.id,
        desk.sequence,
        account=account,
        scope=fact.scope,
        limit=fact.limit,
        subject=fact.id,
        quantity=fact.amount,
        actor=fact.actor,
        reason=fact.reason,
    )


def refuse(desk: Desk, fact: Fact, account: str, detail: str) -> None:
    """Announce a fact that is not in force, and why."""
    desk.announce(
        "refused",
        account,
        fact.scope,
        fact.limit,
        desk.sequence,
        account=account,
        scope=fact.scope,
        limit=fact.limit,
        actor=fact.actor,
        reason=fact.reason,
        detail=detail,
    )
