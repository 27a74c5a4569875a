"""The quotas of one partition: a deterministic part of the meter fold.

Its inputs, in the order of the log: `advance` (append time), `post` (usage that was counted), `ask`
(requests), `adopt` (a catalog revision), `learn` (facts). `take` gives absolute states, events and
entries of the journal. The invariant: equal inputs in equal order give equal states, wherever `take`
was called and whatever was restored between. Customers without limits cost one dictionary access.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from metering.catalog.resolved import Catalog
from metering.quota import admission, facts, publish
from metering.quota.account import Account, Watch
from metering.quota.adoption import Source, adopt, turn_grants
from metering.quota.desk import Desk, Due
from metering.quota.history import History, nothing
from metering.quota.limits import Dimensions
from metering.quota.saved import Restoring, entry_key, remember, value_of
from metering.quota.wire import Fact, GrantFact, QuotaProgress, Reply, Request, encode, progress_key
from metering.rating.cards import Price
from metering.records import key


class Taken(NamedTuple):
    """What has changed since the last call, absolute.

    `states` and `events` are (key, value) for `quota.state` and `quota.events`, a value of None is a
    tombstone; `entries` are (key, value) for the journal, None removes.
    """

    states: list[tuple[bytes, bytes | None]]
    events: list[tuple[bytes, bytes]]
    entries: list[tuple[bytes, bytes | None]]


class _Header(msgspec.Struct, array_like=True):
    sequence: int
    clock: int
    offset: int


class Quotas:
    """The state of all quotas in one partition; `owns` says which accounts live in it.

    `history` gives what was metered before a limit existed. `lag_ms` is how long a state takes to its
    readers at most; equal on every worker, because reservations leave room for usage on its way.
    """

    def __init__(
        self,
        partition: int,
        owns: Callable[[str], bool],
        *,
        epoch: int = 1,
        lag_ms: int = 1_000,
        history: History = nothing,
    ) -> None:
        self.desk = Desk(partition, epoch, lag_ms)
        self._owns = owns
        self._history = history
        self._catalog: Catalog | None = None
        self._accounts: dict[str, Account] = {}
        self._watches: dict[tuple[str, str], tuple[Account, Watch]] = {}
        self._sources: dict[str, tuple[Any, ...]] = {}
        self._restoring = Restoring(self.desk)
        self.renewed = 0  # how often the answers of `is_watched` may have changed

    # -- inputs -----------------------------------------------------------------------------------

    def adopt(self, catalog: Catalog) -> None:
        """Put a catalog revision in force: what it touches is judged at once.

        Where a fold has state but no quotas yet, `advance` to its last append time comes first.
        """
        self._catalog = catalog
        names = catalog.limited() | self._accounts.keys() | self._restoring.accounts.keys()
        for name in sorted(filter(self._owns, names)):
            self._adopt(name, catalog)

    def advance(self, appended: int) -> None:
        """Let append time pass (epoch ms): what is due happens in order; time never goes back."""
        desk = self.desk
        due = desk.next_due(appended)
        while due is not None:
            desk.clock = max(desk.clock, due.at)
            self._do(due)
            due = desk.next_due(appended)
        desk.clock = max(desk.clock, appended)

    def is_watched(self, account: str) -> bool:
        """Whether `post` does anything for the customers of an account."""
        found = self._accounts.get(account)
        return found is not None and bool(found.watches)

    def post(
        self,
        customer: str,
        meter: str,
        dimensions: Dimensions,
        at: int,
        quantity: int,
        requests: int = 1,
        lease: str = "",
    ) -> None:
        """Count usage that the meter accepted, before it is in the totals that `history` reads.

        `at` is event time (epoch ms), `quantity` in micro-units; negative, with -1 requests, for what a
        correction takes back. `lease` is what the event carries. `advance` comes first.
        """
        found = self._watches.get((customer, meter))
        if found is None:
            return
        self.desk.sequence += 1
        if lease and not found[0].is_for(lease, meter):
            lease = ""
        found[0].post(found[1], customer, dimensions, at, quantity, requests, lease)

    def ask(self, request: Request) -> Reply:
        """Answer a request; `advance` to its append time comes first."""
        catalog = self._catalog
        assert catalog is not None, "adopt a catalog first"
        account = self._accounts.get(catalog.account_of(request.customer))
        if catalog.customer(request.customer) is None:
            return admission.refusal(account, request, "unknown_customer")
        meter = getattr(request, "meter", None)
        if meter is not None and catalog.meter(meter) is None:
            return admission.refusal(account, request, "unknown_meter")
        if account is None:
            name = catalog.account_of(request.customer)
            account = self._accounts[name] = Account(self.desk, name)
        return admission.answer(account, request)

    def learn(self, fact: Fact) -> bool:
        """Take a grant or an amount that was set at run time; whether it is in force."""
        catalog = self._catalog
        assert catalog is not None, "adopt a catalog first"
        name = catalog.account_of(fact.scope)
        account = self._accounts.get(name)
        limits = {limit.id: limit for limit in catalog.timeline(fact.scope).at(self.desk.clock)}
        problem = facts.problem(fact, limits)
        if problem or account is None:
            self.desk.step()
            facts.refuse(self.desk, fact, name, problem or f"`{fact.scope}` has no limits")
            return False
        place = remember(account, fact)
        if place is None:
            return True
        self.desk.changed[place] = fact
        self.desk.step()
        if isinstance(fact, GrantFact):
            facts.tell_grant(self.desk, fact, name)
        self._sources.pop(name, None)
        self._adopt(name, catalog)
        return True

    # -- outputs ----------------------------------------------------------------------------------

    @property
    def is_urgent(self) -> bool:
        """Whether a decision has changed: publish at once; counters alone may wait 100 to 250 ms."""
        return self.desk.is_urgent

    def say_again(self) -> None:
        """Publish every limit and state anew: they have moved, and readers find them here from now on."""
        self.desk.step()
        self.desk.is_urgent = True
        for account in self._accounts.values():
            self.desk.changed["profile", account.name] = None
            for quota in account.quotas.values():
                for counter in quota.counters.values():
                    counter.sequence = self.desk.sequence
                    self.desk.changed[counter.entry] = counter

    def take(self, offset: int) -> Taken:
        """What has changed, with all events before `offset` in it."""
        desk = self.desk
        desk.offset = offset
        states: list[tuple[bytes, bytes | None]] = []
        entries: list[tuple[bytes, bytes | None]] = []
        for place, what in desk.changed.items():
            kind, name = place[0], place[1]
            if kind == "profile":
                states += publish.profiles(self._accounts[name])
                continue
            entries.append((entry_key(place), value_of(what)))
            if kind == "counter":
                states.append(publish.state(self._accounts[name], place[2:], what))
        events = [(key(e.account, e.scope), encode(e)) for e in desk.events]
        desk.changed, desk.events, desk.is_urgent = {}, [], False
        return Taken(states, events, entries)

    def heartbeat(self, emitted: int) -> tuple[bytes, bytes]:
        """The partition's progress, behind all states that were taken; `emitted` is the sender's clock."""
        desk = self.desk
        stamp = desk.stamp(desk.sequence)
        record = QuotaProgress(desk.partition, desk.offset, desk.clock, emitted, stamp, desk.lag_ms)
        return progress_key(desk.partition), encode(record)

    def header(self) -> bytes:
        """The small state that goes with the entries."""
        return msgspec.msgpack.encode(_Header(self.desk.sequence, self.desk.clock, self.desk.offset))

    def restore(self, header: bytes, entries: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Take back a header and entries, on fresh quotas; returns the entries that are others'."""
        found = msgspec.msgpack.decode(header, type=_Header)
        self.desk.sequence, self.desk.clock, self.desk.offset = found.sequence, found.clock, found.offset
        return [(raw, value) for raw, value in entries if not self._restoring.take(raw, value)]

    # -- what is due ------------------------------------------------------------------------------

    def _do(self, due: Due) -> None:
        account = self._accounts.get(due.account)
        if account is None:
            return
        if due.what == "limits":
            assert self._catalog is not None
            self._sources.pop(account.name, None)
            self._adopt(account.name, self._catalog)
        elif due.what == "grants":
            turn_grants(account, (due.scope, due.name))
        elif due.what == "lease":
            account.end_lease(due.scope)
        elif due.what == "forget_lease":
            account.forget_lease(due.scope)
        elif due.what == "reply":
            account.forget_reply((due.scope, due.name))
        else:
            self._turn_window(account, due)

    def _turn_window(self, account: Account, due: Due) -> None:
        quota = account.quotas.get((due.scope, due.name))
        if quota is None:
            return
        if due.what == "forget":
            quota.forget(due.start)
        elif quota.is_due(due.start):
            self.desk.step()
            counter = quota.counters[due.start]
            quota.judge(counter, min(self.desk.clock, counter.bounds.end - 1))

    # -- the catalog ------------------------------------------------------------------------------

    def _adopt(self, name: str, catalog: Catalog) -> None:
        members = tuple(sorted(catalog.members(name)))
        scopes = dict.fromkeys((*members, name))
        timelines = {scope: catalog.timeline(scope) for scope in scopes}
        grants = {scope: catalog.grants_of(scope) for scope in scopes}
        known = (members, timelines, grants)
        account = self._accounts.get(name)
        if account is not None and self._sources.get(name) == known:
            return
        if account is None:
            account = self._restoring.accounts.pop(name, None) or Account(self.desk, name)
            self._accounts[name] = account
        self._sources[name] = known
        self.renewed += 1
        source = Source(timelines, grants, members, self._history, self._price)
        for place in account.watches:
            del self._watches[place]
        adopt(account, source, self._restoring.quotas.pop(name, {}))
        self._watches.update({place: (account, watch) for place, watch in account.watches.items()})

    def _price(self, customer: str, meter: str, second: int) -> Price | None:
        assert self._catalog is not None
        terms = self._catalog.terms(customer)
        span = terms.agreement.at(second) if terms is not None else None
        names = span.by_meter.get(meter, ()) if span is not None else ()
        return span.prices[names[0]] if span is not None and names else None
