"""How quotas are kept: entries of the journal, in and out. Keys are JSON arrays that begin with `quota`."""

from typing import Any

import msgspec

from metering.quota.account import Account
from metering.quota.adoption import SavedQuota, identity_text
from metering.quota.counter import Counter
from metering.quota.desk import Desk, Due
from metering.quota.history import Spend
from metering.quota.leases import REPLY_KEPT_MS, Lease
from metering.quota.quota import Quota
from metering.quota.wire import Fact, GrantFact, LimitFact, Reply, decode_fact, decode_reply, encode
from metering.records import key

PREFIX = b'["quota",'  # of every key here; totals begin with a customer, and none has this name's shape


def is_entry(raw: bytes) -> bool:
    """Whether a key is of quotas, and not of a total of a customer that is called `quota`."""
    return raw.startswith(PREFIX) and raw.endswith(b',""]')


def entry_key(place: tuple[Any, ...]) -> bytes:
    """The key of an entry."""
    return key("quota", *place, "")


def value_of(what: Any) -> bytes | None:
    """The value of an entry; None when it is gone."""
    if what is None:
        return None
    if isinstance(what, Counter | Lease):
        return what.saved()
    if isinstance(what, Quota):
        return msgspec.msgpack.encode(
            (
                *(what.since, what.limit.version, identity_text(what.limit), what.known_grants),
                {name: str(amount) for name, amount in what.grants.used.items()},
            )
        )
    if isinstance(what, Spend):
        return msgspec.msgpack.encode((what.since, {k: str(v) for k, v in what.used.items()}))
    if isinstance(what, tuple):  # a reply with its end
        return msgspec.msgpack.encode((what[0], encode(what[1])))
    assert isinstance(what, GrantFact | LimitFact)
    return encode(what)


class Restoring:
    """Takes entries back: accounts at once, quotas when the catalog says what they are."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.accounts: dict[str, Account] = {}
        self.quotas: dict[str, dict[tuple[str, str], SavedQuota]] = {}

    def take(self, raw: bytes, value: bytes) -> bool:
        """Take one entry; False when it is none of ours."""
        if not raw.startswith(PREFIX):
            return False
        _, kind, name, *rest = msgspec.json.decode(raw)
        if rest[-1:] != [""] or kind not in _TAKERS:
            return False  # a total of a customer that is called `quota`
        account = self.accounts.setdefault(name, Account(self._desk, name))
        _TAKERS[kind](self, account, rest[:-1], value)
        return True

    def _quota_of(self, account: Account, rest: list[Any]) -> SavedQuota:
        saved = self.quotas.setdefault(account.name, {})
        return saved.setdefault((rest[0], rest[1]), SavedQuota())

    def counter(self, account: Account, rest: list[Any], value: bytes) -> None:
        """A counter waits for its limit."""
        self._quota_of(account, rest).counters.append(Counter.restored(value))

    def quota(self, account: Account, rest: list[Any], value: bytes) -> None:
        """So does what is known of the limit."""
        since, version, identity, grants, used = msgspec.msgpack.decode(value)
        saved = self._quota_of(account, rest)
        saved.since, saved.version, saved.identity = since, version, identity
        saved.grants = [(name, amount, starts, ends) for name, amount, starts, ends in grants]
        saved.used = {name: int(amount) for name, amount in used.items()}

    def spend(self, account: Account, rest: list[Any], value: bytes) -> None:
        """Where F stands."""
        since, used = msgspec.msgpack.decode(value)
        account.saved_spends[rest[0]] = (since, {k: int(v) for k, v in used.items()})

    def lease(self, account: Account, rest: list[Any], value: bytes) -> None:
        """A lease, and when it ends."""
        lease = account.leases[rest[0]] = Lease.restored(value)
        if lease.ends > self._desk.clock:
            self._desk.plan(Due(lease.ends, "lease", account.name, lease.id))
        else:
            self._desk.plan(Due(lease.ends + REPLY_KEPT_MS, "forget_lease", account.name, lease.id))

    def reply(self, account: Account, rest: list[Any], value: bytes) -> None:
        """A reply that a repeated request gets again."""
        until, raw = msgspec.msgpack.decode(value)
        reply: Reply = decode_reply(raw)
        account.replies[rest[0], rest[1]] = (until, reply)
        self._desk.plan(Due(until, "reply", account.name, rest[0], rest[1]))

    def fact(self, account: Account, _rest: list[Any], value: bytes) -> None:
        """What was set at run time."""
        remember(account, decode_fact(value))


_TAKERS = {
    "counter": Restoring.counter,
    "quota": Restoring.quota,
    "spend": Restoring.spend,
    "lease": Restoring.lease,
    "reply": Restoring.reply,
    "fact": Restoring.fact,
}


def remember(account: Account, fact: Fact) -> tuple[Any, ...] | None:
    """Keep a fact; the place of its entry, or None when it is known already."""
    if isinstance(fact, GrantFact):
        place = (fact.scope, fact.limit, fact.id)
        if account.facts.get(place) == fact:
            return None
        account.facts[place] = fact
        return ("fact", account.name, "grant", *place)
    if account.amounts.get((fact.scope, fact.limit)) == fact:
        return None
    account.amounts[fact.scope, fact.limit] = fact
    return ("fact", account.name, "limit", fact.scope, fact.limit)
