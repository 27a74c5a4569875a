"""The quotas of one account: a customer, or a pool with its members; posts, grants and leases.

One account lives in one partition, so one writer sees all that its limits count and hold.
"""

from collections.abc import Iterator

from metering.quota.counter import Counter
from metering.quota.desk import Desk, Due
from metering.quota.history import Spend
from metering.quota.leases import REPLY_KEPT_MS, Lease
from metering.quota.limits import ONE, Dimensions
from metering.quota.quota import Quota
from metering.quota.wire import GrantFact, LimitFact, Reply

Place = tuple[str, str]  # scope and limit


class Watch:
    """What counts the usage of one customer's meter: its limits, its pool's, its money."""

    __slots__ = ("quotas", "spend")

    def __init__(self, quotas: tuple[Quota, ...], spend: Spend | None) -> None:
        self.quotas = quotas
        self.spend = spend


class Account:
    """The state of one account."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.desk = desk
        self.name = name
        self.members: tuple[str, ...] = ()
        self.quotas: dict[Place, Quota] = {}
        self.spends: dict[str, Spend] = {}
        self.saved_spends: dict[str, tuple[int, dict[str, int]]] = {}
        self.watches: dict[tuple[str, str], Watch] = {}
        self.leases: dict[str, Lease] = {}
        self.replies: dict[tuple[str, str], tuple[int, Reply]] = {}
        self.facts: dict[tuple[str, str, str], GrantFact] = {}  # by scope, limit and id
        self.amounts: dict[Place, LimitFact] = {}  # limits that were set at run time

    def watch(self, customer: str, meter: str, dimensions: Dimensions) -> list[Quota]:
        """The limits that count usage with these dimension values."""
        found = self.watches.get((customer, meter))
        return [q for q in found.quotas if q.limit.covers(dimensions)] if found is not None else []

    # -- usage ------------------------------------------------------------------------------------

    def post(
        self,
        watch: Watch,
        customer: str,
        dimensions: Dimensions,
        at: int,
        quantity: int,
        requests: int,
        lease: str,
    ) -> None:
        """Count usage everywhere; the hold of its lease shrinks first, so nothing is counted twice."""
        covered = self._use(lease, customer, quantity, requests) if lease else (0, 0)
        spent = self._spend(watch.spend, customer, at, quantity) if watch.spend is not None else 0
        for quota in watch.quotas:
            if not quota.limit.where or quota.limit.covers(dimensions):
                quota.post(at, quantity, requests, spent, covered)

    def is_for(self, lease: str, meter: str) -> bool:
        """Whether a lease holds usage of a meter: an event may count for others as well."""
        held = self.leases.get(lease)
        return held is not None and held.meter == meter

    def _spend(self, spend: Spend, customer: str, at: int, quantity: int) -> int:
        self.desk.changed["spend", self.name, spend.meter] = spend
        return spend.add(customer, at, quantity)

    def _use(self, name: str, customer: str, quantity: int, requests: int) -> tuple[int, int]:
        lease = self.leases.get(name)
        if lease is None or lease.customer != customer:
            return 0, 0  # counted all the same; without a hold it may pass the limit, which is flagged
        units, taken = lease.take(quantity, requests)
        self._move(lease, -units, -taken)
        return units, taken

    # -- holds ------------------------------------------------------------------------------------

    def places(self, lease: Lease) -> Iterator[tuple[Quota, Counter]]:
        """Where a lease holds: in every window of its limits that it may be used in."""
        for quota in self.watch(lease.customer, lease.meter, lease.dimensions):
            for counter in quota.counters_between(lease.opened, lease.ends):
                yield quota, counter

    def _move(self, lease: Lease, units: int, requests: int) -> None:
        self.desk.changed["lease", self.name, lease.id] = lease
        for quota, counter in list(self.places(lease)):
            steps = requests * ONE if quota.limit.counts == "requests" else units
            if steps:
                quota.hold(counter, steps)

    def hold(self, lease: Lease) -> None:
        """Take up a new lease."""
        self.leases[lease.id] = lease
        self._move(lease, lease.held, lease.held_requests)
        self.desk.plan(Due(lease.ends, "lease", self.name, lease.id))

    def shrink(self, lease: Lease, units: int, requests: int) -> None:
        """Let a lease hold at most so much from now on."""
        gone, calls = max(0, lease.held - units), max(0, lease.held_requests - requests)
        lease.held -= gone
        lease.held_requests -= calls
        self._move(lease, -gone, -calls)

    def end_lease(self, name: str) -> None:
        """Free what an old lease holds; a while later it is forgotten."""
        lease = self.leases.get(name)
        if lease is None or lease.ends > self.desk.clock:
            return
        self.desk.step()
        if not lease.ended:
            lease.ended = "expired"
            self.desk.announce(
                "lease_expired",
                self.name,
                lease.id,
                account=self.name,
                scope=lease.customer,
                limit="",
                meter=lease.meter,
                subject=lease.id,
                quantity=str(lease.held),
            )
        self.shrink(lease, 0, 0)
        self.desk.plan(Due(lease.ends + REPLY_KEPT_MS, "forget_lease", self.name, name))

    def forget_lease(self, name: str) -> None:
        """Drop a lease that nobody asks for any more."""
        if self.leases.pop(name, None) is not None:
            self.desk.changed["lease", self.name, name] = None

    def forget_reply(self, place: tuple[str, str]) -> None:
        """Drop a reply that is no longer repeated."""
        if self.replies.pop(place, None) is not None:
            self.desk.changed["reply", self.name, *place] = None

    def hold_again(self) -> None:
        """Derive every counter's hold from the leases: after a restart, and when limits changed."""
        for quota in self.quotas.values():
            for counter in quota.counters.values():
                counter.held = 0
        for lease in self.leases.values():
            if lease.ends > self.desk.clock:
                for quota, counter in list(self.places(lease)):
                    is_calls = quota.limit.counts == "requests"
                    counter.held += lease.held_requests * ONE if is_calls else lease.held

    def clients(self, customer: str, meter: str, client: str) -> int:
        """How many clients hold leases of a meter, the asking one included."""
        held = {
            lease.client
            for lease in self.leases.values()
            if lease.meter == meter
            and lease.is_live
            and (lease.customer == customer or len(self.members) > 1)
        }
        return len(held | {client})
