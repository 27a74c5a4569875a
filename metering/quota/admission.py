"""Answers to `quota.checks`: check, reserve, commit, release; the same answer for a repeated request.

Every request has an answer, bad ones too: nothing here raises for what a client sent.
"""

from typing import Any

from metering.quota.account import Account
from metering.quota.counter import RATE_MS, Counter
from metering.quota.desk import Due
from metering.quota.leases import (
    LONGEST_MS,
    REPLY_KEPT_MS,
    SHORTEST_MS,
    Lease,
    block,
    calls,
    quantity_of,
)
from metering.quota.limits import ONE, Dimensions
from metering.quota.quota import Quota
from metering.quota.windows import FOREVER
from metering.quota.wire import Check, Commit, Release, Reply, ReplyReason, Request, Reserve


def answer(account: Account, request: Request) -> Reply:
    """The reply to a request of one of the account's customers."""
    known = account.replies.get((request.client, request.request))
    if known is not None:
        return known[1]
    if isinstance(request, Check):
        return _check(account, request)
    account.desk.step()
    if isinstance(request, Reserve):
        reply = _reserve(account, request)
    elif isinstance(request, Commit):
        reply = _commit(account, request)
    else:
        reply = _release(account, request)
    _keep(account, request, reply)
    return reply


def refusal(account: Account | None, request: Request, reason: ReplyReason, stamp: str = "0") -> Reply:
    """A reply that says no."""
    if account is not None:
        stamp = account.desk.stamp(account.desk.sequence)
    return Reply(request.request, request.client, ok=False, reason=reason, version=stamp)


def _keep(account: Account, request: Request, reply: Reply) -> None:
    place = (request.client, request.request)
    until = account.desk.clock + REPLY_KEPT_MS
    account.replies[place] = (until, reply)
    account.desk.changed["reply", account.name, *place] = account.replies[place]
    account.desk.plan(Due(until, "reply", account.name, *place))


def _reply(account: Account, request: Request, ok: bool, reason: ReplyReason, **more: Any) -> Reply:
    stamp = account.desk.stamp(account.desk.sequence)
    return Reply(request.request, request.client, ok=ok, reason=reason, version=stamp, **more)


# -- check and reserve ----------------------------------------------------------------------------


def _check(account: Account, request: Check) -> Reply:
    quantity = quantity_of(request.quantity)
    if quantity is None or request.requests < 0:
        return refusal(account, request, "bad_quantity")
    quotas = account.watch(request.customer, request.meter, _pairs(request))
    if not quotas:
        return _reply(account, request, True, "no_limit")
    for quota in quotas:
        counter = quota.peek(account.desk.clock)
        steps = request.requests * ONE if quota.limit.counts == "requests" else quantity
        room = quota.room(counter)
        if steps and room is not None and steps > room:
            return _denied(account, request, quota, counter, steps)
    return _reply(account, request, True, "ok" if quantity or request.requests else "free")


def _reserve(account: Account, request: Reserve) -> Reply:
    want = quantity_of(request.quantity)
    least = quantity_of(request.least) if request.least else 0
    loose = _loose(account, request)
    if want is None or least is None or least > want or request.requests < 0 or loose is None:
        return refusal(account, request, "bad_quantity")
    pairs = _pairs(request)
    quotas = account.watch(request.customer, request.meter, pairs)
    if not quotas:
        granted = {"granted": str(want), "requests": request.requests}
        return _reply(account, request, True, "no_limit", **granted)
    validity = min(max(request.validity_ms, SHORTEST_MS), LONGEST_MS)
    clock = account.desk.clock
    places = [(q, c) for q in quotas for c in q.counters_between(clock, clock + 2 * validity)]
    clients = account.clients(request.customer, request.meter, request.client)
    floor = want if request.whole else least
    units, number = want, request.requests
    for quota, counter in places:
        room = quota.room(counter)
        if room is not None:
            room = max(0, room - max(quota.on_its_way(counter), loose[quota.limit.counts == "requests"]))
        if quota.limit.counts == "requests":
            mine = calls(request.requests, room, clients)
            if mine == 0 and request.requests:
                return _denied(account, request, quota, counter, ONE)
            number = min(number, mine)
        else:
            mine = block(want, floor, room, clients, quota.limit.step)
            if mine == 0 and want:
                return _denied(account, request, quota, counter, floor or min(quota.limit.step, want))
            units = min(units, mine)
    lease = Lease(
        id=f"{account.name}/{account.desk.sequence}",
        client=request.client,
        customer=request.customer,
        meter=request.meter,
        dimensions=pairs,
        granted=units,
        requests=number,
        held=units,
        held_requests=number,
        opened=clock,
        expires=clock + validity,
        ends=clock + 2 * validity,
    )
    account.hold(lease)
    for quota, counter in places:
        if lease.held_requests if quota.limit.counts == "requests" else lease.held:
            _assert_admitted(quota, counter)
    return _granted(account, request, lease, places)


