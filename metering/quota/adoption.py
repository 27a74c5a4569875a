"""What a catalog revision, a fact or a date changes in an account: its limits, grants and members.

The change is found by comparing with what is in force, so adopting the same twice changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from metering.quota.account import Account, Place, Watch
from metering.quota.counter import Counter
from metering.quota.desk import Due
from metering.quota.grants import Grant
from metering.quota.history import History, Pricing, Spend, before
from metering.quota.limits import Limit, Timeline
from metering.quota.quota import Quota


@dataclass
class SavedQuota:
    """What the journal knows of a quota whose limit stands in the catalog."""

    since: int = 0
    version: str = ""
    identity: str = ""
    grants: list[tuple[str, str, int, int]] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)
    counters: list[Counter] = field(default_factory=list)


@dataclass
class Source:
    """Where an account's terms come from."""

    timelines: Mapping[str, Timeline]  # by scope: the members, and the pool
    grants: Mapping[str, tuple[Grant, ...]]
    members: tuple[str, ...]
    history: History
    pricing: Pricing


def adopt(account: Account, source: Source, saved: dict[Place, SavedQuota]) -> bool:
    """Put in force what a source says; whether anything is new. New limits are judged at once."""
    wanted = _wanted(account, source)
    account.members = source.members
    is_new = _drop_others(account, wanted, saved)
    begun: list[Quota] = []
    changed: list[Quota] = []
    for place, limit in wanted.items():
        quota = account.quotas.get(place)
        if quota is None:
            quota = account.quotas[place] = _make(account, source, place, limit)
            if place in saved:
                _restore(quota, saved.pop(place), changed)
            else:
                begun.append(quota)
                account.desk.changed["quota", *quota.place] = quota
        elif quota.limit != limit:
            if not changed:
                account.desk.step()
            quota.change(limit)
            changed.append(quota)
    _watch(account)
    regranted = _put_grants(account, source)
    account.hold_again()
    _plan_changes(account, source)
    if not (is_new or begun or changed or regranted):
        return False
    if not changed:
        account.desk.step()
    for quota in begun:
        quota.begin()
    for quota in dict.fromkeys((*changed, *regranted)):
        quota.judge_all()
    account.desk.changed["profile", account.name] = None
    account.desk.is_urgent = True
    return True


def _wanted(account: Account, source: Source) -> dict[Place, Limit]:
    """The limits in force now, with the amounts that were set at run time."""
    found = {}
    for scope, timeline in source.timelines.items():
        for limit in timeline.at(account.desk.clock):
            fact = account.amounts.get((scope, limit.id))
            if fact is not None and not fact.cleared:
                limit = limit.with_amount(int(fact.amount) if fact.amount else None)
            if limit.amount is not None:
                found[scope, limit.id] = limit
    return found


def _drop_others(account: Account, wanted: Mapping[Place, Limit], saved: dict[Place, SavedQuota]) -> bool:
    """Drop limits that are gone or count something else now; their windows go with them."""
    desk = account.desk
    gone = [p for p, q in account.quotas.items() if p not in wanted or wanted[p].identity != q.limit.identity]
    lost = [p for p, s in saved.items() if p not in wanted or identity_text(wanted[p]) != s.identity]
    if gone:
        desk.step()
    for place in gone:
        quota = account.quotas.pop(place)
        quota.end()
        for start in quota.counters:
            desk.changed["counter", *quota.place, start] = None
        desk.changed["quota", *quota.place] = None
    for place in lost:
        for counter in saved.pop(place).counters:
            desk.changed["counter", account.name, *place, counter.bounds.start] = None
        desk.changed["quota", account.name, *place] = None
    return bool(gone or lost)


def _make(account: Account, source: Source, place: Place, limit: Limit) -> Quota:
    spend = _spend(account, source, limit.meter) if limit.counts == "money" else None
    return Quota(
        account.desk,
        account.name,
        place[0],
        limit,
        lambda quota, bounds: before(
            account.name, quota.limit, quota.scope, quota.spend, source.history, bounds, account.desk.clock
        ),
        spend=spend,
        payer=source.members[0] if limit.shared and source.members else "",
    )


