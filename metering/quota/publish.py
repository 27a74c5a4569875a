"""From counters to the records of `quota.state`: absolute values with all that a reader needs."""

from typing import Any

from metering.quota.account import Account
from metering.quota.counter import Counter
from metering.quota.quota import Quota
from metering.quota.wire import (
    LimitCard,
    QuotaProfile,
    QuotaState,
    encode,
    profile_key,
    state_key,
)

Record = tuple[bytes, bytes | None]


def state(account: Account, place: tuple[Any, ...], counter: Counter | None) -> Record:
    """The state of a window; a tombstone when the window or its limit is gone."""
    scope, limit, start = place
    quota = account.quotas.get((scope, limit))
    if counter is None or quota is None:
        return state_key(account.name, scope, limit, start), None
    return state_key(account.name, scope, limit, start), encode(_state(account, quota, counter))


def _state(account: Account, quota: Quota, counter: Counter) -> QuotaState:
    desk, room = account.desk, quota.room(counter)
    return QuotaState(
        account=account.name,
        scope=quota.scope,
        meter=quota.limit.meter,
        limit=quota.limit.id,
        limit_version=quota.limit.version,
        counts=quota.limit.counts,
        limit_kind=quota.limit.kind,
        window_start=counter.bounds.start,
        window_end=counter.bounds.end,
        amount=str(quota.amount(counter)),
        posted=str(counter.posted),
        reserved=str(quota.reserved(counter)),
        remaining=_text(quota.remaining(counter)),
        room=_text(room),
        state=counter.state,
        as_of={str(desk.partition): desk.offset},
        at=desk.clock,
        version=desk.stamp(counter.sequence),
        rate=str(counter.rate(desk.clock)),
        lag_ms=desk.lag_ms,
        strict_below=str(quota.strict_below(counter)),
        lease_hint=_text(None if room is None else room // (2 * _holders(account, quota))),
    )


def _holders(account: Account, quota: Quota) -> int:
    held = {lease.client for lease in account.leases.values() if lease.meter == quota.limit.meter}
    return max(1, len(held))


def profiles(account: Account) -> list[Record]:
    """The limits of every member, each with those it shares."""
    return [_profile(account, customer) for customer in account.members]


def _profile(account: Account, customer: str) -> Record:
    cards = [
        _card(account.quotas[place])
        for place in sorted(account.quotas)
        if account.quotas[place].limit.shared or place[0] == customer
    ]
    stamp = account.desk.stamp(account.desk.sequence)
    record = QuotaProfile(customer, account.name, cards, stamp)
    return profile_key(account.name, customer), encode(record)


def _card(quota: Quota) -> LimitCard:
    limit = quota.limit
    return LimitCard(
        id=limit.id,
        version=limit.version,
        scope=quota.scope,
        meter=limit.meter,
        counts=limit.counts,
        kind=limit.kind,
        amount=str(quota.base + quota.grants.open_rest(quota.desk.clock)),
        window=limit.window.kind,
        zone=limit.window.zone,
        anchor=limit.window.anchor,
        length_ms=limit.window.length_ms,
        where={name: sorted(values) for name, values in limit.where},
        when_stale=limit.when_stale,
        reuse_ms=limit.reuse_ms,
        grace_percent=limit.grace_percent,
    )


def _text(amount: int | None) -> str:
    return "" if amount is None else str(amount)
