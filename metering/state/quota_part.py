"""The quotas of a partition as a part of its meter fold: the same log, the same state, the same journal.

Two more inputs than the log's: requests and facts, each a log with a position of its own in this state.
What they came to is decided once: entries, replies and positions are made durable together, and only
then is anything published. A lost decision was never answered; the request is read again.

Nothing is in force before time is known, so that no limit is judged in 1970: the first record, request
or tick of a partition puts the catalog in force.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from metering.catalog.resolved import Catalog
from metering.events import UsageEvent
from metering.quota.history import HourUsed
from metering.quota.quotas import Quotas
from metering.quota.saved import is_entry
from metering.quota.wire import Fact, Reply, Request, decode_request, encode
from metering.state.fold import Chunk, Entry, Output
from metering.state.hourly_table import HourlyTable
from metering.state.measure import Measure
from metering.state.partitioning import partition_of

_CLOCK_BITS = 20  # of the sequence: that of a later millisecond is above all of an earlier one's
_Unreadable = (msgspec.MsgspecError, ValueError, RecursionError)


class QuotaRules(NamedTuple):
    """What a deployment chooses; `lag_ms` is equal on every worker, because reservations depend on it."""

    state_topic: str
    events_topic: str
    replies_topic: str
    lag_ms: int = 1_000


class _Header(msgspec.Struct, array_like=True):
    quotas: bytes
    requests: int | None  # the next offset of the requests
    facts: int  # of the facts
    has_moved: bool = False  # to another partition, where nobody was told yet


class Unreadable(NamedTuple):
    """A request that nobody can be answered."""

    offset: int
    problem: str


def header_of_child(header: bytes) -> bytes:
    """The header of a state that was split off: no request came to its partition yet."""
    if not header:
        return header
    held = msgspec.msgpack.decode(header, type=_Header)
    return msgspec.msgpack.encode(msgspec.structs.replace(held, requests=None, has_moved=True))


def account_of_entry(raw: bytes) -> str | None:
    """The account of an entry; None when it is none of quotas."""
    if not is_entry(raw):
        return None
    account: str = msgspec.json.decode(raw)[2]
    return account


def _own(topic: str, place: bytes, value: bytes | None) -> Output:
    """A record that people read by its key: what replaced us must find it under the same one."""
    return Output(topic, place, value, keeps_key=True)


class QuotaPart:
    """The quotas that a meter fold keeps; `requests` is the next offset of `quota.checks`."""

    def __init__(
        self, rules: QuotaRules, partition: int, partitions: int, epoch: int, table: HourlyTable
    ) -> None:
        self._rules = rules
        self._table = table
        self._partitions = partitions
        self._partition = partition
        self._catalog: Catalog | None = None
        self._quotas = Quotas(partition, self._owns, epoch=epoch, lag_ms=rules.lag_ms, history=self._history)
        self._post = self._quotas.post
        self._in_force = self._has_moved = False
        self._facts = 0
        self._waiting: list[tuple[int, Fact]] = []
        self._replies: list[Output] = []
        self._dirty = False
        self.requests: int | None = None
        self._unreadable: list[Unreadable] = []

    def _owns(self, account: str) -> bool:
        return partition_of(account, self._partitions) == self._partition

    def _history(self, account: str, meter: str, first: int, last: int) -> Sequence[HourUsed]:
        assert self._catalog is not None
        return self._table.used(self._catalog.members(account), meter, first, last)

    # -- inputs -----------------------------------------------------------------------------------

    def advance(self, appended: int, catalog: Catalog) -> None:
        """Let append time pass (epoch ms), under a catalog."""
        quotas = self._quotas
        quotas.advance(appended)
        # A state that is folded again from the log must be newer than what was published before.
        quotas.desk.sequence = max(quotas.desk.sequence, quotas.desk.clock << _CLOCK_BITS)
        if catalog is not self._catalog or not self._in_force:
            self._put_in_force(catalog)

    def adopt(self, catalog: Catalog) -> None:
        """Put a catalog in force at once, or when time is known."""
        if self._quotas.desk.clock:
            self._put_in_force(catalog)
        else:
            self._catalog = catalog

    def _put_in_force(self, catalog: Catalog) -> None:
        self._catalog, self._in_force = catalog, True
        self._quotas.adopt(catalog)
        if self._has_moved:
            self._has_moved, self._dirty = False, True
            self._quotas.say_again()
        waiting, self._waiting = self._waiting, []
        for offset, fact in waiting:
            self.learn(offset, fact)

    def is_watched(self, account: str) -> bool:
        """Whether events of an account change quotas."""
        return self._quotas.is_watched(account)

    @property
    def renewed(self) -> int:
        """How often that may have changed."""
        return self._quotas.renewed

    def post(self, event: UsageEvent, measures: Sequence[Measure], sign: int = 1) -> None:
        """Count an event, or take it back, before it is in the totals."""
        customer, at, post = event.customer, event.at, self._post
        lease = event.lease if sign > 0 else ""
        for found in measures:
            post(customer, found.meter.id, found.dimensions, at, sign * found.quantity, sign, lease)

    def ask(self, chunks: Sequence[Chunk], catalog: Catalog, metered: int) -> bool:
        """Answer requests that continue the position; False when some before them are missing.

        `metered` is the offset up to which usage is counted.
        """
        self._quotas.desk.offset = metered
        for chunk in chunks:
            if self.requests is not None:
                if chunk.next <= self.requests:
                    continue
                if chunk.first > self.requests:
                    return False
                chunk = chunk.after(self.requests)
            self.advance(chunk.appended, catalog)
            for offset, value in zip(chunk.offsets, chunk.values, strict=True):
                self._answer(offset, value)
            self.requests, self._dirty = chunk.next, True
        return True

    def _answer(self, offset: int, value: bytes | None) -> None:
        try:
            request: Request = decode_request(value or b"")
        except _Unreadable as error:
            self._unreadable.append(Unreadable(offset, str(error)))
            return
        reply = self._reply(request)
        place = reply.client.encode("utf-8", "surrogatepass")
        self._replies.append(_own(self._rules.replies_topic, place, encode(reply)))

    def _reply(self, request: Request) -> Reply:
        catalog = self._catalog
        assert catalog is not None, "a request lets time pass"
        is_known = catalog.customer(request.customer) is not None
        if is_known and not self._owns(catalog.account_of(request.customer)):
            stamp = self._quotas.desk.stamp(self.sequence)
            return Reply(request.request, request.client, ok=False, reason="wrong_partition", version=stamp)
        return self._quotas.ask(request)

    def take_unreadable(self) -> list[Unreadable]:
        """The requests that could not be read since the last call."""
        found, self._unreadable = self._unreadable, []
        return found

    def learn(self, offset: int, fact: Fact) -> None:
        """Take what was set at run time, once; `offset` is its place among the facts."""
        if offset < self._facts:
            return
        if not self._in_force:
            self._waiting.append((offset, fact))
            return
        assert self._catalog is not None
        self._facts, self._dirty = offset + 1, True
        if self._owns(self._catalog.account_of(fact.scope)):
            self._quotas.learn(fact)

    # -- outputs ----------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """Moved on by whatever changes a quota."""
        return self._quotas.desk.sequence

    @property
    def clock(self) -> int:
        """The append time that the fold has reached (epoch ms); 0 before the first record."""
        return self._quotas.desk.clock

    @property
    def is_urgent(self) -> bool:
        """Whether a decision has changed or a reply waits: publish at once."""
        return self._quotas.is_urgent or bool(self._replies)

    @property
    def is_dirty(self) -> bool:
        """Whether anything has changed since the last `take`."""
        desk = self._quotas.desk
        return self._dirty or bool(desk.changed or desk.events)

    def needs_time(self, now: int) -> bool:
        """Whether something waits for a time (epoch ms) that the log has not reached."""
        if self._in_force:
            due = self._quotas.desk.next_at
            return due is not None and due <= now
        catalog = self._catalog
        return catalog is not None and any(map(self._owns, catalog.limited()))

    def take(self, offset: int, upto: int) -> tuple[list[Output], list[Entry]]:
        """What has changed since the last call, with all events before `offset` in it."""
        rules, taken = self._rules, self._quotas.take(offset)
        outputs = [_own(rules.state_topic, key, value) for key, value in taken.states]
        outputs += [_own(rules.events_topic, key, value) for key, value in taken.events]
        outputs += self._replies
        self._replies, self._dirty = [], False
        return outputs, [Entry(key, value, upto) for key, value in taken.entries]

    def heartbeat(self, emitted: int) -> Output | None:
        """The partition's heartbeat, behind what was taken and published; None before time is known."""
        if not self._in_force:
            return None
        return Output(self._rules.state_topic, *self._quotas.heartbeat(emitted))

    # -- durable copies ---------------------------------------------------------------------------

    def header(self) -> bytes:
        """The small state that goes with the entries."""
        return msgspec.msgpack.encode(
            _Header(self._quotas.header(), self.requests, self._facts, self._has_moved)
        )

    def restore(self, header: bytes, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Take back a durable copy; an empty header is that of a time before quotas."""
        if not header:
            return
        found = msgspec.msgpack.decode(header, type=_Header)
        self.requests, self._facts, self._has_moved = found.requests, found.facts, found.has_moved
        others = self._quotas.restore(found.quotas, entries)
        assert not others, f"not an entry of quotas: {others[0][0]!r}"