def _spend(account: Account, source: Source, meter: str) -> Spend:
    if meter not in account.spends:
        account.spends[meter] = Spend(account.name, meter, source.history, source.pricing)
        since, used = account.saved_spends.pop(meter, (account.desk.clock, {}))
        account.spends[meter].since, account.spends[meter].used = since, used
        account.desk.changed["spend", account.name, meter] = account.spends[meter]
    return account.spends[meter]


def _restore(quota: Quota, saved: SavedQuota, changed: list[Quota]) -> None:
    quota.since = saved.since
    quota.grants.used = saved.used
    quota.known_grants = saved.grants
    for counter in saved.counters:
        quota.restore(counter)
    if saved.version != quota.limit.version:
        if not changed:
            quota.desk.step()
        quota.tell_changed("", str(quota.base))
        quota.desk.changed["quota", *quota.place] = quota
        changed.append(quota)


def _watch(account: Account) -> None:
    """What counts each customer's meters."""
    by_meter: dict[str, list[Quota]] = {}
    for place in sorted(account.quotas):
        quota = account.quotas[place]
        by_meter.setdefault(quota.limit.meter, []).append(quota)
    account.watches = {}
    for meter, quotas in by_meter.items():
        spend = account.spends.get(meter)
        for customer in account.members:
            mine = tuple(q for q in quotas if q.limit.shared or q.scope == customer)
            if mine or spend is not None:
                account.watches[customer, meter] = Watch(mine, spend)


def _put_grants(account: Account, source: Source) -> list[Quota]:
    """Give each limit the grants of the catalog and those given at run time; the quotas they change."""
    changed = []
    for place, quota in account.quotas.items():
        mine = {g.id: g for g in source.grants.get(place[0], ()) if g.limit == place[1]}
        for (scope, limit, name), fact in account.facts.items():
            if (scope, limit) == place and not fact.revoked:
                ends = fact.ends or None
                mine[name] = Grant(name, scope, limit, int(fact.amount), fact.starts, ends, fact.actor)
            elif (scope, limit) == place:
                mine.pop(name, None)
        known = sorted((g.id, str(g.amount), g.starts, g.ends or 0) for g in mine.values())
        quota.grants.put(mine.values())
        for instant in quota.grants.instants():
            if instant > account.desk.clock:
                account.desk.plan(Due(instant, "grants", account.name, *place))
        if known != quota.known_grants:
            quota.known_grants = known
            account.desk.changed["quota", *quota.place] = quota
            changed.append(quota)
    return changed


def _plan_changes(account: Account, source: Source) -> None:
    for timeline in source.timelines.values():
        following = timeline.next_change(account.desk.clock)
        if following is not None:
            account.desk.plan(Due(following, "limits", account.name))


def turn_grants(account: Account, place: Place) -> None:
    """Grants of a limit begin or end now."""
    quota = account.quotas.get(place)
    if quota is None or account.desk.clock not in quota.grants.instants():
        return
    desk = account.desk
    desk.step()
    for grant in quota.grants.ending_at(desk.clock):
        desk.announce(
            "grant_expired",
            account.name,
            *place,
            grant.id,
            account=account.name,
            scope=place[0],
            limit=place[1],
            meter=quota.limit.meter,
            subject=grant.id,
            quantity=str(quota.grants.rest(grant)),
        )
    desk.changed["profile", account.name] = None
    quota.judge_all()


def identity_text(limit: Limit) -> str:
    """What a limit counts, as text for the journal."""
    where = [[name, sorted(values)] for name, values in limit.where]
    window = limit.window
    plain = [limit.meter, limit.counts, where, window.kind, window.zone, window.anchor, window.length_ms]
    return msgspec.json.encode([*plain, limit.shared]).decode()