def _loose(account: Account, request: Reserve) -> tuple[int, int] | None:
    """What the client has sent and is not metered yet: units, and requests in 10^-6; None is unreadable."""
    unseen = request.unseen
    if unseen is None:
        return 0, 0
    units = quantity_of(unseen.units)
    if units is None or unseen.requests < 0:
        return None
    is_metered = 0 <= unseen.until <= account.desk.offset
    return (0, 0) if is_metered else (units, unseen.requests * ONE)


def _assert_admitted(quota: Quota, counter: Counter) -> None:
    """What was just reserved fits: the law of a hard limit."""
    if quota.limit.kind != "hard":
        return
    amount = quota.amount(counter)
    assert counter.posted + quota.reserved(counter) <= amount, (
        f"{quota.place}: {counter.posted} + {quota.reserved(counter)} > {amount}"
    )


def _granted(account: Account, request: Reserve, lease: Lease, places: list[tuple[Quota, Counter]]) -> Reply:
    quantity = quantity_of(request.quantity)
    is_whole = (lease.granted, lease.requests) == (quantity, request.requests)
    return _reply(
        account,
        request,
        True,
        "granted" if is_whole else "reduced",
        lease=lease.id,
        granted=str(lease.granted),
        requests=lease.requests,
        expires=lease.expires,
        final=any(quota.room(counter) == 0 for quota, counter in places),
    )


def _denied(account: Account, request: Request, quota: Quota, counter: Counter, steps: int) -> Reply:
    """No, and when to ask again: a new window, a sub-bucket that leaves, or a hold that ends."""
    clock = account.desk.clock
    held, counter.held = counter.held, 0
    free = quota.room(counter)
    counter.held = held
    is_held = free is None or steps <= free
    if isinstance(request, Reserve) and steps <= (quota.room(counter) or 0):
        wait = {"limit": quota.limit.id, "retry_after_ms": RATE_MS}
        return _reply(account, request, False, "settling", **wait)
    waits = [lease.ends for lease in account.leases.values() if lease.ends > clock] if is_held else []
    if counter.bounds.end < FOREVER:
        waits.append(counter.bounds.end)
    elif counter.buckets:
        waits.append(
            (min(counter.buckets) + 1 - quota.limit.window.first_bucket(0)) * quota.limit.window.bucket_ms
        )
    return _reply(
        account,
        request,
        False,
        "reserved_by_others" if is_held else "limit_reached",
        limit=quota.limit.id,
        final=not is_held,
        retry_after_ms=max(1, min(waits, default=clock + 1_000) - clock),
    )


def _pairs(request: Check | Reserve) -> Dimensions:
    return tuple(sorted(request.dimensions.items()))


# -- commit and release ---------------------------------------------------------------------------


def _commit(account: Account, request: Commit) -> Reply:
    """Note what was used; with `done` only what is used and not yet metered stays held."""
    lease = account.leases.get(request.lease)
    used = quantity_of(request.used)
    if lease is None or lease.customer != request.customer:
        return refusal(account, request, "unknown_lease")
    if used is None or request.n < 1:
        return refusal(account, request, "bad_quantity")
    is_repeated = (request.n, used) == (lease.n, lease.used)
    if not lease.is_live and not is_repeated:
        return _reply(account, request, False, "lease_ended", lease=lease.id)
    if not is_repeated and (request.n <= lease.n or used < lease.used):
        return _reply(account, request, False, "reordered", lease=lease.id)
    lease.n, lease.used = request.n, used
    if request.done and lease.is_live:
        lease.ended = "done"
        counted = lease.granted - lease.held
        account.shrink(lease, max(0, used - counted), lease.held_requests if used > counted else 0)
    account.desk.changed["lease", account.name, lease.id] = lease
    reason: ReplyReason = "more_than_reserved" if used > lease.granted else "committed"
    return _reply(account, request, True, reason, lease=lease.id, expires=lease.expires)


def _release(account: Account, request: Release) -> Reply:
    lease = account.leases.get(request.lease)
    if lease is None or lease.customer != request.customer:
        return refusal(account, request, "unknown_lease")
    if not lease.is_live:
        return _reply(account, request, False, "lease_ended", lease=lease.id)
    lease.ended = "released"
    account.shrink(lease, 0, 0)
    return _reply(account, request, True, "released", lease=lease.id)
